"""The command line `fdae`."""

from .main import main

__all__ = ["main"]
