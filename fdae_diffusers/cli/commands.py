"""What the commands of `fdae` do: each takes the parsed arguments, and draws or writes a file."""

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import diffusers
import numpy as np
import PIL.Image
import torch

from ..basis import CodeBasis, CodeKind
from ..codes import Concepts, FDAECodes
from ..errors import FDAEError
from ..health import HealthReport, find_foreign_images
from ..hub.examples import load_examples
from ..hub.files import HEALTH_FILE, variant_name
from ..hub.loading import find_file, load_pipeline
from ..image_processing import read_image
from ..pipeline_fdae import FDAEPipeline
from ..visualization import figures
from .inputs import EXAMPLE
from .parser import ALL
from .results import Drawing, writes

BATCH_SIZE = 64  # images encoded or decoded at a time: bounds the memory
SHEET_COLUMNS = 8


def encode(args: argparse.Namespace, file: Path) -> None:
    """Write the codes of images."""
    pipeline = load_model(args)
    batches = [args.images[start : start + BATCH_SIZE] for start in range(0, len(args.images), BATCH_SIZE)]
    codes = FDAECodes.cat(pipeline.encode(read_images(args, pipeline, batch)) for batch in batches)
    codes.save(file, {"images": json.dumps(args.images), "model": args.model})


@writes
def masks(args: argparse.Namespace) -> Drawing:
    """Draw the masks of images."""
    pipeline = load_model(args)
    images = read_images(args, pipeline, args.images)
    tell_foreign_images(args, pipeline, images, args.images)
    found = pipeline.decode_masks(pipeline.encode(images))  # (B, N, H, W)
    grey = (found.float().cpu().numpy() * 255).round().astype(np.uint8)
    pictures = [PIL.Image.fromarray(mask) for of_image in grey for mask in of_image]
    return Drawing(figures.mask_figure(images, found), pictures)


@writes
def reconstruct(args: argparse.Namespace) -> Drawing:
    """Draw images above their reconstructions, or what codes decode to."""
    of_codes = args.images[0].endswith(".safetensors")
    if of_codes and len(args.images) > 1:
        raise FDAEError("name image files, or one file of codes")
    pipeline = load_model(args)
    if of_codes:
        pictures = _decode(args, pipeline, FDAECodes.load(args.images[0]))
        return Drawing(figures.image_grid([pictures]), pictures)
    images = read_images(args, pipeline, args.images)
    tell_foreign_images(args, pipeline, images, args.images)
    pictures = _decode(args, pipeline, pipeline.encode(images))
    return Drawing(figures.reconstruction_figure(images, pictures), pictures)


@writes
def swap(args: argparse.Namespace) -> Drawing:
    """Draw an image with codes of another one, the donor: with those that are named, or with each alone."""
    pipeline = load_model(args)
    image, donor = images = read_images(args, pipeline, [args.image, args.donor])
    tell_foreign_images(args, pipeline, images, [args.image, args.donor])
    codes = pipeline.encode(images)
    latents = _latents(args, pipeline, image, codes[0])
    if args.content or args.mask:
        swapped = codes[0].swap(codes[1], content=_concepts(args.content), mask=_concepts(args.mask))
        pictures = _decode(args, pipeline, swapped, latents)
        return Drawing(figures.image_grid([[*images, *pictures]], ["image", "donor", "result"]), pictures)
    pictures = _decode(args, pipeline, codes[0].single_swaps(codes[1]), latents)
    return Drawing(figures.single_swap_figure(image, donor, pictures), pictures)


@writes
def interpolate(args: argparse.Namespace) -> Drawing:
    """Draw the way from an image to one with codes of another."""
    pipeline = load_model(args)
    images = read_images(args, pipeline, [args.image, args.donor])
    tell_foreign_images(args, pipeline, images, [args.image, args.donor])
    codes = pipeline.encode(images)
    content, mask = _concepts(args.content), _concepts(args.mask)
    if not args.content and not args.mask:
        content = "all"
        mask = () if codes.mask is None else "all"
    weights = np.linspace(0, 1, args.num_images).tolist()
    moved = codes[0].interpolate(codes[1], weights, content=content, mask=mask)
    pictures = _decode(args, pipeline, moved, _latents(args, pipeline, images[0], codes[0]))
    rows = [pictures[start : start + SHEET_COLUMNS] for start in range(0, len(pictures), SHEET_COLUMNS)]
    return Drawing(figures.image_grid(rows), pictures, goes_back=True)


@writes
def grid(args: argparse.Namespace) -> Drawing:
    """Draw the content of each image in the masks of each."""
    pipeline = load_model(args)
    images = read_images(args, pipeline, args.images)
    tell_foreign_images(args, pipeline, images, args.images)
    rows = pipeline.swap_grid(images, num_inference_steps=args.num_inference_steps, generator=make_generator(args))
    return Drawing(figures.swap_grid_figure(images, rows), [picture for row in rows for picture in row])


@writes
def traverse(args: argparse.Namespace) -> Drawing:
    """Draw an image with one of its codes moved along principal components."""
    basis = CodeBasis.from_pretrained(args.model, args.revision, args.variant)
    pipeline = load_model(args)
    (image,) = read_images(args, pipeline, [args.image])
    tell_foreign_images(args, pipeline, [image], [args.image])
    codes = pipeline.encode(image)
    latents = _latents(args, pipeline, image, codes)
    kind: CodeKind = "content" if args.mask is None else "mask"
    concept = args.content if args.mask is None else args.mask
    components = range(basis.content.components.shape[1]) if args.component is None else [args.component]
    rows = [
        _decode(args, pipeline, basis.traverse(codes, kind, concept, component, args.values), latents)
        for component in components
    ]
    labels = [f"component {component}" for component in components]
    sheet = figures.traversal_figure(rows, labels, args.values)
    return Drawing(sheet, [picture for row in rows for picture in row], goes_back=len(rows) == 1)


# --- What commands share


def load_model(args: argparse.Namespace) -> FDAEPipeline:
    """Load the model that the arguments name."""
    diffusers.utils.logging.disable_progress_bar()  # of the loading, which takes a moment only
    diffusers.utils.logging.set_verbosity_error()  # what goes wrong is told in one line
    pipeline = load_pipeline(args.model, args.device, args.variant, args.revision)
    pipeline.set_progress_bar_config(disable=None)  # none where nobody watches
    return pipeline


def read_images(args: argparse.Namespace, pipeline: FDAEPipeline, paths: Sequence[str]) -> list[PIL.Image.Image]:
    """Read image files as the model sees them.

    ``-`` is the next example picture of the model; alone in a list of any length, it stands for all of them.
    """
    size = pipeline.encoder.config.sample_size
    if EXAMPLE not in paths:
        return [read_image(path, size) for path in paths]
    examples = load_examples(args.model, args.revision)
    if list(paths) == [EXAMPLE] and "images" in args:
        return examples
    following = cycle(examples)
    return [next(following) if path == EXAMPLE else read_image(path, size) for path in paths]


def load_health(args: argparse.Namespace) -> HealthReport | None:
    """Load the health of the model on its own pictures; ``None`` if it was not measured."""
    path = find_file(args.model, variant_name(HEALTH_FILE, args.variant), args.revision)
    return None if path is None else HealthReport.load(path)


def tell_foreign_images(
    args: argparse.Namespace, pipeline: FDAEPipeline, images: Sequence[PIL.Image.Image], names: Sequence[str]
) -> None:
    """Say on stderr which images are unlike the model's own, if it is known how well it reconstructs those."""
    health = load_health(args)
    if health is not None and EXAMPLE not in names:
        for image in find_foreign_images(pipeline, images, health, BATCH_SIZE):
            print(image.describe(names[image.index]), file=sys.stderr)


def make_generator(args: argparse.Namespace) -> torch.Generator:
    """Make the source of the starting noise."""
    return torch.Generator().manual_seed(args.seed)


def _concepts(named: list[int | str]) -> Concepts:
    return "all" if ALL in named else [int(concept) for concept in named]


def _latents(
    args: argparse.Namespace, pipeline: FDAEPipeline, image: PIL.Image.Image, codes: FDAECodes
) -> torch.Tensor:
    """One starting noise for all pictures, which then differ by their codes alone: the image's own, or drawn."""
    if args.keep_noise:
        return pipeline.invert(image, codes, num_inference_steps=args.num_inference_steps)
    return pipeline.prepare_latents(1, make_generator(args))


def _decode(
    args: argparse.Namespace, pipeline: FDAEPipeline, codes: FDAECodes, latents: torch.Tensor | None = None
) -> list[PIL.Image.Image]:
    """Pictures of codes, all from the same noise; it is drawn unless it is given."""
    latents = pipeline.prepare_latents(1, make_generator(args)) if latents is None else latents
    return pipeline.decode(codes, num_inference_steps=args.num_inference_steps, latents=latents)
