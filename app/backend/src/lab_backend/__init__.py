"""The lab's backend service."""

from importlib.metadata import version

__version__ = version("lab-backend")
