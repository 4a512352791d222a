"""Read image files that people name or upload; whatever is wrong with one is told in one line."""

from pathlib import Path

from PIL import Image, UnidentifiedImageError

from .errors import FDAEError, first_line
from .image_processing import to_pixels


def read_image(
    path: str | Path, size: int, max_pixels: int | None = None, formats: tuple[str, ...] | None = None
) -> Image.Image:
    """Read an image as the model sees it: cropped to the square at its centre and resized.

    Args:
        path: The file.
        size: Height and width of the result.
        max_pixels: Refuse larger images, before they are decoded.
        formats: Names of the formats that Pillow may try; all it knows by default.

    Raises:
        FDAEError: If there is no such file, or it is no image, damaged or too large.
    """
    name = Path(path).name
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
        raise FDAEError(f"there is no file {path}") from None
    except IsADirectoryError:
        raise FDAEError(f"{path} is a folder: name the images in it") from None
    except UnidentifiedImageError:
        raise FDAEError(f"{name} is no image of a known format") from None
    except Exception as error:  # decoders raise errors of many kinds
        raise FDAEError(f"cannot read the image {name}: {first_line(error)}") from error
