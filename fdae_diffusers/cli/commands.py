"""What the commands of `fdae` do: each takes the parsed arguments and a file to write."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import diffusers
import PIL.Image
import torch

from ..basis import CodeBasis, CodeKind
from ..codes import Concepts, FDAECodes
from ..errors import FDAEError
from ..health import HealthReport, find_foreign_images
from ..hub.files import HEALTH_FILE, variant_name
from ..hub.loading import find_file, load_pipeline
from ..image_processing import read_image
from ..pipeline_fdae import FDAEPipeline
from ..visualization import figures
from .parser import ALL

BATCH_SIZE = 64  # images encoded or decoded at a time: bounds the memory


def encode(args: argparse.Namespace, file: Path) -> None:
    """Write the codes of images."""
    pipeline = load_model(args)
    batches = [args.images[start : start + BATCH_SIZE] for start in range(0, len(args.images), BATCH_SIZE)]
    codes = FDAECodes.cat(pipeline.encode(read_images(pipeline, batch)) for batch in batches)
    codes.save(file, {"images": json.dumps(args.images), "model": args.model})


def masks(args: argparse.Namespace, file: Path) -> None:
    """Draw the masks of images."""
    pipeline = load_model(args)
    images = read_images(pipeline, args.images)
    tell_foreign_images(args, pipeline, images, args.images)
    figures.mask_figure(images, pipeline.decode_masks(pipeline.encode(images))).save(file)


def reconstruct(args: argparse.Namespace, file: Path) -> None:
    """Draw images above their reconstructions, or what codes decode to."""
    of_codes = args.images[0].endswith(".safetensors")
    if of_codes and len(args.images) > 1:
        raise FDAEError("name image files, or one file of codes")
    pipeline = load_model(args)
    if of_codes:
        figures.image_grid([_decode(args, pipeline, FDAECodes.load(args.images[0]))]).save(file)
        return
    images = read_images(pipeline, args.images)
    tell_foreign_images(args, pipeline, images, args.images)
    figures.reconstruction_figure(images, _decode(args, pipeline, pipeline.encode(images))).save(file)


def swap(args: argparse.Namespace, file: Path) -> None:
    """Draw an image with codes of another one, the donor: with those that are named, or with each alone."""
    pipeline = load_model(args)
    image, donor = images = read_images(pipeline, [args.image, args.donor])
    tell_foreign_images(args, pipeline, images, [args.image, args.donor])
    codes = pipeline.encode(images)
    latents = _latents(args, pipeline, image, codes[0])
    if args.content or args.mask:
        swapped = codes[0].swap(codes[1], content=_concepts(args.content), mask=_concepts(args.mask))
        pictures = [*images, *_decode(args, pipeline, swapped, latents)]
        figures.image_grid([pictures], ["image", "donor", "result"]).save(file)
    else:
        pictures = _decode(args, pipeline, codes[0].single_swaps(codes[1]), latents)
        figures.single_swap_figure(image, donor, pictures).save(file)


def grid(args: argparse.Namespace, file: Path) -> None:
    """Draw the content of each image in the masks of each."""
    pipeline = load_model(args)
    images = read_images(pipeline, args.images)
    tell_foreign_images(args, pipeline, images, args.images)
    pictures = pipeline.swap_grid(images, num_inference_steps=args.num_inference_steps, generator=make_generator(args))
    figures.swap_grid_figure(images, pictures).save(file)


def traverse(args: argparse.Namespace, file: Path) -> None:
    """Draw an image with one of its codes moved along principal components."""
    basis = CodeBasis.from_pretrained(args.model, args.revision, args.variant)
    pipeline = load_model(args)
    (image,) = read_images(pipeline, [args.image])
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
    figures.traversal_figure(rows, labels, args.values).save(file)


# --- What commands share


def load_model(args: argparse.Namespace) -> FDAEPipeline:
    """Load the model that the arguments name."""
    diffusers.utils.logging.disable_progress_bar()  # of the loading, which takes a moment only
    diffusers.utils.logging.set_verbosity_error()  # what goes wrong is told in one line
    pipeline = load_pipeline(args.model, args.device, args.variant, args.revision)
    pipeline.set_progress_bar_config(disable=None)  # none where nobody watches
    return pipeline


def read_images(pipeline: FDAEPipeline, paths: Sequence[str]) -> list[PIL.Image.Image]:
    """Read image files as the model sees them."""
    return [read_image(path, pipeline.encoder.config.sample_size) for path in paths]


def load_health(args: argparse.Namespace) -> HealthReport | None:
    """Load the health of the model on its own pictures; ``None`` if it was not measured."""
    path = find_file(args.model, variant_name(HEALTH_FILE, args.variant), args.revision)
    return None if path is None else HealthReport.load(path)


def tell_foreign_images(
    args: argparse.Namespace, pipeline: FDAEPipeline, images: Sequence[PIL.Image.Image], names: Sequence[str]
) -> None:
    """Say on stderr which images are unlike the model's own, if it is known how well it reconstructs those."""
    health = load_health(args)
    if health is not None:
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
