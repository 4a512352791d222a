#!/usr/bin/env python
"""How many images a second each way of reading data gives, beside a plain loop with PIL.

    python benchmarks/input_pipeline.py

The same images are written to a temporary folder as PNG files and as parquet, and read from there in batches, in
random order, by what training reads with. The baseline is `for path in paths: PIL.Image.open, resize, to tensor`. A
ratio compares images per CPU-second, which other work on the machine disturbs least. (In the wall time of a parquet
stream are five seconds for which `datasets` waits at its end.)
"""

import itertools
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import datasets
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from fdae_diffusers.data import (
    RENDERED_SHAPES3D,
    CachedImages,
    ImageDataset,
    ImageStream,
    load_image_dataset,
    load_image_stream,
)
from fdae_diffusers.errors import FDAEError
from fdae_diffusers.utils.arguments import parse_config, run_script

BASELINE = "PIL loop (baseline)"
NUM_SHARDS = 4

Batches = Iterator[dict[str, torch.Tensor]]


@dataclass
class BenchmarkConfig:
    """Settings of the benchmark."""

    dataset_name: str = field(default=RENDERED_SHAPES3D, metadata={"help": "Data set whose images are written."})
    num_images: int = field(default=4_096, metadata={"help": "Images, drawn at random."})
    size: int = field(default=64, metadata={"help": "Height and width of the pixel values."})
    source_size: int = field(default=64, metadata={"help": "Height and width of the images that are written."})
    batch_size: int = field(default=32, metadata={"help": "Images in a batch."})
    num_workers: int = field(default=0, metadata={"help": "Workers of the data loaders; the baseline has none."})
    repeats: int = field(default=5, metadata={"help": "Medians are over so many epochs."})

    def __post_init__(self):
        if not 1 <= self.batch_size <= self.num_images:
            raise FDAEError("batch_size must be at least 1 and at most num_images")


@dataclass
class Timing:
    """Seconds for all images."""

    wall: float
    cpu: float  # of this process and its workers


def main() -> None:
    """Measure with the settings of the command line and print a table."""
    config = parse_config(BenchmarkConfig)
    with tempfile.TemporaryDirectory() as folder:
        num_images = write_images(config, Path(folder))
        readers = make_readers(config, Path(folder))
        timings: dict[str, list[Timing]] = {name: [] for name in readers}
        for _ in range(config.repeats):  # in turn, so that what disturbs one repeat disturbs all
            for name, read in readers.items():
                timings[name].append(measure(read, num_images // config.batch_size))
    print_table(config, num_images // config.batch_size * config.batch_size, timings)


def write_images(config: BenchmarkConfig, folder: Path) -> int:
    """Write the images as `files/*.png` and `parquet/data/*.parquet`; return how many there are."""
    dataset = load_image_dataset(config.dataset_name, max_samples=config.num_images, size=config.source_size)
    images = ImageDataset(dataset, config.source_size)
    (folder / "files").mkdir()
    paths = []
    for row in range(len(images)):
        paths.append(folder / "files" / f"{row:06d}.png")
        Image.fromarray(images.read_pixels([row])[0].permute(1, 2, 0).numpy()).save(paths[-1])
    (folder / "parquet" / "data").mkdir(parents=True)
    for shard in range(NUM_SHARDS):
        values = [{"bytes": path.read_bytes(), "path": None} for path in paths[shard::NUM_SHARDS]]
        stored = datasets.Dataset.from_dict({"image": values}).cast_column("image", datasets.Image())
        stored.to_parquet(str(folder / "parquet" / "data" / f"train-{shard:05d}-of-{NUM_SHARDS:05d}.parquet"))
    return len(images)


def make_readers(config: BenchmarkConfig, folder: Path) -> dict[str, Callable[[], Batches]]:
    """Return what gives the batches of an epoch, for each way of reading."""
    cache_dir = str(folder / "cache")
    files = ImageDataset(load_image_dataset(train_data_dir=str(folder / "files"), cache_dir=cache_dir), config.size)
    parquet = ImageDataset(load_image_dataset(str(folder / "parquet"), cache_dir=cache_dir), config.size)
    stream = ImageStream(
        load_image_stream(str(folder / "parquet"), cache_dir=cache_dir),
        config.size,
        config.batch_size,
        num_workers=config.num_workers,
    )
    cached = CachedImages(parquet)
    return {
        BASELINE: lambda: read_with_pil(config, sorted((folder / "files").iterdir())),
        "image folder": lambda: read_rows(config, files),
        "parquet": lambda: read_rows(config, parquet),
        "parquet, streaming": lambda: iter(DataLoader(stream, batch_size=None, num_workers=config.num_workers)),
        "parquet, cache_images": lambda: read_rows(config, cached),
    }


def read_with_pil(config: BenchmarkConfig, paths: list[Path]) -> Batches:
    """Yield batches as a first draft of a training script would."""
    for start in range(0, len(paths), config.batch_size):
        images = []
        for path in paths[start : start + config.batch_size]:
            image = Image.open(path).convert("RGB").resize((config.size, config.size), Image.Resampling.LANCZOS)
            images.append(torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 127.5 - 1)
        yield {"pixel_values": torch.stack(images)}


def read_rows(config: BenchmarkConfig, images: Dataset) -> Batches:
    """Return the batches of a data set with rows, as training reads them."""
    return iter(DataLoader(images, config.batch_size, shuffle=True, drop_last=True, num_workers=config.num_workers))


def measure(read: Callable[[], Batches], num_batches: int) -> Timing:
    """Time an epoch."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    batches = read()
    count = sum(1 for _ in itertools.islice(batches, num_batches))
    wall = time.perf_counter() - wall
    del batches  # joins the workers, whose time counts from then on
    cpu = cpu_seconds() - cpu
    if count < num_batches:  # each worker of a stream drops an incomplete batch
        wall, cpu = wall * num_batches / count, cpu * num_batches / count
    return Timing(wall, cpu)


def cpu_seconds() -> float:
    """CPU time of this process and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def print_table(config: BenchmarkConfig, num_images: int, timings: dict[str, list[Timing]]) -> None:
    """Print the medians of each way of reading."""
    print(
        f"\n{num_images:,} images of {config.dataset_name}, {config.source_size}x{config.source_size} to "
        f"{config.size}x{config.size}, batches of {config.batch_size}, {config.num_workers} workers, "
        f"{torch.get_num_threads()} threads, medians of {config.repeats} epochs\n"
    )
    print("| reader | wall s | CPU s | images/s | images/s per core | ratio to baseline |")
    print("| --- | --- | --- | --- | --- | --- |")
    baseline = statistics.median(timing.cpu for timing in timings[BASELINE])
    for name, of_reader in timings.items():
        wall = statistics.median(timing.wall for timing in of_reader)
        cpu = statistics.median(timing.cpu for timing in of_reader)
        rates = f"{num_images / wall:,.0f} | {num_images / cpu:,.0f}"
        print(f"| {name} | {wall:.3f} | {cpu:.3f} | {rates} | {baseline / cpu:.2f} |")


if __name__ == "__main__":
    run_script(main)
