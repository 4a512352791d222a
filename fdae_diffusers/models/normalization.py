"""GroupNorm that stays in half precision under autocast.

CUDA's autocast runs GroupNorm in float32, and so keeps its input, its output and the input of the activation behind it
in float32 for the backward pass: most of a U-Net's memory. The kernel itself takes half precision and sums in float32.
"""

import torch
from torch import nn
from torch.nn import functional as F


class AutocastGroupNorm(nn.GroupNorm):
    """`nn.GroupNorm` whose output has the type of its input, under autocast too; the same parameters and names."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalise (B, C, ...) over groups of channels; mean and variance are summed in float32."""
        if not torch.is_autocast_enabled(input.device.type):
            return super().forward(input)
        with torch.autocast(input.device.type, enabled=False):
            weight, bias = self.weight.to(input.dtype), self.bias.to(input.dtype)  # CUDA's kernel wants one type
            return F.group_norm(input, self.num_groups, weight, bias, self.eps)


def keep_group_norm_in_half_precision(network: nn.Module) -> None:
    """Turn the GroupNorms of a network that other code built into :class:`AutocastGroupNorm`, in place."""
    for module in network.modules():
        if type(module) is nn.GroupNorm and module.affine:
            module.__class__ = AutocastGroupNorm
