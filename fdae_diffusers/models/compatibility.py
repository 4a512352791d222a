"""What the two networks of a model must have in common."""

from diffusers import ConfigMixin

from ..errors import FDAEError


def check_networks(unet: ConfigMixin, encoder: ConfigMixin) -> None:
    """Make sure that a U-Net and a CMFNet belong together.

    Raises:
        FDAEError: If their sizes differ, or the channels of the condition map where both have one.
    """
    for key in ("condition_channels", "sample_size"):
        one, other = unet.config.get(key), encoder.config.get(key)
        if None not in (one, other) and one != other:
            raise FDAEError(f"unet and encoder do not belong together: {key} is {one} and {other}")
