"""The networks: CMFNet (image encoder E and mask decoder D_M) and the conditioned U-Net."""

from .cmfnet import CMFNet, CMFNetOutput
from .unet import FDAEUNet2DModel


def check_networks(unet: FDAEUNet2DModel, encoder: CMFNet) -> None:
    """Make sure that two networks belong together.

    Raises:
        ValueError: If their sizes or the condition map's channels differ.
    """
    for key in ("condition_channels", "sample_size"):
        if unet.config[key] != encoder.config[key]:
            raise ValueError(
                f"unet and encoder do not belong together: {key} is {unet.config[key]} and {encoder.config[key]}"
            )


__all__ = ["CMFNet", "CMFNetOutput", "FDAEUNet2DModel", "check_networks"]
