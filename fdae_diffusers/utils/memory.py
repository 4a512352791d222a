"""Save memory in training: recompute cheap activations, split a batch, and keep freed memory for reuse."""

import ctypes
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from diffusers import ModelMixin
from torch import nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

# Costly operations, whose outputs are kept; normalisation, activation and dropout cost next to nothing.
_KEPT = [torch.ops.aten.convolution.default, torch.ops.aten.addmm.default]
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def enable_selective_checkpointing(network: ModelMixin) -> None:
    """Keep only the outputs of convolutions and linear layers, and recompute the cheap rest in the backward pass.

    Args:
        network: A U-Net or CMFNet.
    """

    def recompute(module: Callable[..., Any], *args: Any) -> Any:
        contexts = partial(create_selective_checkpoint_contexts, _KEPT)
        device = args[0].device.type
        # Without this, the recomputation would cast weights anew that the first pass took from autocast's cache.
        with torch.autocast(device, enabled=torch.is_autocast_enabled(device), cache_enabled=False):
            return checkpoint(module, *args, use_reentrant=False, context_fn=contexts)

    network.enable_gradient_checkpointing(recompute)


def enable_full_checkpointing(network: ModelMixin) -> None:
    """Keep only the inputs of the blocks and recompute all else in the backward pass: less memory, more time.

    The network's own `enable_gradient_checkpointing` without arguments does the same in a way that `torch.compile`
    cannot trace: it would split the network at every block.

    Args:
        network: A U-Net or CMFNet.
    """
    network.enable_gradient_checkpointing(lambda module, *args: checkpoint(module, *args, use_reentrant=False))


def in_micro_batches(
    function: Callable[..., tuple[torch.Tensor, ...]],
    inputs: Sequence[torch.Tensor],
    parameters: Iterable[nn.Parameter],
    size: int,
) -> tuple[torch.Tensor, ...]:
    """Sum the results of a function over micro-batches, holding the activations of one micro-batch at a time.

    Each micro-batch is differentiated as soon as it is computed, so nothing is computed twice. Layers that use the
    whole batch, such as batch normalisation, must not be part of the function.

    Args:
        function: Takes a micro-batch of each input and returns scalars.
        inputs: Tensors (B, ...).
        parameters: Parameters that the function may use.
        size: Images in a micro-batch; the last one may have fewer.

    Returns:
        The sums. Only the first one carries a gradient, to the inputs and the parameters.
    """
    sums: tuple[torch.Tensor, ...] = _InMicroBatches.apply(function, size, len(inputs), *inputs, *parameters)
    return sums


class _InMicroBatches(torch.autograd.Function):
    """One node of the autograd graph that stands for all micro-batches; their own graphs are freed in `forward`."""

    @staticmethod
    def forward(ctx: Any, function: Callable[..., Any], size: int, num_inputs: int, *tensors: torch.Tensor) -> Any:
        inputs, parameters = tensors[:num_inputs], tensors[num_inputs:]
        needed = ctx.needs_input_grad[3:]
        gradients = [torch.zeros_like(x) if need else None for x, need in zip(tensors, needed, strict=True)]
        sums: list[torch.Tensor] = []
        for start in range(0, len(inputs[0]), size):
            rows = slice(start, start + size)
            parts = [x[rows].detach().requires_grad_(need) for x, need in zip(inputs, needed, strict=False)]
            with torch.enable_grad():
                outputs = function(*parts)
            if any(needed):
                variables = [x for x, need in zip((*parts, *parameters), needed, strict=True) if need]
                targets = [x[rows] if i < num_inputs else x for i, x in enumerate(gradients) if x is not None]
                with torch.autocast(outputs[0].device.type, enabled=False):
                    added = torch.autograd.grad(outputs[0], variables, allow_unused=True)
                for target, gradient in zip(targets, added, strict=True):
                    if gradient is not None:
                        target += gradient
            outputs = [x.detach() for x in outputs]
            sums = [x + y for x, y in zip(sums, outputs, strict=True)] if sums else outputs
        ctx.save_for_backward(*gradients)
        ctx.mark_non_differentiable(*sums[1:])
        return tuple(sums)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_first: torch.Tensor, *_: torch.Tensor) -> Any:
        gradients = [None if x is None else x * of_first for x in ctx.saved_tensors]
        return None, None, None, *gradients


def keep_freed_memory() -> None:
    """Keep freed memory in this process for its next tensors, if the C library is glibc; otherwise do nothing.

    By default glibc returns every large tensor to the system and fetches it again, zeroed: up to a fifth of the time
    of a training step on a CPU. With this, the process's resident memory stays at its peak.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, -1)
