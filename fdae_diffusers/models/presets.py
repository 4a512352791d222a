"""Named configurations of the two networks.

``shapes3d``, ``mpi3d`` and ``cars3d`` are the paper's (64x64, 296 M parameters at N = 6). ``tiny-32``, ``tiny-64`` and
``patch-64`` train on a CPU: half-resolution masks and a U-Net of 16 to 32 channels. That of ``patch-64`` works on
patches of 2x2 pixels, in half the time of ``tiny-64``.
"""

from collections.abc import Mapping
from typing import Any

from ..errors import FDAEError
from . import CMFNet, FDAEUNet2DModel
from .compatibility import check_networks

_TINY_ENCODER: dict[str, Any] = {
    "content_dim": 16,
    "mask_dim": 16,
    "condition_channels": 16,
    "backbone": {
        "model_type": "resnet",
        "layer_type": "basic",
        "embedding_size": 32,
        "hidden_sizes": [32, 64, 128],
        "depths": [1, 1, 1],
    },
    "norm_num_groups": 8,
}
_TINY_UNET: dict[str, Any] = {
    "condition_channels": 16,
    "layers_per_block": 1,
    "attention_head_dim": 16,
    "norm_num_groups": 8,
    "dropout": 0.0,
}
_TINY_MASKS_64 = {"mask_decoder_channels": [48, 48, 32, 16], "mask_decoder_size": 32}  # 4x4 to 32x32

# name -> (U-Net configuration, CMFNet configuration); what is not named keeps the class's default, the paper's.
PRESETS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "shapes3d": ({}, {"num_concepts": 6}),
    "mpi3d": ({}, {"num_concepts": 6}),
    "cars3d": ({}, {"num_concepts": 2}),
    "tiny-32": (
        {
            **_TINY_UNET,
            "sample_size": 32,
            "block_out_channels": [16, 32, 32],
            "down_block_types": ["ResnetDownsampleBlock2D", "ResnetDownsampleBlock2D", "AttnDownBlock2D"],
            "up_block_types": ["AttnUpBlock2D", "ResnetUpsampleBlock2D", "ResnetUpsampleBlock2D"],
        },
        {
            **_TINY_ENCODER,
            "sample_size": 32,
            "num_concepts": 6,
            "mask_decoder_channels": [48, 48, 32],  # 4x4 to 16x16
            "mask_decoder_size": 16,
        },
    ),
    "tiny-64": (
        {
            **_TINY_UNET,
            "sample_size": 64,
            "block_out_channels": [16, 32, 32, 32],
            "down_block_types": [*["ResnetDownsampleBlock2D"] * 3, "AttnDownBlock2D"],
            "up_block_types": ["AttnUpBlock2D", *["ResnetUpsampleBlock2D"] * 3],
        },
        {
            **_TINY_ENCODER,
            "sample_size": 64,
            "num_concepts": 6,
            **_TINY_MASKS_64,
        },
    ),
    "patch-64": (
        {
            **_TINY_UNET,
            "sample_size": 64,
            "patch_size": 2,
            "block_out_channels": [32, 32, 32],
            "down_block_types": ["DownBlock2D", "DownBlock2D", "AttnDownBlock2D"],
            "up_block_types": ["AttnUpBlock2D", "UpBlock2D", "UpBlock2D"],
            "downsample_type": "conv",
            "upsample_type": "conv",
        },
        {**_TINY_ENCODER, "sample_size": 64, "num_concepts": 6, **_TINY_MASKS_64},
    ),
}


def build_models(
    preset: str, unet: Mapping[str, Any] | None = None, encoder: Mapping[str, Any] | None = None
) -> tuple[FDAEUNet2DModel, CMFNet]:
    """Build the two networks of a preset with random weights.

    Args:
        preset: A key of ``PRESETS``.
        unet: Arguments of :class:`~fdae_diffusers.FDAEUNet2DModel` that override the preset's.
        encoder: Arguments of :class:`~fdae_diffusers.CMFNet` that override the preset's.

    Raises:
        FDAEError: If the preset or an argument does not exist, or the networks cannot be built as asked.
    """
    if preset not in PRESETS:
        raise FDAEError(f"unknown preset {preset!r}: use one of {', '.join(PRESETS)}")
    unet_config, encoder_config = PRESETS[preset]
    try:
        networks = (
            FDAEUNet2DModel(**{**unet_config, **(unet or {})}),
            CMFNet(**{**encoder_config, **(encoder or {})}),
        )
        check_networks(*networks)
    except (TypeError, ValueError) as error:
        raise FDAEError(f"cannot build the networks of preset {preset!r}: {error}") from error
    return networks
