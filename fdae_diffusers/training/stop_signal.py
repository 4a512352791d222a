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
# The terminal and torchrun both send a Ctrl-C to each process: the second one within this time is the same one.
REPEATED_WITHIN_SECONDS = 1.0
# Several processes agree on stopping every so many steps, because agreeing waits for the device.
ASK_EVERY_STEPS = 10


class Interruption:
    """Catches Ctrl-C and SIGTERM inside the context, so that the run can stop in order; a second signal stops at once.

    Args:
        accelerator: All of its processes stop together, whichever of them got the signal.
    """

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self._signal = 0
        self._time = 0.0
        self._pid = os.getpid()
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is not threading.main_thread():
            return self  # Python delivers signals to the main thread only
        for number in SIGNALS:
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def requested(self, step: int) -> int:
        """Return the number of the signal received so far, the same on all processes, or 0."""
        if self.accelerator.num_processes == 1:
            return self._signal
        if step % ASK_EVERY_STEPS:
            return 0
        noticed = torch.tensor([self._signal], device=self.accelerator.device)
        return int(self.accelerator.gather(noticed).max())

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:  # a worker that reads images; its parent ends it
            return
        if not self._signal:
            self._signal, self._time = number, time.monotonic()
            if self.accelerator.is_main_process:
                print("\nstopping after this step, with a checkpoint; again to stop at once", file=sys.stderr)
        elif time.monotonic() - self._time > REPEATED_WITHIN_SECONDS:
            signal.signal(number, self._previous[number])  # type: ignore[arg-type]
            signal.raise_signal(number)
