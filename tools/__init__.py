"""Commands that make and people call on the controller, as `python -m tools.NAME`."""
