"""A folder of anybody's pictures, made ready for training: found, checked, cropped or padded, and stored small."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from PIL import Image, ImageOps

from ..errors import FDAEError, first_line
from ..image_processing import to_pixels
from ..utils.files import new_folder

Fit: TypeAlias = Literal["crop", "pad"]

MIN_PICTURES = 8
LEFT_OUT_FILE = "left_out.txt"
_HEIC = (".heic", ".heif")


@dataclass(frozen=True)
class PreparedPictures:
    """What came of a folder of pictures.

    Attributes:
        folder: Where they are stored, as PNG files of one size.
        num_pictures: How many.
        left_out: Files of the original folder that are not among them, and why.
    """

    folder: Path
    num_pictures: int
    left_out: dict[str, str]


def prepare_pictures(source: str | Path, target: str | Path, size: int, fit: Fit = "crop") -> PreparedPictures:
    """Store every picture of a folder and its sub-folders as a square of one size.

    Training then reads small files instead of whole photographs at every step. HEIC is read if the package
    `pillow-heif` is installed. Hidden files and folders are not looked at.

    Args:
        source: The folder.
        target: A folder to be; one of that name is replaced. ``target/left_out.txt`` names the files left out.
        size: Height and width of the stored pictures.
        fit: "crop" cuts the square at the centre out; "pad" keeps all of a picture, with bars in its mean colour.

    Raises:
        FDAEError: If there is no such folder, or it has fewer than `MIN_PICTURES` pictures that can be read.
    """
    source, target = Path(source), Path(target)
    if not source.is_dir():
        raise FDAEError(f"there is no folder {source}")
    if target.resolve() in (source.resolve(), *source.resolve().parents):
        raise FDAEError(f"{target} would replace the pictures in {source}: name another folder")
    with suppress(ImportError):
        from pillow_heif import register_heif_opener

        register_heif_opener()
    left_out: dict[str, str] = {}
    _delete_prepared(target)
    with new_folder(target) as unfinished:
        number = 0
        for path in _files(source):
            try:
                with Image.open(path) as image:
                    _to_square(image, size, fit).save(unfinished / f"{number:06d}.png")
                number += 1
            except Exception as error:  # decoders raise errors of many kinds
                left_out[str(path.relative_to(source))] = _reason(path, error)
        if number < MIN_PICTURES:
            raise FDAEError(
                f"{source} has {number} pictures that can be read, fewer than {MIN_PICTURES}{_examples(left_out)}"
            )
        lines = [f"{name}: {reason}\n" for name, reason in left_out.items()]
        (unfinished / LEFT_OUT_FILE).write_text("".join(lines), encoding="utf-8")
    return PreparedPictures(target, number, left_out)


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def _to_square(image: Image.Image, size: int, fit: Fit) -> Image.Image:
    image.draft("RGB", (4 * size, 4 * size))  # JPEG files are decoded at a fraction of their size
    image = ImageOps.exif_transpose(image)
    if fit == "pad" and image.width != image.height:
        side = max(image.size)
        square = image.convert("RGB") if not image.has_transparency_data else _on_white(image)
        red, green, blue = np.asarray(square.resize((1, 1), Image.Resampling.BOX))[0, 0].tolist()
        image = ImageOps.pad(square, (side, side), color=(red, green, blue))
    return Image.fromarray(to_pixels(image, size))


def _on_white(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _reason(path: Path, error: Exception) -> str:
    if path.suffix.lower() in _HEIC:
        return "HEIC: pip install pillow-heif reads it, or convert it to JPEG"
    if isinstance(error, Image.UnidentifiedImageError):
        return "no picture"
    return first_line(error)


def _examples(left_out: dict[str, str]) -> str:
    named = [f"{name} ({reason})" for name, reason in list(left_out.items())[:3]]
    return f"; left out: {', '.join(named)}{', ...' if len(left_out) > 3 else ''}" if named else ""


def _delete_prepared(target: Path) -> None:
    """Delete what an earlier call stored; of other files, none."""
    if (target / LEFT_OUT_FILE).is_file():
        for path in [*target.glob("[0-9]*.png"), target / LEFT_OUT_FILE]:
            path.unlink()
