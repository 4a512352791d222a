"""Exponential moving average of a model: parameters and batch statistics, on diffusers' EMAModel.

averaged = decay_t * averaged + (1 - decay_t) * current,  decay_t = min(decay, (1 + t) / (10 + t))

EMAModel averages parameters only. Without the batch statistics, the averaged weights would be saved with statistics
that belong to the current weights.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers.training_utils import EMAModel
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.distributed.tensor import DTensor

VARIANT = "ema"  # of the pipeline: diffusion_pytorch_model.ema.safetensors


class ModelAverage:
    """Exponential moving average of all floating-point parameters and buffers of a model.

    The integer counters of batch normalisation are not averaged: they do not affect the output.

    Args:
        model: The model in training, as accelerate prepared it: preparing may replace its parameters.
        decay: Weight of the past after the warm-up, in [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float):
        self.model = model
        self._is_sharded = any(isinstance(parameter, DTensor) for parameter in model.parameters())
        # foreach: all tensors in one call, which must then be of one kind.
        self._average = EMAModel(self._current().values(), decay=decay, foreach=not self._is_sharded)

    def step(self) -> None:
        """Update the average with the model's values after an optimizer step."""
        self._average.step(self._current().values())

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the averaged values into the model inside the context; the model's own are restored after it."""
        current = self._current().values()
        self._average.store(current)
        self._average.copy_to(current)
        try:
            yield
        finally:
            self._average.restore(current)

    def save(self, folder: Path, process_index: int = 0) -> None:
        """Write the average to a folder: the main process writes all, or each process its shard of the model.

        Args:
            folder: Where to.
            process_index: Number of this process.
        """
        if process_index > 0 and not self._is_sharded:
            return
        tensors = {n: _local(t) for n, t in zip(self._current(), self._average.shadow_params, strict=True)}
        metadata = {"optimization_step": str(self._average.optimization_step)}
        save_file(tensors, self._file(folder, process_index), metadata)

    def load(self, folder: Path, process_index: int = 0) -> None:
        """Read the average from a folder that :meth:`save` wrote to."""
        with safe_open(self._file(folder, process_index), "pt") as file, torch.no_grad():
            for name, averaged in zip(self._current(), self._average.shadow_params, strict=True):
                _local(averaged).copy_(file.get_tensor(name))
            self._average.optimization_step = int(file.metadata()["optimization_step"])

    def _file(self, folder: Path, process_index: int) -> Path:
        return folder / (f"ema-{process_index}.safetensors" if self._is_sharded else "ema.safetensors")

    def _current(self) -> dict[str, nn.Parameter]:
        """Parameters and floating-point buffers by name; EMAModel averages what takes a gradient."""
        tensors = dict(self.model.named_parameters())
        for name, buffer in self.model.named_buffers():
            if buffer.is_floating_point():
                tensors[name] = nn.Parameter(buffer)  # the same memory
        return tensors


def _local(tensor: torch.Tensor) -> torch.Tensor:
    """This process's part of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
