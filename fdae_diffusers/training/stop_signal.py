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
# Several processes agree on stopping about this often, because agreeing waits for the device. Launchers kill a process
# that is still there 30 seconds after a SIGTERM, and the checkpoint takes some of them.
ASK_EVERY_SECONDS = 5.0


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
        self._interval = self._steps_left = 1  # steps between two agreements, and up to the next one
        self._asked_at = time.monotonic()

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is not threading.main_thread():
            return self  # Python delivers signals to the main thread only
        for number in SIGNALS:
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def requested(self) -> int:
        """Return the number of the signal received so far, the same on all processes, or 0; to be called every step.

        Several processes agree every few steps: as many as take :data:`ASK_EVERY_SECONDS` by the main process's clock.
        """
        if self.accelerator.num_processes == 1:
            return self._signal
        self._steps_left -= 1
        if self._steps_left:
            return 0
        told = torch.tensor([[self._signal, self._next_interval()]], device=self.accelerator.device)
        told = self.accelerator.gather(told).cpu()  # (processes, 2)
        self._interval = self._steps_left = int(told[0, 1])
        self._asked_at = time.monotonic()
        return int(told[:, 0].max())

    def _next_interval(self) -> int:
        """Steps that take the time between two agreements, at most twice as many as the last time."""
        seconds_per_step = (time.monotonic() - self._asked_at) / self._interval
        return min(2 * self._interval, max(1, int(ASK_EVERY_SECONDS / max(seconds_per_step, 1e-6))))

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
