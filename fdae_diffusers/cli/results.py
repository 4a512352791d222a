"""What a command has drawn, written as asked: a labelled sheet, the pictures alone, or an animation."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import PIL.Image

from ..utils.files import whole_file

GIF_SIZE = 256  # smaller pictures are enlarged by a whole number, up to about this
FRAME_MILLISECONDS = 120
END_MILLISECONDS = 600


@dataclass(frozen=True)
class Drawing:
    """What a command has drawn.

    Attributes:
        sheet: All of it in one labelled picture.
        pictures: The results alone, at the model's size.
        goes_back: An animation of them runs to the last one and back.
    """

    sheet: PIL.Image.Image
    pictures: Sequence[PIL.Image.Image]
    goes_back: bool = False


def writes(draw: Callable[[argparse.Namespace], Drawing]) -> Callable[[argparse.Namespace, Path], None]:
    """Make a command that draws write its file, in the format that its arguments name."""

    @wraps(draw)
    def command(args: argparse.Namespace, file: Path) -> None:
        drawing = draw(args)
        if args.output_format == "gif":
            _write_animation(drawing, file)
        elif args.output_format == "images":
            _save(drawing.pictures[0], file)
            for number, picture in enumerate(drawing.pictures[1:], start=1):
                with whole_file(numbered(Path(args.output), number)) as unfinished:
                    _save(picture, unfinished)
        else:
            _save(drawing.sheet, file)

    return command


def numbered(path: Path, number: int | str) -> Path:
    """Return the name of a further picture: ``swap-1.png`` after ``swap.png``."""
    return path.with_name(f"{path.stem}-{number}{path.suffix}")


def _save(picture: PIL.Image.Image, file: Path) -> None:
    settings: dict[str, dict[str, Any]] = {
        ".webp": {"lossless": True},
        ".jpg": {"quality": 95},
        ".jpeg": {"quality": 95},
    }
    picture.convert("RGB").save(file, **settings.get(file.suffix.lower(), {}))


def _write_animation(drawing: Drawing, file: Path) -> None:
    frames = [_enlarge(picture) for picture in drawing.pictures]
    durations = [FRAME_MILLISECONDS] * len(frames)
    if drawing.goes_back:
        durations[0] = durations[-1] = END_MILLISECONDS
        frames, durations = frames + frames[-2:0:-1], durations + durations[-2:0:-1]
    else:
        durations = [END_MILLISECONDS] * len(frames)
    frames[0].save(file, format="GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)


def _enlarge(picture: PIL.Image.Image) -> PIL.Image.Image:
    factor = max(1, GIF_SIZE // max(picture.size))
    size = (picture.width * factor, picture.height * factor)
    return picture.convert("RGB").resize(size, PIL.Image.Resampling.NEAREST)
