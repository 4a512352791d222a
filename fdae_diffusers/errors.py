"""Errors that are the user's to mend; scripts print them as one line, without a traceback."""


class FDAEError(ValueError):
    """Bad input: a file, flag, checkpoint, data set or image. The message says what to do."""


def first_line(error: Exception) -> str:
    """The first line of another library's error, or the name of its class if it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
