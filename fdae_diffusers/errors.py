"""Errors that are the user's to mend; scripts print them as one line, without a traceback."""


class FDAEError(ValueError):
    """Bad input: a file, flag, checkpoint, data set or image. The message says what to do."""


class RunInterrupted(KeyboardInterrupt):
    """A run stopped by a signal, in good order.

    Args:
        signal_number: The signal.
        message: What to do now.
    """

    def __init__(self, signal_number: int, message: str):
        super().__init__(message)
        self.signal_number = signal_number
        self.exit_status = 128 + signal_number


def first_line(error: Exception) -> str:
    """The first line of another library's error, or the name of its class if it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
