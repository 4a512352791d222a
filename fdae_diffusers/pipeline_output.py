"""What FDAEPipeline returns."""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers.utils import BaseOutput

from .codes import FDAECodes

Images = Any  # what output_type says: a list of PIL images, an array (B, H, W, 3) or a tensor (B, 3, H, W)


@dataclass
class FDAEPipelineOutput(BaseOutput):
    """Images decoded from codes.

    Args:
        images: A list of B PIL images, a numpy array (B, H, W, 3) or a tensor (B, 3, H, W), both in [0, 1].
        masks: (B, N, H, W) in [0, 1], summing to one over N.
        codes: The codes that the images were decoded from.
    """

    images: Images
    masks: torch.Tensor
    codes: FDAECodes
