"""Images to pixel values and back: the one place where either happens, for the pipeline as for training.

`VaeImageProcessor` of diffusers does the way back. Its way in is not used: it resizes tensors to the nearest pixel
without cropping them, reads four-channel tensors as latents and drops transparency, grey depth and orientation.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args, overload

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.image_processor import VaeImageProcessor
from PIL import Image, ImageOps, UnidentifiedImageError

from .errors import FDAEError, first_line

OneOrMoreImages: TypeAlias = Image.Image | np.ndarray | torch.Tensor
ImageInput: TypeAlias = OneOrMoreImages | Sequence[OneOrMoreImages]
OutputType: TypeAlias = Literal["pil", "np", "pt", "latent"]

_RANGE_TOLERANCE = 1e-3  # float images may leave their range by this much, as rounding does; they are clipped


def to_pixel_values(images: ImageInput, size: int) -> torch.Tensor:
    """Turn images of any kind into the model's input.

    Images of another size are cropped to the square at their center and resized: PIL images with a Lanczos filter,
    arrays and tensors with a bicubic one, both without aliasing.

    Args:
        images: One image or a list of images, each

            - a PIL image of any mode; it is turned as its EXIF data say, and transparent parts become white;
            - a NumPy array (H, W), (H, W, C) or (B, H, W, C), or
            - a tensor (H, W), (C, H, W) or (B, C, H, W), with C = 1 or 3,
              uint8 in 0..255, or floats in [0, 1]. If any of the float images has a negative value, all of them are
              taken to be in [-1, 1], as diffusers takes them.
        size: Height and width of the result.

    Returns:
        Pixel values (B, 3, size, size), float32, in [-1, 1], on the device of the first image.

    Raises:
        FDAEError: if an input is none of the above, is empty, not finite or out of range.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    items: list[Any] = list(images) if isinstance(images, list | tuple) else [images]
    if not items:
        raise FDAEError("no image given: the list of images is empty")
    batches = [_to_tensor(item, size) for item in items]  # each (b, 1 or 3, H, W)
    is_signed = any(batch.is_floating_point() and bool(batch.min() < -_RANGE_TOLERANCE) for batch in batches)
    signed = [_to_signed(batch.to(batches[0].device), is_signed) for batch in batches]
    return torch.cat([_resize(batch, size).expand(-1, 3, -1, -1) for batch in signed])


def to_pixels(image: Image.Image, size: int) -> np.ndarray:
    """Return a PIL image of any mode as 8-bit RGB (size, size, 3), cropped and resized as by `to_pixel_values`.

    `pixels_to_values` then gives the values of `to_pixel_values`; only images of floats lose what 8 bits do not hold.

    Raises:
        FDAEError: if an image of floats is not finite or out of range.
    """
    if image.mode == "F":
        return ((to_pixel_values(image, size)[0].permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits of grey
        image = Image.fromarray((np.asarray(image).clip(0, 65535) / 257).round().astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode != "RGB":  # which would be copied
        image = image.convert("RGB")
    if image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
    return np.asarray(image)


def pixels_to_values(pixels: torch.Tensor) -> torch.Tensor:
    """Turn 8-bit pixels into pixel values of the same shape, float32 in [-1, 1]."""
    return pixels.float() / 127.5 - 1


def check_output_type(output_type: str) -> None:
    """Raise FDAEError unless this is an `OutputType`."""
    if output_type not in get_args(OutputType):
        raise FDAEError(f"output_type must be one of {', '.join(get_args(OutputType))}, not {output_type!r}")


@overload
def to_output(pixel_values: torch.Tensor, output_type: Literal["pil"] = "pil") -> list[Image.Image]: ...
@overload
def to_output(pixel_values: torch.Tensor, output_type: Literal["np"]) -> np.ndarray: ...
@overload
def to_output(pixel_values: torch.Tensor, output_type: Literal["pt", "latent"]) -> torch.Tensor: ...
@overload
def to_output(pixel_values: torch.Tensor, output_type: str) -> Any: ...
def to_output(pixel_values: torch.Tensor, output_type: str = "pil") -> Any:
    """Turn pixel values (B, 3, H, W) in [-1, 1] into images; values outside are clipped.

    Args:
        pixel_values: What `to_pixel_values` or a model returned.
        output_type: "pil" for a list of PIL images, "np" for an array (B, H, W, 3) or "pt" for a tensor (B, 3, H, W),
            these two in [0, 1]; "latent" for the pixel values as they are, not clipped.

    Raises:
        FDAEError: If the output type is unknown.
    """
    check_output_type(output_type)
    return VaeImageProcessor().postprocess(pixel_values.detach(), output_type=output_type)


def _to_tensor(item: OneOrMoreImages, size: int) -> torch.Tensor:
    """Return (b, 1 or 3, H, W), uint8 or floats in their own range; PIL images get the size on the way."""
    if isinstance(item, Image.Image):
        item = np.asarray(item) if item.mode == "F" else to_pixels(item, size)
    if isinstance(item, np.ndarray):
        tensor = _channels_first(item)
    elif isinstance(item, torch.Tensor):
        tensor = item
    else:
        raise FDAEError(
            f"cannot read a {type(item).__name__} as an image: give PIL images, NumPy arrays or tensors "
            "(PIL.Image.open or diffusers.utils.load_image open files and addresses)"
        )
    if tensor.ndim in (2, 3):
        tensor = tensor[(None,) * (4 - tensor.ndim)]
    _check(tensor)
    return tensor


def _channels_first(array: np.ndarray) -> torch.Tensor:
    """Return an array (..., H, W, C) as a tensor (..., C, H, W), one (H, W) as it is."""
    if array.dtype != np.uint8 and not np.issubdtype(array.dtype, np.floating):
        raise FDAEError(f"an image of {array.dtype}: give uint8 values 0..255 or floats in [0, 1]")
    if array.ndim > 2:
        array = np.moveaxis(array, -1, -3)
    return torch.from_numpy(np.array(array, np.uint8 if array.dtype == np.uint8 else np.float32, order="C"))


def _check(images: torch.Tensor) -> None:
    """Raise FDAEError unless these are images (b, 1 or 3, H, W) in one of the ranges."""
    shape = tuple(images.shape)
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise FDAEError(
            f"an array that reads as (batch, channels, height, width) = {shape}: images need 1 or 3 channels, which "
            "come last in NumPy arrays, (H, W, C) or (B, H, W, C), and before height and width in tensors"
        )
    if not images.numel():
        raise FDAEError(f"an empty image: (batch, channels, height, width) = {shape}")
    if images.dtype == torch.uint8:
        return
    if not images.is_floating_point():
        raise FDAEError(f"an image of {images.dtype}: give uint8 values 0..255 or floats in [0, 1]")
    if not images.isfinite().all():
        raise FDAEError("an image holds NaN or infinite values: replace them before")
    low, high = images.min().item(), images.max().item()
    if low < -1 - _RANGE_TOLERANCE or high > 1 + _RANGE_TOLERANCE:
        raise FDAEError(
            f"float images must be in [0, 1] or [-1, 1], but these are in [{low:g}, {high:g}]: "
            "scale them, or give uint8 for 0..255"
        )


def _to_signed(images: torch.Tensor, is_signed: bool) -> torch.Tensor:
    """Return float32 in [-1, 1]."""
    if images.dtype == torch.uint8:
        return pixels_to_values(images)
    signed = images.float() if is_signed else 2 * images.float() - 1
    return signed.clamp(-1, 1)


def _resize(images: torch.Tensor, size: int) -> torch.Tensor:
    """Crop to the square at the center and resize it: (b, c, H, W) -> (b, c, size, size), in [-1, 1]."""
    height, width = images.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = images[..., top : top + side, left : left + side]
    if side == size:
        return square
    return F.interpolate(square, (size, size), mode="bicubic", antialias=True).clamp(-1, 1)


def read_image(
    path: str | Path,
    size: int,
    max_pixels: int | None = None,
    formats: tuple[str, ...] | None = None,
    name: str | None = None,
) -> Image.Image:
    """Read an image as the model sees it: cropped to the square at its centre and resized.

    Args:
        path: The file.
        size: Height and width of the result.
        max_pixels: Refuse larger images, before they are decoded.
        formats: Names of the formats that Pillow may try; all it knows by default.
        name: What messages call the file; its path by default.

    Raises:
        FDAEError: If there is no such file, or it is no image, damaged or too large.
    """
    name = name or str(path)
    try:
        with Image.open(path, formats=formats) as image:
            if max_pixels is not None and image.width * image.height > max_pixels:
                raise FDAEError(
                    f"{name} has {image.width} x {image.height} pixels, more than {max_pixels / 1e6:.0f} million: "
                    "make it smaller"
                )
            return Image.fromarray(to_pixels(image, size))
    except FDAEError:
        raise
    except FileNotFoundError:
        raise FDAEError(f"there is no file {name}") from None
    except IsADirectoryError:
        raise FDAEError(f"{name} is a folder: name the images in it") from None
    except UnidentifiedImageError:
        hint = ": convert HEIC to JPEG or PNG" if Path(path).suffix.lower() in (".heic", ".heif") else ""
        raise FDAEError(f"{name} is no image of a known format{hint}") from None
    except Exception as error:  # decoders raise errors of many kinds
        raise FDAEError(f"cannot read the image {name}: {first_line(error)}") from error
