"""Read what a data set stores for an image, and say what cannot be read."""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal, TypeAlias

import fsspec
import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from ..errors import FDAEError, first_line
from ..image_processing import to_pixels

OnBadImage: TypeAlias = Literal["raise", "skip"]

NUM_NAMED = 5  # bad images that are named; after them, only their number is kept
_MAX_WORKERS = 256

logger = logging.getLogger(__name__)


class ImageReader:
    """Turns stored images into pixels, and raises or counts those that cannot be read.

    The count is shared with the workers of data loaders, also if those are gone.

    Args:
        size: Height and width of the pixels.
        on_bad_image: "raise" an `FDAEError` that names the image, or "skip" it: log the first few and count all.
    """

    def __init__(self, size: int, on_bad_image: OnBadImage = "raise"):
        if on_bad_image not in ("raise", "skip"):
            raise ValueError(f'on_bad_image must be "raise" or "skip", got {on_bad_image!r}')
        self.size = size
        self.on_bad_image = on_bad_image
        # A slot for each worker, so that none overwrites another one's count.
        self._num_skipped = torch.zeros(_MAX_WORKERS, dtype=torch.int64).share_memory_()
        self._warned_of_frames = torch.zeros(1, dtype=torch.bool).share_memory_()

    @property
    def num_skipped(self) -> int:
        """How many times an image was skipped."""
        return int(self._num_skipped.sum())

    def read(self, value: Any, name: str) -> np.ndarray | None:
        """Return the pixels (size, size, 3), uint8, of a PIL image or of {"bytes": ..., "path": ...}.

        Args:
            value: What the data set stores.
            name: What to call it, besides its path, in a message: "the image of row 3".

        Returns:
            The pixels; none if the image is bad and to be skipped.

        Raises:
            FDAEError: if the image is bad, unless it is to be skipped, or cannot be downloaded.
        """
        path = value.get("path") if isinstance(value, dict) else None
        name = f"{name} ({path})" if path else name
        if path and value["bytes"] is None and "://" in path:  # a failing network makes no image a bad one
            value = {"bytes": _download(path), "path": path}
        try:
            image = value if isinstance(value, Image.Image) else _decode(value)
            pixels = to_pixels(image, self.size)
        except Exception as error:  # decoders raise errors of many kinds
            if self.on_bad_image == "raise":
                raise FDAEError(
                    f"cannot read {name}: {first_line(error)}; on_bad_image=skip leaves such images out"
                ) from error
            self._count(name, error)
            return None
        self._warn_of_frames(image, name)
        return pixels

    def _count(self, name: str, error: Exception) -> None:
        worker = torch.utils.data.get_worker_info()
        self._num_skipped[worker.id % _MAX_WORKERS if worker else 0] += 1
        if self.num_skipped <= NUM_NAMED:
            logger.warning("skipping %s, which cannot be read: %s", name, first_line(error))
        if self.num_skipped == NUM_NAMED:
            logger.warning("further images that cannot be read are counted, not named")

    def _warn_of_frames(self, image: Image.Image, name: str) -> None:
        with suppress(Exception):  # looking for a second frame may fail; the first one has been read
            if not self._warned_of_frames and getattr(image, "is_animated", False):
                self._warned_of_frames.fill_(True)
                logger.warning("%s has several frames: of such images, the first one is used", name)


def _download(path: str) -> bytes:
    try:
        with fsspec.open(path, "rb") as file:
            return file.read()
    except Exception as error:  # of the many kinds that file systems raise
        raise FDAEError(f"cannot download {path}: {first_line(error)}") from error


def _decode(value: dict[str, Any] | None) -> Image.Image:
    """Decode the stored bytes, or the file at the stored path; of several frames, the first."""
    if value is None or (value["bytes"] is None and value["path"] is None):
        raise FDAEError("the data set holds none")
    data = value["bytes"]
    if data is None:
        with open(value["path"], "rb") as file:
            data = file.read()
    if not data:
        raise FDAEError("it is empty")
    try:
        image = Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        raise FDAEError("it is no image of a known format") from None
    image.load()
    return image


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Raise the `FDAEError` of a data loader's worker, which arrives with the worker's traceback, in one line."""
    try:
        yield
    except FDAEError as error:
        last_line = str(error).strip().splitlines()[-1]
        raise FDAEError(last_line.removeprefix(f"{FDAEError.__module__}.{FDAEError.__name__}: ")) from None
