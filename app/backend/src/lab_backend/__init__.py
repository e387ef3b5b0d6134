"""The lab's backend service."""

__version__ = "1.0.0"
