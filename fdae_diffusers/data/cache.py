"""The images of a data set, decoded and resized once and kept in memory."""

from collections.abc import Sequence

import psutil
import torch
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from ..errors import FDAEError
from ..image_processing import pixels_to_values
from .images import ImageDataset
from .reading import one_line_errors

_ROWS_AT_A_TIME = 256


class CachedImages(torch.utils.data.Dataset):
    """The items of an `ImageDataset`, bit for bit, from memory: 3 * size² bytes for each image.

    Workers of data loaders share the memory. What is skipped, and what replaces it, is as in the data set.

    Args:
        images: The data set; every image is read here and now.
        num_workers: Processes that read.
        num_copies: Processes on this machine that do the same at the same time.
        progress: Show a progress bar, on a terminal.

    Raises:
        FDAEError: if the memory that it takes is not free, or an image cannot be read and is not to be skipped.
    """

    def __init__(self, images: ImageDataset, num_workers: int = 0, num_copies: int = 1, progress: bool = True):
        shape = (len(images), 3, images.size, images.size)
        needed = num_copies * torch.Size(shape).numel()
        free = psutil.virtual_memory().available
        if needed > free:
            raise FDAEError(
                f"keeping {len(images):,} images of {images.size}x{images.size} in memory takes {_gib(needed)}"
                f"{f' in {num_copies} processes' if num_copies > 1 else ''}, and {_gib(free)} are free: "
                "leave cache_images out, or lower max_train_samples"
            )
        # Not in shared memory, which containers limit: forked workers see this memory, and torch moves it for others.
        self.pixels = torch.empty(shape, dtype=torch.uint8)
        starts = range(0, len(images), _ROWS_AT_A_TIME)
        blocks = [range(start, min(start + _ROWS_AT_A_TIME, len(images))) for start in starts]
        # A generator of its own: reading must not draw from the one that others are in the middle of.
        generator = torch.Generator()
        loader = DataLoader(
            _Pixels(images), batch_size=None, sampler=blocks, num_workers=num_workers, generator=generator
        )
        with (
            tqdm(
                total=len(images), desc=f"cache, {_gib(needed)}", unit="image", disable=None if progress else True
            ) as progress_bar,
            one_line_errors(),
        ):
            for rows, pixels in zip(blocks, loader, strict=True):
                self.pixels[rows.start : rows.stop] = pixels
                progress_bar.update(len(rows))
        self.num_skipped = images.num_skipped

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        return self.__getitems__([row])[0]

    def __getitems__(self, rows: Sequence[int]) -> list[dict[str, torch.Tensor]]:
        """Return the items of several rows; torch's data loaders call this for a batch."""
        return [{"pixel_values": values} for values in pixels_to_values(self.pixels[list(rows)])]


class _Pixels(torch.utils.data.Dataset):
    """Blocks of rows of a data set as pixels."""

    def __init__(self, images: ImageDataset):
        self.images = images

    def __getitem__(self, rows: range) -> torch.Tensor:
        return self.images.read_pixels(rows)


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.2f} GiB"
