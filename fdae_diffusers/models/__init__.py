"""The networks: CMFNet (image encoder E and mask decoder D_M) and the conditioned U-Net."""

from .cmfnet import CMFNet, CMFNetOutput
from .unet import FDAEUNet2DModel

__all__ = ["CMFNet", "CMFNetOutput", "FDAEUNet2DModel"]
