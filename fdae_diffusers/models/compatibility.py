"""What the two networks of a model must have in common."""

from diffusers import ConfigMixin


def check_networks(unet: ConfigMixin, encoder: ConfigMixin) -> None:
    """Make sure that a generator and a CMFNet belong together.

    Raises:
        ValueError: If their sizes or the condition map's channels differ.
    """
    for key in ("condition_channels", "sample_size"):
        if unet.config[key] != encoder.config[key]:
            raise ValueError(
                f"unet and encoder do not belong together: {key} is {unet.config[key]} and {encoder.config[key]}"
            )
