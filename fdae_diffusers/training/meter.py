"""Mean losses between two lines of the log."""

import math

import torch
from accelerate import Accelerator

from ..objective import FDAEObjectiveOutput
from .faults import diverged


class LossMeter:
    """Mean of the loss and its terms over the batches since the last reading, and over the processes.

    The loss is called ``loss``, its terms ``loss/NAME``. They are summed in float32 under every precision.
    """

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self._sums: dict[str, torch.Tensor] = {}
        self._count = 0

    def add(self, output: FDAEObjectiveOutput) -> None:
        """Add the losses of a batch, without waiting for the device."""
        values = {"loss": output.loss, **{f"loss/{name}": term for name, term in output.terms.items()}}
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0) + value.detach().float()
        self._count += 1

    def pop_means(self, step: int) -> dict[str, float]:
        """Return the means by name, and start anew.

        Raises:
            FDAEError: If a mean is not finite.
        """
        sums = torch.stack(list(self._sums.values()))
        values = self.accelerator.reduce(sums / self._count, reduction="mean").tolist()
        means = dict(zip(self._sums, values, strict=True))
        self._sums, self._count = {}, 0
        if not all(math.isfinite(value) for value in values):
            raise diverged("the loss is no longer a number", step, f" ({means})")
        return means
