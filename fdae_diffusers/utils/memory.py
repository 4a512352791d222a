"""Memory: how many activations are held for the backward pass, and what becomes of memory that is freed."""

import ctypes
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from diffusers import ModelMixin
from torch import nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

# Outputs that cost much to compute; what lies between them (normalisation, activation, dropout) costs next to nothing.
_KEPT = [torch.ops.aten.convolution.default, torch.ops.aten.addmm.default]
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def enable_selective_checkpointing(network: ModelMixin) -> None:
    """Keep the outputs of convolutions and linear layers alone, and recompute the cheap rest for the backward pass.

    Args:
        network: A U-Net or CMFNet. Its own `enable_gradient_checkpointing` recomputes everything instead, which takes
            less memory still, and more time.
    """

    def recompute(module: Callable[..., Any], *args: Any) -> Any:
        contexts = partial(create_selective_checkpoint_contexts, _KEPT)
        device = args[0].device.type
        # A weight that autocast had cast for an earlier call would be cast again when this one is repeated.
        with torch.autocast(device, enabled=torch.is_autocast_enabled(device), cache_enabled=False):
            return checkpoint(module, *args, use_reentrant=False, context_fn=contexts)

    network.enable_gradient_checkpointing(recompute)


def in_micro_batches(
    function: Callable[..., tuple[torch.Tensor, ...]],
    inputs: Sequence[torch.Tensor],
    parameters: Iterable[nn.Parameter],
    size: int,
) -> tuple[torch.Tensor, ...]:
    """Sum what a function returns for the parts of a batch, holding the activations of one part at a time.

    The gradient of a part is taken as soon as the part is computed, so nothing is computed twice. Layers that look at
    the batch as a whole, as batch normalisation does, have to stay outside.

    Args:
        function: Takes a part of each input and returns scalars.
        inputs: Tensors (B, ...).
        parameters: What may learn from them; the function need not use all.
        size: Images in a part; the last part may have fewer.

    Returns:
        The sums. Inputs and parameters get the gradient of the first one alone.
    """
    sums: tuple[torch.Tensor, ...] = _InMicroBatches.apply(function, size, len(inputs), *inputs, *parameters)
    return sums


class _InMicroBatches(torch.autograd.Function):
    """One node of the graph in place of the parts' own graphs, which are gone when it is made."""

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
    """Let this process keep freed memory for its next tensors, where the C library is glibc; elsewhere do nothing.

    glibc otherwise returns every large tensor to the system and gets it anew, zeroed: up to a fifth of the time of a
    training step on a CPU. The process's resident memory then stays at its peak.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, -1)
