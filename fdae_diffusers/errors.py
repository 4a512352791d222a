"""Errors that are the user's to mend; scripts print them as one line, without a traceback."""


class FDAEError(ValueError):
    """Bad input: a file, flag, checkpoint, data set or image. The message says what to do."""
