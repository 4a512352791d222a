"""Starting noise of the samplers."""

from collections.abc import Sequence

import torch
from diffusers.utils.torch_utils import randn_tensor

from ..errors import FDAEError

Generators = torch.Generator | Sequence[torch.Generator] | None


def starting_noise(
    shape: tuple[int, ...],
    device: torch.device,
    generator: Generators = None,
    latents: torch.Tensor | None = None,
) -> torch.Tensor:
    """Draw standard normal noise, or check what is given.

    Args:
        shape: (B, C, H, W).
        device: Where the noise goes.
        generator: Source of the noise: one for all, or a list of one per image; the global one by default.
        latents: The noise (B, C, H, W), or (1, C, H, W) for all images, instead of drawing it.

    Returns:
        (B, C, H, W), float32.

    Raises:
        FDAEError: If the generator is of another type, there is not one per image, or the latents' shape is another.
    """
    given = generator if isinstance(generator, Sequence) else [generator] * shape[0]
    if not all(one is None or isinstance(one, torch.Generator) for one in given):
        raise FDAEError(
            f"generator must be a torch.Generator or a list of them, not {generator!r}: for a seed give "
            "torch.Generator().manual_seed(seed)"
        )
    if len(given) != shape[0]:
        raise FDAEError(f"got {len(given)} generators for {shape[0]} images: give one each, or a single one")
    if latents is None:
        return randn_tensor(shape, generator=generator, device=device, dtype=torch.float32)
    if not isinstance(latents, torch.Tensor) or latents.shape not in (shape, (1, *shape[1:])):
        found = tuple(latents.shape) if isinstance(latents, torch.Tensor) else type(latents).__name__
        raise FDAEError(f"latents must have shape {shape} or {(1, *shape[1:])}, not {found}")
    return latents.to(device, torch.float32).expand(shape)
