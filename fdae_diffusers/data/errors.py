"""Errors of the data package."""

from ..errors import FDAEError


class DataError(FDAEError):
    """A data set or an image cannot be used; the message says why and what to do."""
