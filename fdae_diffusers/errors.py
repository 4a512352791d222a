"""Errors caused by user input. Scripts print the message on one line, without a traceback."""

from collections.abc import Iterator
from contextlib import contextmanager


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


@contextmanager
def user_errors(what: str, *types: type[Exception]) -> Iterator[None]:
    """Turn errors of other libraries that the user's input causes into an `FDAEError` of one line.

    Args:
        what: What cannot be done, the start of the message: "cannot load the model 'x'".
        types: The errors to turn; a `FDAEError` passes as it is.

    Raises:
        FDAEError: "``what``: first line of the error".
    """
    try:
        yield
    except FDAEError:
        raise
    except types as error:
        raise FDAEError(f"{what}: {first_line(error)}") from error
