"""Where training gets its batches from: images read on access, from memory or from a stream."""

import logging
import os
from collections.abc import Iterator
from typing import Any, TypeAlias

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, send_to_device
from torch.utils.data import DataLoader

from ..data import CachedImages, ImageDataset, ImageStream, load_image_dataset, load_image_stream
from ..errors import FDAEError
from .config import TrainingConfig

TrainingImages: TypeAlias = ImageDataset | CachedImages | ImageStream

logger = logging.getLogger(__name__)


def load_images(config: TrainingConfig, size: int, accelerator: Accelerator) -> TrainingImages:
    """Load the images that a configuration names.

    Args:
        config: The settings.
        size: Height and width of the pixel values.
        accelerator: Tells which process this is, of how many.

    Raises:
        FDAEError: If they cannot be loaded, or are known to be fewer than a batch for each process.
    """
    source: dict[str, Any] = {
        "dataset_name": config.dataset_name,
        "train_data_dir": config.train_data_dir,
        "dataset_config_name": config.dataset_config_name,
        "split": config.split,
        "image_column": config.image_column,
        "cache_dir": config.cache_dir,
        "max_samples": config.max_train_samples,
    }
    if config.streaming:
        if config.max_train_samples is not None and accelerator.num_processes * config.dataloader_num_workers > 1:
            raise FDAEError(
                "several processes or workers share a stream by its files, not its first images: "
                "leave max_train_samples out, or use one process without dataloader_num_workers"
            )
        return ImageStream(
            load_image_stream(**source),
            size,
            config.train_batch_size,
            on_bad_image=config.on_bad_image,
            shuffle_buffer_size=config.shuffle_buffer_size,
            seed=config.seed,
            process_index=accelerator.process_index,
            num_processes=accelerator.num_processes,
            num_workers=config.dataloader_num_workers,
        )
    dataset = load_image_dataset(**source, size=size)
    images = ImageDataset(dataset, size, image_column=config.image_column, on_bad_image=config.on_bad_image)
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


def make_loader(
    config: TrainingConfig, images: TrainingImages, accelerator: Accelerator
) -> "DataLoader | StreamLoader":
    """Return the loader of the images' batches, for `accelerator.prepare`."""
    settings: dict[str, Any] = {
        "num_workers": config.dataloader_num_workers,
        # A generator of its own: reading data must not draw from the one that noise comes from.
        "generator": torch.Generator().manual_seed(config.seed),
        "pin_memory": accelerator.device.type == "cuda",
    }
    if isinstance(images, ImageStream):
        return StreamLoader(images, accelerator, **settings)
    return DataLoader(images, batch_size=config.train_batch_size, shuffle=True, drop_last=True, **settings)


class StreamLoader:
    """Batches of a stream without end, on the accelerator's device, and its position, of which checkpoints are made.

    It goes on exactly where the position was saved. The stored images of the epoch before it are read once more, but
    not decoded.

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
        """Go on from the position of this process.

        Raises:
            FDAEError: If the numbers of processes or workers, from which the order follows, were others.
        """
        saved = (len(state["positions"]), state["num_workers"])
        if saved != (self.accelerator.num_processes, self.num_workers):
            raise FDAEError(
                f"cannot resume the stream: its order is that of {saved[0]} processes with "
                f"dataloader_num_workers={saved[1]}; go on with as many"
            )
        self.epoch, self.num_batches = state["positions"][self.accelerator.process_index]


def log_skipped(images: TrainingImages) -> None:
    """Say how many bad images were left out, if any."""
    if not images.num_skipped:
        return
    if isinstance(images, ImageStream):
        logger.warning("images that cannot be read were skipped %d times", images.num_skipped)
    else:
        logger.warning("%d of %d images cannot be read and were skipped", images.num_skipped, len(images))
