"""Data sets that are read as a stream: nothing is downloaded before it is needed, and nothing is kept."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import datasets
import numpy as np
import torch
from datasets.distributed import split_dataset_by_node

from ..errors import FDAEError, first_line
from ..image_processing import pixels_to_values
from .images import choose_image_column, columns_of_images, makes_images
from .reading import ImageReader, OnBadImage
from .sources import load_from_source

_MIXED_SHARDS = 10  # `IterableDataset.shuffle` fills its buffer from so many shards at a time

ItemT = TypeVar("ItemT")


def load_image_stream(
    dataset_name: str | None = None,
    train_data_dir: str | None = None,
    *,
    dataset_config_name: str | None = None,
    split: str = "train",
    image_column: str | None = None,
    cache_dir: str | None = None,
    max_samples: int | None = None,
) -> datasets.IterableDataset:
    """Open a data set as a stream of one column, its images, which are not decoded.

    Args:
        dataset_name: Data set on the Hugging Face Hub, or a local folder laid out like one.
        train_data_dir: Folder of image files; give this or `dataset_name`.
        dataset_config_name: Configuration of the data set, where it has several.
        split: Split to read, whole.
        image_column: Column of the images; found if it is not named.
        cache_dir: Where `datasets` keeps what it downloads.
        max_samples: Take this many images: the first ones.

    Raises:
        FDAEError: with one line that says what is wrong and what to do.
    """
    if makes_images(dataset_name):
        raise FDAEError(f"{dataset_name} is made in memory: leave streaming out")
    if "[" in split:
        raise FDAEError(f"a stream is read from its beginning: give max_train_samples instead of split={split!r}")
    stream = load_from_source(
        dataset_name, train_data_dir, name=dataset_config_name, split=split, cache_dir=cache_dir, streaming=True
    )
    if stream.features is None:
        raise FDAEError("the columns of this data set are not known before it is read: leave streaming out")
    image_column = choose_image_column(list(stream.features), columns_of_images(stream.features), image_column)
    stream = stream.select_columns([image_column]).cast_column(image_column, datasets.Image(decode=False))
    return stream if max_samples is None else stream.take(max_samples)


class ImageStream(torch.utils.data.IterableDataset):
    """A process's share of a stream, shuffled, in batches {"pixel_values": (batch_size, 3, size, size)}.

    All processes and all workers of their data loaders together read each image once in an epoch; a batch that stays
    incomplete is dropped, one in each worker. The order follows from the seed, the epoch, and the numbers of processes
    and workers.

    A bad image that is to be skipped is replaced by the next readable one of its batch. In the place of a batch that
    has none, as of the first `num_passed` ones, comes None: so their number does not depend on what can be read.

    Args:
        stream: What `load_image_stream` returned.
        size: Height and width of the pixel values.
        batch_size: Images in a batch.
        on_bad_image: "raise" an `FDAEError` that names an image which cannot be read, or "skip" it.
        shuffle_buffer_size: Images, not decoded, among which the order is random; shards are shuffled besides.
        seed: Seed of the order.
        process_index: Number of this process.
        num_processes: How many share the stream.
        num_workers: Workers of the data loader that will be used.

    Attributes:
        num_passed: Batches of the epoch that are passed over without being decoded.
    """

    def __init__(
        self,
        stream: datasets.IterableDataset,
        size: int,
        batch_size: int,
        on_bad_image: OnBadImage = "raise",
        shuffle_buffer_size: int = 1000,
        seed: int = 0,
        process_index: int = 0,
        num_processes: int = 1,
        num_workers: int = 0,
    ):
        if stream.num_shards < max(_MIXED_SHARDS, num_processes * num_workers):
            stream = stream.reshard()  # by row groups; of many shards, that would open all files
        (self.image_column,) = stream.column_names
        stream = stream.shuffle(seed=seed, buffer_size=shuffle_buffer_size)
        self.stream = split_dataset_by_node(stream, process_index, num_processes)
        self.reader = ImageReader(size, on_bad_image)
        self.size = size
        self.batch_size = batch_size
        self.num_passed = 0

    @property
    def num_skipped(self) -> int:
        """How many times an image was skipped so far."""
        return self.reader.num_skipped

    def set_epoch(self, epoch: int) -> None:
        """Give the images in the order of an epoch from now on."""
        self.stream.set_epoch(epoch)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor] | None]:
        worker = torch.utils.data.get_worker_info()
        index, num_workers = (worker.id, worker.num_workers) if worker else (0, 1)
        # Data loaders take a batch from each worker in turn.
        num_passed = len(range(index, self.num_passed, num_workers))
        for number, values in enumerate(_told_clearly(self._stored_batches(index, num_workers))):
            pixels = self._read(values) if number >= num_passed else None
            yield None if pixels is None else {"pixel_values": pixels_to_values(pixels)}

    def first_values(self, num_images: int) -> torch.Tensor:
        """Return the first readable images of the first epoch, (n, 3, size, size), or fewer if there are fewer."""
        self.set_epoch(0)
        images = (
            self.reader.read(row[self.image_column], "an image of the stream") for row in _told_clearly(self.stream)
        )
        readable = list(itertools.islice((image for image in images if image is not None), num_images))
        if not readable:
            raise FDAEError("none of the images can be read")
        return pixels_to_values(_stack(readable))

    def _stored_batches(self, worker: int, num_workers: int) -> Iterator[list[Any]]:
        """Yield a worker's batches of stored images."""
        if self.stream.num_shards >= num_workers:  # each worker reads shards of its own, which `datasets` sees to
            stored = (row[self.image_column] for row in self.stream)
            while len(batch := list(itertools.islice(stored, self.batch_size))) == self.batch_size:
                yield batch
        else:  # each reads all and decodes some: `iter` does not look at workers
            batches = self.stream.iter(self.batch_size, drop_last_batch=True)
            yield from (batch[self.image_column] for batch in itertools.islice(batches, worker, None, num_workers))

    def _read(self, values: list[Any]) -> torch.Tensor | None:
        """Return the images of a batch, (batch_size, 3, size, size) uint8; None if none can be read."""
        images = [self.reader.read(value, "an image of the stream") for value in values]
        replacement = next((image for image in images if image is not None), None)
        for position in reversed(range(len(images))):  # from behind, so that the next one is known
            if images[position] is None:
                images[position] = replacement
            replacement = images[position]
        return None if replacement is None else _stack(images)


def _told_clearly(items: Iterable[ItemT]) -> Iterator[ItemT]:
    """Yield items; whatever goes wrong with the files or the network on the way is told in one line."""
    try:
        yield from items
    except Exception as error:  # of the many kinds that file systems and formats raise
        raise FDAEError(
            f"cannot read on in the stream: {first_line(error)}; resume_from_checkpoint goes on after a checkpoint"
        ) from error


def _stack(images: list[Any]) -> torch.Tensor:
    """Stack images (size, size, 3) to (n, 3, size, size)."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
