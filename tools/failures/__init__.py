"""`make failures`: a lab is broken on purpose while a client uses it, and what the client saw is counted.

``faults`` is the list of what is broken, ``scene`` what a fault may do, ``client`` sends requests, ``watch`` looks,
``measure`` breaks and judges, ``report`` writes it down.
"""
