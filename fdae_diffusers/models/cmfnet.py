"""CMFNet, the content-mask factorization network (FDAE paper, section 3.2, eq. 2-6).

pixel_values -> E -> content codes f^c, mask codes f^m
masks          M = softmax_n D_M(f^m_n)
condition map  C = sum_n M_n * adjust_n(f^c_n)
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..codes import FDAECodes, check_codes
from ..errors import FDAEError
from .image_encoder import ImageBackbone
from .mask_decoder import MaskDecoder, MaskDecoderNorm


@dataclass
class CMFNetOutput(BaseOutput):
    """Everything CMFNet knows about a batch of images.

    Args:
        content_codes: (B, N, d_c), what each concept is.
        mask_codes: (B, N, d_m), where it is; ``None`` for the single-concept baseline.
        masks: (B, N, H, W) in [0, 1], summing to one over N.
        condition_map: (B, d_F, H, W), what the U-Net adds to its first feature map; ``None`` if a subclass of CMFNet
            conditions the U-Net otherwise.
        condition: What the U-Net is called with besides sample and timestep, tensors by keyword: see
            :meth:`CMFNet.condition`.
    """

    content_codes: torch.Tensor
    # What may be None has a default: distributed wrappers take outputs apart and put them together without it.
    mask_codes: torch.Tensor | None = field(default=None, kw_only=True)
    masks: torch.Tensor
    condition_map: torch.Tensor | None = field(default=None, kw_only=True)
    condition: dict[str, torch.Tensor]


class CMFNet(ModelMixin, ConfigMixin):
    """Content-mask factorization network: image encoder E, two linear heads, dimension adjustment, mask decoder D_M.

    With ``num_concepts=1`` it is the DiffAE baseline of the paper's ablation: one content code, no mask code, no D_M,
    and a mask of ones.

    To condition a U-Net otherwise, by cross-attention on codes for example, override :meth:`condition` in a subclass.

    Args:
        sample_size: Height and width of images, masks and condition map.
        num_concepts: N.
        content_dim: Size d_c of a content code.
        mask_dim: Size d_m of a mask code.
        condition_channels: Channels d_F of the condition map.
        backbone: Image encoder E, see :class:`~fdae_diffusers.models.image_encoder.ImageBackbone`.
        mask_decoder_channels: Widths of D_M, see :class:`~fdae_diffusers.models.mask_decoder.MaskDecoder`.
        mask_decoder_size: Height and width D_M works up to, ``sample_size`` by default.
        mask_decoder_norm: ``"released"`` (as the published weights) or ``"paper"``.
        norm_num_groups: Groups of D_M's GroupNorms.
        ground_bias: Added to the mask logits of the first concept, the ground: a pixel belongs to it unless another
            concept claims the pixel. Zero in the paper.

    Raises:
        FDAEError: If ``num_concepts`` or a size is below one, or D_M or the backbone cannot be built as asked.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        sample_size: int = 64,
        num_concepts: int = 6,
        content_dim: int = 80,
        mask_dim: int = 80,
        condition_channels: int = 80,
        backbone: str | dict[str, Any] = "resnet18",
        mask_decoder_channels: tuple[int, ...] = (384, 384, 256, 128, 64),
        mask_decoder_size: int | None = None,
        mask_decoder_norm: MaskDecoderNorm = "released",
        norm_num_groups: int = 32,
        ground_bias: float = 0.0,
    ):
        super().__init__()
        sizes = {
            "sample_size": sample_size,
            "num_concepts": num_concepts,
            "content_dim": content_dim,
            "mask_dim": mask_dim,
            "condition_channels": condition_channels,
        }
        for name, value in sizes.items():
            if value < 1:
                raise FDAEError(f"{name} must be at least 1, not {value}")

        self.image_encoder = ImageBackbone(backbone, sample_size)
        self.content_head = nn.Linear(self.image_encoder.feature_dim, num_concepts * content_dim)
        # The paper's "MLP" is one linear layer in the released code.
        self.adjust = nn.ModuleList(nn.Linear(content_dim, condition_channels) for _ in range(num_concepts))
        self.mask_head: nn.Linear | None = None
        self.mask_decoder: MaskDecoder | None = None
        if num_concepts > 1:
            self.mask_head = nn.Linear(self.image_encoder.feature_dim, num_concepts * mask_dim)
            self.mask_decoder = MaskDecoder(
                mask_dim=mask_dim,
                sample_size=sample_size,
                block_out_channels=tuple(mask_decoder_channels),
                mask_size=mask_decoder_size or sample_size,
                norm_num_groups=norm_num_groups,
                norm=mask_decoder_norm,
            )

    def start_with_shared_masks(self, std: float = 0.5) -> None:
        """Give every image the same random masks to start with, which training then learns to tell apart.

        Masks that depend on the image from the first step on, as in the released code, can settle on its colours: one
        concept for the red floors, another for the blue ones. Concepts that begin as places do not.

        Args:
            std: Standard deviation of the mask codes that all images start with.
        """
        if self.mask_head is not None:
            nn.init.zeros_(self.mask_head.weight)
            nn.init.normal_(self.mask_head.bias, std=std)

    @apply_forward_hook
    def encode(self, pixel_values: torch.Tensor) -> FDAECodes:
        """Encode images (B, 3, H, W) in [-1, 1] to :class:`~fdae_diffusers.FDAECodes`: E and the two heads only."""
        features = self.image_encoder(pixel_values)  # (B, feature_dim)
        num_concepts = self.config.num_concepts
        content_codes = self.content_head(features).unflatten(1, (num_concepts, -1))  # (B, N, d_c)
        if self.mask_head is None:
            return FDAECodes(content_codes)
        return FDAECodes(content_codes, self.mask_head(features).unflatten(1, (num_concepts, -1)))

    @apply_forward_hook
    def decode_masks(self, codes: FDAECodes) -> torch.Tensor:
        """Decode masks (B, N, H, W), a softmax over the N concepts at every pixel (eq. 4); ones if N is 1.

        Raises:
            FDAEError: If these are no codes, or those of another model.
        """
        self._check_codes(check_codes(codes))
        if self.mask_decoder is None or codes.mask is None:
            size = self.config.sample_size
            return codes.content.new_ones(len(codes), 1, size, size)
        logits = self.mask_decoder(codes.mask)  # (B, N, H, W)
        if self.config.ground_bias:
            logits = torch.cat([logits[:, :1] + self.config.ground_bias, logits[:, 1:]], dim=1)
        return logits.softmax(dim=1)

    @apply_forward_hook
    def condition_map(self, content_codes: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """Spread content codes (B, N, d_c) over masks (B, N, H, W): condition map (B, d_F, H, W), eq. 5-6."""
        adjusted = [adjust(code) for adjust, code in zip(self.adjust, content_codes.unbind(1), strict=True)]
        return torch.einsum("bnhw,bnf->bfhw", masks, torch.stack(adjusted, dim=1))

    @apply_forward_hook
    def condition(self, codes: FDAECodes, masks: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """Compute what the U-Net is conditioned on: the pipeline and the objective call ``unet(x, t, **condition)``.

        Args:
            codes: Codes of B images.
            masks: Their masks (B, N, H, W), if :meth:`decode_masks` has decoded them already.

        Returns:
            Tensors (B, ...) by the U-Net's keyword; here ``{"condition_map": (B, d_F, H, W)}``.
        """
        masks = self.decode_masks(codes) if masks is None else masks
        return {"condition_map": self.condition_map(codes.content, masks)}

    def _set_gradient_checkpointing(
        self, enable: bool = True, gradient_checkpointing_func: Callable[..., Any] = checkpoint
    ) -> None:
        """Recompute D_M alone: going through E twice would count twice in its batch normalisation."""
        if self.mask_decoder is not None:
            self.mask_decoder.gradient_checkpointing = enable
            self.mask_decoder._gradient_checkpointing_func = gradient_checkpointing_func

    def _check_codes(self, codes: FDAECodes) -> None:
        config = self.config
        expected = {"content": (config.num_concepts, config.content_dim)}
        if self.mask_decoder is not None:
            expected["mask"] = (config.num_concepts, config.mask_dim)
        given = {"content": tuple(codes.content.shape[1:])}
        if codes.mask is not None:
            given["mask"] = tuple(codes.mask.shape[1:])
        if given != expected:
            raise FDAEError(f"codes of another model: this one has (N, d) = {expected}, these have {given}")

    def forward(self, pixel_values: torch.Tensor, return_dict: bool = True) -> CMFNetOutput | tuple:
        """Factorize images (B, 3, H, W) in [-1, 1] into codes, masks and condition.

        Args:
            pixel_values: The images.
            return_dict: Return an output object instead of the tuple of its fields.
        """
        codes = self.encode(pixel_values)
        masks = self.decode_masks(codes)
        condition = self.condition(codes, masks)
        condition_map = condition.get("condition_map")
        if not return_dict:
            return codes.content, codes.mask, masks, condition_map, condition
        return CMFNetOutput(
            content_codes=codes.content,
            mask_codes=codes.mask,
            masks=masks,
            condition_map=condition_map,
            condition=condition,
        )
