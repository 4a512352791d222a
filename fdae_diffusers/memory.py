"""Memory: which activations are kept for the backward pass, and what the process does with memory it has freed."""

import ctypes
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from diffusers import ModelMixin
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
