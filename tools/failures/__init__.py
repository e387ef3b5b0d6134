"""`make failures`: a lab is broken on purpose while a client uses it, and what the client saw is counted.

``client`` sends requests, ``measure`` breaks and looks, ``faults`` is the list of what is broken, ``report`` writes it
down.
"""
