"""Mask decoder D_M: one mask code to one map of mask logits (FDAE paper, supplement, table of D_M).

    Linear -> reshape -> GroupNorm -> [Upsample x2 -> Conv 3x3 -> GroupNorm -> SiLU] x L -> Conv 3x3 -> 1 channel

The released code differs from the paper's table: it has a GroupNorm before *every* upsampling, not only before the
first one. ``norm="released"`` (the published weights) and ``"paper"`` name the two.

Upsampling and convolution are computed as one transposed convolution, with the same weights and the same result.
"""

import itertools
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ..errors import FDAEError
from .normalization import AutocastGroupNorm

MaskDecoderNorm = Literal["released", "paper"]


class UpsampleConv2d(nn.Conv2d):
    """Nearest upsampling x2, then a 3x3 convolution without bias, at the cost of a 2x2 one.

    A transposed convolution of stride 2 whose 4x4 kernel sums the taps that meet the same input pixel: 2.25 times
    fewer multiplications, and the upsampled map is never stored.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels, kernel_size=3, padding=1, bias=False)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map (B, in_channels, h, w) to (B, out_channels, 2h, 2w)."""
        # Each input pixel stands at two neighbouring places of the upsampled map, in both directions.
        places = ((0, 1, 0, 1), (1, 0, 0, 1), (0, 1, 1, 0), (1, 0, 1, 0))
        kernel = torch.stack([F.pad(self.weight, place) for place in places]).sum(0)  # (out, in, 4, 4)
        # A transposed convolution lays its kernel down where a convolution reads with it: mirrored.
        return F.conv_transpose2d(hidden_states, kernel.flip(2, 3).transpose(0, 1), stride=2, padding=1)


class MaskDecoderBlock(nn.Module):
    """One doubling of the resolution: (GroupNorm), nearest upsampling, 3x3 convolution without bias, GroupNorm, SiLU.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        norm_num_groups: Groups of both GroupNorms.
        pre_norm: Normalise before the upsampling too.
    """

    def __init__(self, in_channels: int, out_channels: int, norm_num_groups: int, pre_norm: bool):
        super().__init__()
        self.norm_in = AutocastGroupNorm(norm_num_groups, in_channels) if pre_norm else nn.Identity()
        self.conv = UpsampleConv2d(in_channels, out_channels)
        self.norm_out = AutocastGroupNorm(norm_num_groups, out_channels)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map (B, in_channels, h, w) to (B, out_channels, 2h, 2w)."""
        return F.silu(self.norm_out(self.conv(self.norm_in(hidden_states))))


class MaskDecoder(nn.Module):
    """Decode mask codes to mask logits; shared by the concepts.

    Args:
        mask_dim: Size d_m of a mask code.
        sample_size: Height and width of the logits.
        block_out_channels: Channels of the first map, then of each block. Every block doubles the resolution, so the
            first map is ``mask_size / 2**(len(block_out_channels) - 1)`` wide: 4 at paper scale.
        mask_size: Height and width the blocks end at. If smaller than ``sample_size``, the logits are interpolated
            bilinearly, which saves the costliest layers.
        norm_num_groups: Groups of the GroupNorms.
        norm: ``"released"`` (before every upsampling) or ``"paper"`` (before the first only).

    Raises:
        FDAEError: If ``mask_size`` cannot be reached by doublings or channels are not a multiple of the groups.
    """

    def __init__(
        self,
        mask_dim: int,
        sample_size: int,
        block_out_channels: tuple[int, ...],
        mask_size: int,
        norm_num_groups: int,
        norm: MaskDecoderNorm = "released",
    ):
        super().__init__()
        scale = 2 ** (len(block_out_channels) - 1)
        if mask_size % scale or mask_size > sample_size:
            raise FDAEError(
                f"mask_size={mask_size} must be a multiple of {scale} ({len(block_out_channels) - 1} doublings) and "
                f"not larger than sample_size={sample_size}; change the size or mask_decoder_channels"
            )
        if any(channels % norm_num_groups for channels in block_out_channels):
            raise FDAEError(
                f"mask_decoder_channels={block_out_channels} must be multiples of {norm_num_groups} (norm_num_groups)"
            )
        if norm not in ("released", "paper"):
            raise FDAEError(f'norm must be "released" or "paper", not {norm!r}')

        self.first_shape = (block_out_channels[0], mask_size // scale, mask_size // scale)
        self.sample_size = sample_size
        self.linear = nn.Linear(mask_dim, block_out_channels[0] * (mask_size // scale) ** 2)
        self.blocks = nn.ModuleList(
            MaskDecoderBlock(in_channels, out_channels, norm_num_groups, i == 0 or norm == "released")
            for i, (in_channels, out_channels) in enumerate(itertools.pairwise(block_out_channels))
        )
        self.conv_out = nn.Conv2d(block_out_channels[-1], 1, kernel_size=3, padding=1)
        # As in the blocks of diffusers; CMFNet.enable_gradient_checkpointing sets both.
        self.gradient_checkpointing = False
        self._gradient_checkpointing_func: Callable[..., Any] = checkpoint

    def forward(self, mask_codes: torch.Tensor) -> torch.Tensor:
        """Map mask codes (B, N, d_m) to mask logits (B, N, sample_size, sample_size)."""
        if self.gradient_checkpointing and torch.is_grad_enabled():
            # One concept at a time: the activations of a single one are held at once.
            logits = [self._gradient_checkpointing_func(self._decode, codes) for codes in mask_codes.unbind(1)]
            return torch.stack(logits, dim=1)  # (B, N, H, W)
        return self._decode(mask_codes.flatten(0, 1)).unflatten(0, mask_codes.shape[:2])  # (B, N, H, W)

    def _decode(self, mask_codes: torch.Tensor) -> torch.Tensor:
        """Map mask codes (b, d_m) to logits (b, sample_size, sample_size)."""
        hidden_states = self.linear(mask_codes).unflatten(1, self.first_shape)  # (b, C, h, w)
        for block in self.blocks:
            hidden_states = block(hidden_states)
        logits = self.conv_out(hidden_states)  # (b, 1, mask_size, mask_size)
        if logits.shape[-1] != self.sample_size:
            logits = F.interpolate(logits, size=self.sample_size, mode="bilinear", align_corners=False)
        return logits.squeeze(1)
