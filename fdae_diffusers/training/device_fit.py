"""Whether a device can train the networks, found out before memory is taken; and what is trained on what."""

import os
import weakref
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import torch
from accelerate import Accelerator, init_empty_weights
from accelerate.utils import DistributedType
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..errors import FDAEError
from .building import build_networks, build_objective
from .config import TrainingConfig

LARGE = 50_000_000  # parameters; smaller networks train anywhere, and are not looked at closer
# float32 on the device: the weight, and the two moments of RAdam.
_BYTES_PER_PARAMETER = 3 * 4
_CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")


def check_device(
    config: TrainingConfig, accelerator: Accelerator, networks: Iterable[nn.Module] | None = None
) -> None:
    """Refuse networks that the device would train for months, or that cannot fit its memory.

    Args:
        config: The settings.
        accelerator: Names device, precision and processes.
        networks: Networks that are already built, instead of those of the settings; of these, only the weights count.

    Raises:
        FDAEError: If networks of over 50 M parameters would be trained on a CPU without ``allow_slow_cpu``, or need
            more memory than the device has.
    """
    built = networks is not None
    if networks is None:
        with init_empty_weights():
            networks = build_networks(config)
    num_parameters = count_parameters(networks)
    if num_parameters <= LARGE:
        return
    if accelerator.device.type == "cpu" and not config.allow_slow_cpu:
        raise FDAEError(
            f"no GPU was found, and {num_parameters / 1e6:.0f} M parameters would train for months on a CPU: take "
            "preset=tiny-64 or tiny-32, check why torch.cuda.is_available() is False, or set allow_slow_cpu"
        )
    available = device_memory(accelerator.device)
    if available is None:
        return
    needed = training_bytes(config, accelerator, num_parameters, 0 if built else activation_bytes(config, accelerator))
    if needed > available:
        raise FDAEError(
            f"training {num_parameters / 1e6:.0f} M parameters on batches of {config.train_batch_size} images takes "
            f"at least {needed / 2**30:.1f} GiB, but {accelerator.device} has {available / 2**30:.1f} GiB: set "
            "mixed_precision=bf16, gradient_checkpointing=selective or micro_batch_size, or take preset=tiny-64"
        )


def training_bytes(config: TrainingConfig, accelerator: Accelerator, num_parameters: int, activations: int) -> int:
    """Return the least memory of a process that trains: weights, moments, EMA, and gradients or activations.

    The activations go as the gradients come, so only the larger of them counts. Libraries and buffers come on top.
    """
    per_parameter, gradients = _BYTES_PER_PARAMETER + (4 if config.use_ema else 0), 4 * num_parameters
    kept = per_parameter * num_parameters
    if accelerator.distributed_type == DistributedType.FSDP:
        kept, gradients = kept // accelerator.num_processes, gradients // accelerator.num_processes
    return kept + max(gradients, activations)


def activation_bytes(config: TrainingConfig, accelerator: Accelerator) -> int:
    """Return the most bytes held at once in the forward pass of a batch, beside the weights.

    They are counted on tensors without data, in the precision of the run. What `torch.compile` saves is not known, so
    compiled networks count as none.
    """
    if config.torch_compile:
        return 0
    half = accelerator.mixed_precision in ("fp16", "bf16")
    with FakeTensorMode():
        alone = replace(config, gather_batch_statistics=False)
        objective = build_objective(alone, *build_networks(config))
        size = objective.unet.config.sample_size
        pixel_values = torch.zeros(config.train_batch_size, objective.unet.config.in_channels, size, size)
        with _LiveBytes() as live, torch.autocast("cpu", torch.bfloat16, enabled=half):
            objective(pixel_values)
    return live.peak


class _LiveBytes(TorchDispatchMode):
    """The most bytes of new tensors that were alive at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = self._now = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(output):
            if isinstance(tensor, torch.Tensor):
                self._add(tensor.untyped_storage())
        return output

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self._now += storage.nbytes()
            self.peak = max(self.peak, self._now)
            weakref.finalize(storage, self._free, key)

    def _free(self, key: int) -> None:
        self._now -= self._sizes.pop(key)


def device_memory(device: torch.device) -> int | None:
    """Return the bytes that a process may use on a device, or ``None`` where that cannot be told."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    if device.type != "cpu":
        return None
    total = psutil.virtual_memory().total
    with suppress(OSError, ValueError):  # no container, or no limit: "max"
        total = min(total, int(_CONTAINER_LIMIT.read_text()))
    return total // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def count_parameters(networks: Iterable[nn.Module]) -> int:
    """Return the number of parameters of networks together."""
    return sum(parameter.numel() for network in networks for parameter in network.parameters())


def describe_run(config: TrainingConfig, accelerator: Accelerator, num_parameters: int) -> str:
    """Return one line: device, precision, processes, images per step and parameters."""
    device = str(accelerator.device)
    precision = {"no": "float32", "fp16": "float16", "bf16": "bfloat16"}[accelerator.mixed_precision]
    if accelerator.device.type == "cuda":
        device = torch.cuda.get_device_name(accelerator.device)
        precision += " and TF32" if config.enable_tf32 else ""
    processes = accelerator.num_processes
    images = config.train_batch_size * config.gradient_accumulation_steps * processes
    engine = "" if processes == 1 else f" ({accelerator.distributed_type.value})"
    return (
        f"training {num_parameters:,} parameters on {device} in {precision}, "
        f"{processes} process{'es' if processes > 1 else ''}{engine}, {images} images per step"
    )
