"""Files and folders that are written whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import FDAEError


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Give a file to write, which replaces ``path`` only when it is complete; after an error nothing is left of it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Of this process alone: others may write the same file.
    unfinished = path.with_name(f".unfinished-{os.getpid()}-{path.name}")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def output_file(output: str | None, model: str, name: str) -> Path:
    """Where a script writes what it finds out about a model: as told, else to a local model's folder, else here.

    Raises:
        FDAEError: If that is a folder.
    """
    path = Path(output) if output else (Path(model) if Path(model).is_dir() else Path()) / name
    if path.is_dir():
        raise FDAEError(f"the output {path} is a folder: name a file in it")
    return path


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Give a folder to fill, which takes its name only when it is complete; after an error nothing is left of it.

    Args:
        path: The folder to be; its parents are created.

    Raises:
        FDAEError: If there is something by that name already, other than an empty folder.
        OSError: If that cannot be replaced, as a disk's own folder, or the new one cannot be made beside it.
    """
    path = Path(path).resolve()  # what a link points to is filled, beside which there is room
    if path.exists():
        if not path.is_dir() or any(path.iterdir()):
            raise FDAEError(f"{path} exists already: delete it, or choose another name")
        path.rmdir()
    unfinished = path.with_name(f"{path.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
