"""Where training gets its batches from: images read on access, from memory or from a stream."""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, send_to_device
from torch.utils.data import DataLoader

from ..data import CachedImages, ImageDataset, ImageStream, load_image_dataset, load_image_stream, sample_rows
from ..errors import FDAEError
from .config import DataConfig

TrainingImages: TypeAlias = ImageDataset | CachedImages | ImageStream

logger = logging.getLogger(__name__)


def load_images(config: DataConfig, size: int, accelerator: Accelerator, seed: int = 0) -> TrainingImages:
    """Load the images that a configuration names.

    Args:
        config: What to load, and how.
        size: Height and width of the pixel values.
        accelerator: Tells which process this is, of how many.
        seed: Seed of a stream's order.

    Raises:
        FDAEError: If they cannot be loaded, or are known to be fewer than a batch for each process.
    """
    if config.streaming:
        if config.max_train_samples is not None and accelerator.num_processes * config.dataloader_num_workers > 1:
            raise FDAEError(
                "several processes or workers share a stream by its files, not its first images: "
                "leave max_train_samples out, or use one process without dataloader_num_workers"
            )
        return ImageStream(
            load_image_stream(**_source(config)),
            size,
            config.train_batch_size,
            on_bad_image=config.on_bad_image,
            shuffle_buffer_size=config.shuffle_buffer_size,
            seed=seed,
            process_index=accelerator.process_index,
            num_processes=accelerator.num_processes,
            num_workers=config.dataloader_num_workers,
        )
    images = _load_dataset(config, size)
    if len(images) < config.train_batch_size * accelerator.num_processes:
        raise FDAEError(
            f"the data set has {len(images)} images, fewer than a batch for each of {accelerator.num_processes} "
            f"processes: lower train_batch_size={config.train_batch_size}"
        )
    if config.cache_images:
        return CachedImages(
            images,
            num_workers=config.dataloader_num_workers,
            num_copies=int(os.environ.get("LOCAL_WORLD_SIZE", 1)),
            progress=accelerator.is_local_main_process,
        )
    return images


def _source(config: DataConfig, **changes: Any) -> dict[str, Any]:
    """Arguments that name the data, for `load_image_dataset` and `load_image_stream`."""
    return {
        "dataset_name": config.dataset_name,
        "train_data_dir": config.train_data_dir,
        "dataset_config_name": config.dataset_config_name,
        "split": config.split,
        "image_column": config.image_column,
        "cache_dir": config.cache_dir,
        "max_samples": config.max_train_samples,
        **changes,
    }


def _load_dataset(config: DataConfig, size: int, **changes: Any) -> ImageDataset:
    dataset = load_image_dataset(**_source(config, **changes), size=size)
    return ImageDataset(dataset, size, image_column=config.image_column, on_bad_image=config.on_bad_image)


def make_loader(
    config: DataConfig, images: TrainingImages, accelerator: Accelerator, seed: int = 0
) -> "DataLoader | StreamLoader":
    """Return the loader of the images' batches, for `accelerator.prepare`; the seed is that of their order."""
    settings: dict[str, Any] = {
        "num_workers": config.dataloader_num_workers,
        # A generator of its own: reading data must not draw from the one that noise comes from.
        "generator": torch.Generator().manual_seed(seed),
        "pin_memory": accelerator.device.type == "cuda",
    }
    if isinstance(images, ImageStream):
        return StreamLoader(images, accelerator, **settings)
    return DataLoader(images, batch_size=config.train_batch_size, shuffle=True, drop_last=True, **settings)


class StreamLoader:
    """Endless batches of a stream on the accelerator's device, with a position that checkpoints save.

    A resumed run continues exactly at the saved position. The stored images of the epoch before it are read once
    more, but not decoded.

    Args:
        images: The stream.
        accelerator: Names the device and the process.
        num_workers: Workers that read and decode.
        **settings: Further arguments of the data loader.
    """

    def __init__(self, images: ImageStream, accelerator: Accelerator, num_workers: int = 0, **settings: Any):
        self.images = images
        self.accelerator = accelerator
        self.num_workers = num_workers
        self.epoch = 0
        self.num_batches = 0  # of this epoch, with those that had no readable image
        self._loader: DataLoader = DataLoader(images, batch_size=None, num_workers=num_workers, **settings)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        while True:
            self.images.set_epoch(self.epoch)
            self.images.num_passed = num_passed = self.num_batches
            number, any_readable = 0, num_passed > 0
            for number, batch in enumerate(self._loader, start=1):
                if number <= num_passed:
                    continue
                self.num_batches = number
                if batch is not None:
                    any_readable = True
                    yield send_to_device(batch, self.accelerator.device, non_blocking=True)
            if not number:
                raise FDAEError(
                    f"the stream holds fewer images than a batch of {self.images.batch_size} for each of "
                    f"{self.accelerator.num_processes} processes with {self.num_workers} workers: "
                    "lower train_batch_size or dataloader_num_workers"
                )
            if not any_readable:
                raise FDAEError("none of the images can be read")
            self.epoch, self.num_batches = self.epoch + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """Return the positions of all processes, each of which has to call this."""
        return {"num_workers": self.num_workers, "positions": gather_object([(self.epoch, self.num_batches)])}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue at the saved position of this process.

        Raises:
            FDAEError: If the number of processes or workers differs: the order of the images depends on both.
        """
        saved = (len(state["positions"]), state["num_workers"])
        if saved != (self.accelerator.num_processes, self.num_workers):
            raise FDAEError(
                f"cannot resume the stream: its order is that of {saved[0]} processes with "
                f"dataloader_num_workers={saved[1]}; resume with as many"
            )
        self.epoch, self.num_batches = state["positions"][self.accelerator.process_index]


def pick_unseen_images(
    config: DataConfig, images: TrainingImages, num_seen: int, num_images: int, seed: int = 0
) -> tuple[torch.Tensor, bool]:
    """Pick images to measure a model on that its training has not seen, where the data set has such.

    They are taken from the first of these that is not empty: the images that the first epoch has not reached, the rows
    that ``max_train_samples`` left out, and the splits "test" and "validation" of the data set.

    Args:
        config: What was loaded, and how.
        images: What :func:`load_images` returned for it.
        num_seen: Images that all processes together have trained on, repetitions included.
        num_images: How many to pick.
        seed: Seed of the order of the images, as in training.

    Returns:
        (n, 3, S, S) in [-1, 1] with n <= ``num_images``, and whether they are unseen. Otherwise they are the first
        images of the first epoch.
    """
    if isinstance(images, ImageStream):
        return images.first_values(num_images), False
    # The order of the first epoch is that of accelerate's SeedableRandomSampler.
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed)).tolist()
    seen = _stack(images, order[: min(num_seen, num_images)])
    if rest := order[num_seen : num_seen + num_images]:
        with suppress(FDAEError):  # an image that cannot be read must not cost the trained model
            return _stack(images, rest), True
    for unseen, rows in _other_images(config, size=seen.shape[-1]):
        with suppress(FDAEError):
            chosen = np.random.default_rng(0).permutation(len(rows))[:num_images]
            return _stack(unseen, [rows[i] for i in chosen]), True
    return seen, False


def _other_images(config: DataConfig, size: int) -> Iterator[tuple[ImageDataset, Sequence[int]]]:
    """Data sets from the same source as the training images, with the rows that are none of them."""
    if config.max_train_samples is not None:
        whole = _load_dataset(config, size, max_samples=None)
        if config.max_train_samples < len(whole):
            trained_on = sample_rows(len(whole), config.max_train_samples)
            yield whole, np.setdiff1d(np.arange(len(whole)), trained_on).tolist()
    if config.split.isidentifier():  # not "train+test", for example
        for split in ("test", "validation"):
            if split != config.split:
                with suppress(FDAEError):  # there is no such split
                    other = _load_dataset(config, size, split=split, max_samples=None)
                    yield other, range(len(other))


def _stack(images: ImageDataset | CachedImages, rows: Sequence[int]) -> torch.Tensor:
    return torch.stack([images[int(row)]["pixel_values"] for row in rows])


def log_skipped(images: TrainingImages) -> None:
    """Say how many bad images were left out, if any."""
    if not images.num_skipped:
        return
    if isinstance(images, ImageStream):
        logger.warning("images that cannot be read were skipped %d times", images.num_skipped)
    else:
        logger.warning("%d of %d images cannot be read and were skipped", images.num_skipped, len(images))
