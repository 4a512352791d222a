"""`fdae check`: the health of a model on any images, and which of them are unlike its own."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import PIL.Image

from ..errors import FDAEError
from ..evaluation.results import refuse_existing
from ..health import measure_health
from ..health.foreign import foreign_among
from ..image_processing import read_image
from .commands import load_health, load_model

NUM_NAMED = 5  # foreign images that are named
SEED = 0  # of the choice among more images than are wanted


def check(args: argparse.Namespace) -> None:
    """Print the health of a model on images, and write it where that is asked for."""
    if args.output is not None:
        refuse_existing(Path(args.output), args.overwrite)
    paths = choose_paths(list(image_paths(args.images)), args.num_images)
    pipeline = load_model(args)
    pipeline.set_progress_bar_config(disable=True)  # there would be one for each swapped code
    images, names, skipped = _read(paths, set(args.images), pipeline.encoder.config.sample_size)
    own = load_health(args)
    health = measure_health(pipeline, images)
    print(health)
    if skipped:
        print(f"{skipped} of {len(paths)} files cannot be read as images and were left out")
    if own is None:
        print("(the model has no health.json, so that nobody knows how well it reconstructs its own pictures)")
    else:
        foreign = foreign_among(health.image_psnr, own)
        print(f"{len(foreign)} of {len(images)} pictures are unlike what the model was trained on")
        for image in sorted(foreign, key=lambda image: image.psnr)[:NUM_NAMED]:
            print(f"  {image.describe(names[image.index])}")
    if args.output is not None:
        health.save(args.output)
        print(f"written to {args.output}")


def image_paths(paths: Sequence[str]) -> Iterator[str]:
    """Yield files as they are, and of folders the image files in them and below, by name.

    Raises:
        FDAEError: If a folder has none.
    """
    suffixes = PIL.Image.registered_extensions()
    for path in paths:
        if not Path(path).is_dir():
            yield str(path)
            continue
        found = sorted(
            str(file) for file in Path(path).rglob("[!.]*") if file.suffix.lower() in suffixes and file.is_file()
        )
        if not found:
            raise FDAEError(f"there are no images in the folder {path}")
        yield from found


def choose_paths(paths: Sequence[str], num_images: int) -> list[str]:
    """Return at most so many of the paths, drawn at random but always the same, in their order."""
    if len(paths) <= num_images:
        return list(paths)
    rows = np.random.default_rng(SEED).choice(len(paths), num_images, replace=False)
    return [paths[row] for row in sorted(rows)]


def _read(paths: Sequence[str], named: set[str], size: int) -> tuple[list[PIL.Image.Image], list[str], int]:
    """Read images; a file that cannot be read is an error if it was named itself, and left out if it was found."""
    images, names = [], []
    for path in paths:
        try:
            images.append(read_image(path, size))
            names.append(path)
        except FDAEError:
            if path in named:
                raise
    return images, names, len(paths) - len(images)
