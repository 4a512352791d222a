"""The literal networks that the other benchmarks compare with: each line of the paper as one line of code."""

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor
from torch.nn import functional as F

from fdae_diffusers import CMFNet, FDAEUNet2DModel
from fdae_diffusers.models.mask_decoder import UpsampleConv2d


class LiteralUpsampleConv2d(UpsampleConv2d):
    """Upsample, then convolve, as D_M's table says."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:  # noqa: D102
        upsampled = F.interpolate(hidden_states, scale_factor=2.0, mode="nearest")
        return F.conv2d(upsampled, self.weight, padding=1)


class LiteralCMFNet(CMFNet):
    """Equations 5 and 6 with one map per concept."""

    def condition_map(self, content_codes: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:  # noqa: D102
        adjusted = torch.stack([adjust(content_codes[:, n]) for n, adjust in enumerate(self.adjust)], dim=1)
        maps = adjusted[..., None, None].expand(-1, -1, -1, *masks.shape[-2:])  # (B, N, d_F, H, W)
        return (maps * masks.unsqueeze(2)).sum(1)


def make_literal(unet: FDAEUNet2DModel, encoder: CMFNet, fused_attention: bool = False) -> None:
    """Let both networks compute the same with the literal versions.

    Args:
        unet: The U-Net. Attention by its matrix, softmax(Q K^T / sqrt(d)) V, is what the released one does on a CPU.
        encoder: CMFNet.
        fused_attention: Leave attention to torch, which never stores the matrix.
    """
    encoder.__class__ = LiteralCMFNet
    for module in encoder.modules():
        if isinstance(module, UpsampleConv2d):
            module.__class__ = LiteralUpsampleConv2d
    for module in unet.modules():
        if isinstance(module, Attention) and not fused_attention:
            module.set_processor(AttnProcessor())
