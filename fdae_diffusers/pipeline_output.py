"""What FDAEPipeline returns."""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers.utils import BaseOutput

from .codes import FDAECodes

Images = Any  # what output_type says: a list of B PIL images, an array (B, H, W, 3) or a tensor (B, 3, H, W)


@dataclass
class FDAEPipelineOutput(BaseOutput):
    """Images decoded from codes.

    Args:
        images: As ``output_type`` says: a list of B PIL images; an array (B, H, W, 3) or a tensor (B, 3, H, W) in
            [0, 1]; or the pixel values (B, 3, H, W) that the sampler ended with.
        masks: (B, N, H, W) in [0, 1], summing to one over N.
        codes: The codes that the images were decoded from.
    """

    images: Images
    masks: torch.Tensor
    codes: FDAECodes
