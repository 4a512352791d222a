"""Image encoder E: any vision backbone of ``transformers``, reduced to one feature vector per image."""

from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, PretrainedConfig

from ..errors import FDAEError

# ResNet-18 and ResNet-50 as in He et al. (2016), trained from scratch.
BACKBONES: dict[str, dict[str, Any]] = {
    "resnet18": {
        "model_type": "resnet",
        "layer_type": "basic",
        "depths": [2, 2, 2, 2],
        "hidden_sizes": [64, 128, 256, 512],
    },
    "resnet50": {
        "model_type": "resnet",
        "layer_type": "bottleneck",
        "depths": [3, 4, 6, 3],
        "hidden_sizes": [256, 512, 1024, 2048],
    },
}


class ImageBackbone(nn.Module):
    """A ``transformers`` vision model with random weights, and its pooled features.

    Args:
        backbone: A name (``"resnet18"``, ``"resnet50"``) or the configuration of any vision model of ``transformers``
            as a dictionary with its ``model_type``, for example ``{"model_type": "vit", "hidden_size": 192}``.
        image_size: Given to backbones that fix their input size, unless the dictionary names another.

    Raises:
        FDAEError: If the name or model type is unknown, or the model has no known feature size.
    """

    def __init__(self, backbone: str | dict[str, Any], image_size: int):
        super().__init__()
        config = backbone_config(backbone, image_size)
        self.model = AutoModel.from_config(config)
        for name, parameter in self.model.named_parameters():
            if name.endswith("mask_token"):  # DINOv2 and DINOv3 use it in their own training only
                parameter.requires_grad_(False)
        self.feature_dim = _feature_dim(config)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Map images (B, 3, H, W) in [-1, 1] to features (B, feature_dim)."""
        output = self.model(pixel_values)
        pooled = getattr(output, "pooler_output", None)
        if pooled is not None:
            return pooled.flatten(1)  # (B, feature_dim)
        features = output.last_hidden_state
        return features.mean((2, 3)) if features.ndim == 4 else features.mean(1)


def backbone_config(backbone: str | dict[str, Any], image_size: int) -> PretrainedConfig:
    """Return the ``transformers`` configuration of a named or described backbone (see :class:`ImageBackbone`)."""
    if isinstance(backbone, str):
        if backbone not in BACKBONES:
            raise FDAEError(
                f"unknown backbone {backbone!r}: use one of {', '.join(BACKBONES)} or a configuration dict"
            )
        backbone = BACKBONES[backbone]
    if "model_type" not in backbone:
        raise FDAEError('a backbone configuration needs "model_type", for example {"model_type": "resnet", ...}')
    config = AutoConfig.for_model(**backbone)
    if hasattr(config, "image_size") and "image_size" not in backbone:
        config.image_size = image_size
    return config


def _feature_dim(config: PretrainedConfig) -> int:
    """Size of the pooled features: the last stage's width, or the width of a plain transformer."""
    if getattr(config, "hidden_sizes", None):
        return config.hidden_sizes[-1]
    if getattr(config, "hidden_size", None):
        return config.hidden_size
    raise FDAEError(f"cannot tell the feature size of a {config.model_type!r} backbone: it has no hidden_size(s)")
