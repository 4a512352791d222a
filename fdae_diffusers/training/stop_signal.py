"""Ctrl-C and SIGTERM end a run after the current step, with a checkpoint."""

import os
import signal
import sys
import threading
import time
from types import FrameType

import torch
from accelerate import Accelerator

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# torchrun hands a Ctrl-C on to processes that the terminal has sent it to already: not a second wish.
REPEATED_WITHIN_SECONDS = 1.0
# Steps between the questions of several processes to each other: one costs a wait for the device.
ASK_EVERY_STEPS = 10


class Interruption:
    """A request to stop, noticed as a signal while the context is entered; a second signal stops at once.

    Args:
        accelerator: Its processes stop together, when any of them was asked to.
    """

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self._signal = 0
        self._time = 0.0
        self._pid = os.getpid()
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is not threading.main_thread():
            return self  # Python hands signals to the main thread alone
        for number in SIGNALS:
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def requested(self, step: int) -> int:
        """Number of the signal that asked to stop, the same on all processes, or 0."""
        if self.accelerator.num_processes == 1:
            return self._signal
        if step % ASK_EVERY_STEPS:
            return 0
        noticed = torch.tensor([self._signal], device=self.accelerator.device)
        return int(self.accelerator.gather(noticed).max())

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:  # a process that reads images: its parent will end it
            return
        if not self._signal:
            self._signal, self._time = number, time.monotonic()
            if self.accelerator.is_main_process:
                print("\nstopping after this step, with a checkpoint; again to stop at once", file=sys.stderr)
        elif time.monotonic() - self._time > REPEATED_WITHIN_SECONDS:
            signal.signal(number, self._previous[number])  # type: ignore[arg-type]
            signal.raise_signal(number)
