"""Files that a command reads: folders and patterns become their files, and what is missing is told at once.

Imports nothing heavy, so that a mistake is answered before the work begins.
"""

import argparse
from glob import glob, has_magic
from pathlib import Path

from ..errors import FDAEError

EXAMPLE = "-"  # stands for an example picture of the model
# HEIC is listed to be named when it is read: pictures in a folder are never left out in silence.
PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".heic", ".heif"}


class InputPath(str):
    """Path of a file or folder that a command reads, which has to exist before the work begins."""

    __slots__ = ()


class InputFile(InputPath):
    """Path of a file that a command reads, or `EXAMPLE`."""

    __slots__ = ()


def expand_inputs(args: argparse.Namespace) -> None:
    """Replace folders and patterns among the input files by the files that they stand for.

    Raises:
        FDAEError: For the first file that is not there, a folder without pictures, a pattern that fits nothing, or a
            folder where one picture is asked for.
    """
    for name, value in vars(args).items():
        if isinstance(value, list) and any(isinstance(item, InputFile) for item in value):
            setattr(args, name, [InputFile(path) for item in value for path in _expand(item)])
        elif isinstance(value, InputFile):
            _check(value)
        else:
            for path in value if isinstance(value, list) else [value]:
                if isinstance(path, InputPath) and not Path(path).exists():
                    raise FDAEError(f"there is no file {path}")


def input_files(args: argparse.Namespace) -> list[InputPath]:
    """Return all input files among the arguments."""
    values = [item for value in vars(args).values() for item in (value if isinstance(value, list) else [value])]
    return [value for value in values if isinstance(value, InputPath)]


def _expand(path: str) -> list[str]:
    if Path(path).is_dir():
        found = [str(file) for file in sorted(Path(path).iterdir()) if _is_picture(file)]
        if not found:
            raise FDAEError(f"the folder {path} holds no pictures")
        return found
    if has_magic(path) and not Path(path).exists():  # where the shell does not expand it
        found = sorted(file for file in glob(path, recursive=True) if Path(file).is_file())
        if not found:
            raise FDAEError(f"no file fits {path}")
        return found
    _check(path)
    return [path]


def _check(path: str) -> None:
    if path == EXAMPLE:
        return
    if not Path(path).exists():
        raise FDAEError(f"there is no file {path}")
    if Path(path).is_dir():
        raise FDAEError(f"{path} is a folder: name one image in it")


def _is_picture(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in PICTURES and not path.name.startswith(".")
