"""The command `fdae`: encode images, draw their masks and edits, score a model, without writing Python.

    fdae swap a.png b.png --model model_cards/fdae-shapes3d-rendered-32 --content 1

Each command is a function that writes its output into a file which takes its name when it is complete.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import diffusers
import PIL.Image
import torch
from safetensors import SafetensorError

from ..codes import Concepts, FDAECodes
from ..errors import FDAEError, first_line
from ..hub.loading import load_pipeline
from ..image_processing import read_image
from ..pipeline_fdae import FDAEPipeline
from ..utils.arguments import parse_config, run_script
from ..utils.files import whole_file
from ..visualization import figures
from .parser import MODEL_VARIABLE, about, make_parser

BATCH_SIZE = 64  # images encoded or decoded at a time: bounds the memory


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake ends it with one line and exit status 2."""
    run_script(partial(run, sys.argv[1:] if argv is None else argv))


def run(argv: Sequence[str]) -> None:
    """Run one command.

    Raises:
        FDAEError: If something is wrong with what was asked for.
    """
    args, rest = make_parser().parse_known_args(argv)
    if args.command == "evaluate":
        from ..evaluation.disentanglement import (  # brings metrics that the other commands start without
            EvaluationConfig,
            evaluate,
        )

        model = os.environ.get(MODEL_VARIABLE)
        flags = [*(["--model", model] if model else []), *rest]  # what is given overrides the variable
        evaluate(parse_config(EvaluationConfig, flags, prog="fdae evaluate", **about("evaluate")))
        return
    if rest:
        raise FDAEError(f"unknown argument {rest[0]} (fdae {args.command} --help lists what there is)")
    if not args.model:
        raise FDAEError(f"name a model: --model FOLDER_OR_HUB_ID, or the environment variable {MODEL_VARIABLE}")
    _write(args)
    print(f"written to {args.output}")


def _write(args: argparse.Namespace) -> None:
    """Let a command write its output: whole, and over an existing file only if asked to."""
    path = Path(args.output)
    if path.exists() and (path.is_dir() or not args.overwrite):
        raise FDAEError(f"{path} exists already: name another --output, or add --overwrite to replace a file")
    try:
        with whole_file(path) as unfinished:
            unfinished.touch()  # fails now, not after the work
            COMMANDS[args.command](args, unfinished)
    except (OSError, SafetensorError) as error:
        raise FDAEError(f"cannot write {path}: {first_line(error)}") from error


# --- Commands


def encode(args: argparse.Namespace, file: Path) -> None:
    """Write the codes of images."""
    pipeline = _load(args)
    batches = [args.images[start : start + BATCH_SIZE] for start in range(0, len(args.images), BATCH_SIZE)]
    codes = FDAECodes.cat(pipeline.encode(_read(pipeline, batch)) for batch in batches)
    codes.save(file, {"images": json.dumps(args.images), "model": args.model})


def masks(args: argparse.Namespace, file: Path) -> None:
    """Draw the masks of images."""
    pipeline = _load(args)
    images = _read(pipeline, args.images)
    figures.mask_figure(images, pipeline.decode_masks(pipeline.encode(images))).save(file)


def reconstruct(args: argparse.Namespace, file: Path) -> None:
    """Draw images above their reconstructions, or what codes decode to."""
    pipeline = _load(args)
    if args.images[0].endswith(".safetensors"):
        if len(args.images) > 1:
            raise FDAEError("name image files, or one file of codes")
        codes = FDAECodes.load(args.images[0])
        figures.image_grid([_decode(pipeline, codes, args, _latents(pipeline, args))]).save(file)
        return
    images = _read(pipeline, args.images)
    pictures = _decode(pipeline, pipeline.encode(images), args, _latents(pipeline, args))
    figures.reconstruction_figure(images, pictures).save(file)


def swap(args: argparse.Namespace, file: Path) -> None:
    """Draw an image with codes of another one: with those that are named, or with each alone."""
    pipeline = _load(args)
    source, target = images = _read(pipeline, [args.source, args.target])
    codes = pipeline.encode(images)
    latents = _latents(pipeline, args, source)
    if args.content or args.mask:
        swapped = codes[0].swap(codes[1], content=_concepts(args.content), mask=_concepts(args.mask))
        pictures = [*images, *_decode(pipeline, swapped, args, latents)]
        figures.image_grid([pictures], ["source", "target", "result"]).save(file)
    else:
        pictures = _decode(pipeline, codes[0].single_swaps(codes[1]), args, latents)
        figures.single_swap_figure(source, target, pictures).save(file)


def grid(args: argparse.Namespace, file: Path) -> None:
    """Draw the content of each image in the masks of each."""
    pipeline = _load(args)
    images = _read(pipeline, args.images)
    pictures = pipeline.swap_grid(images, num_inference_steps=args.steps, generator=_generator(args))
    figures.swap_grid_figure(images, pictures).save(file)


def traverse(args: argparse.Namespace, file: Path) -> None:
    """Draw an image with one of its codes moved along principal components."""
    from ..basis import CodeBasis, CodeKind  # brings scikit-learn that the other commands start without

    basis = CodeBasis.from_pretrained(args.model)
    pipeline = _load(args)
    (image,) = _read(pipeline, [args.image])
    codes, latents = pipeline.encode(image), _latents(pipeline, args, image)
    kind: CodeKind = "content" if args.mask is None else "mask"
    concept = args.content if args.mask is None else args.mask
    components = range(basis.content.components.shape[1]) if args.component is None else [args.component]
    rows = [
        _decode(pipeline, basis.traverse(codes, kind, concept, component, args.values), args, latents)
        for component in components
    ]
    labels = [f"component {component}" for component in components]
    figures.traversal_figure(rows, labels, args.values).save(file)


# --- What they share


def _load(args: argparse.Namespace) -> FDAEPipeline:
    diffusers.utils.logging.disable_progress_bar()  # of the loading, which takes a moment only
    pipeline = load_pipeline(args.model, args.device)
    pipeline.set_progress_bar_config(disable=None)  # none where nobody watches
    return pipeline


def _read(pipeline: FDAEPipeline, paths: Sequence[str]) -> list[PIL.Image.Image]:
    return [read_image(path, pipeline.encoder.config.sample_size) for path in paths]


def _concepts(named: list[int | str]) -> Concepts:
    return "all" if "all" in named else [int(concept) for concept in named]


def _generator(args: argparse.Namespace) -> torch.Generator:
    return torch.Generator().manual_seed(args.seed)


def _latents(pipeline: FDAEPipeline, args: argparse.Namespace, image: PIL.Image.Image | None = None) -> torch.Tensor:
    """One starting noise for all pictures, which then differ by their codes alone: drawn, or an edited image's own."""
    if image is not None and args.keep_noise:
        return pipeline.invert(image, num_inference_steps=args.steps)
    config = pipeline.unet.config
    return torch.randn(1, config.in_channels, config.sample_size, config.sample_size, generator=_generator(args))


def _decode(
    pipeline: FDAEPipeline, codes: FDAECodes, args: argparse.Namespace, latents: torch.Tensor
) -> list[PIL.Image.Image]:
    pictures: list[PIL.Image.Image] = []
    for start in range(0, len(codes), BATCH_SIZE):
        batch = codes[start : start + BATCH_SIZE]
        pictures += pipeline(codes=batch, num_inference_steps=args.steps, latents=latents).images
    return pictures


COMMANDS = {function.__name__: function for function in (encode, masks, reconstruct, swap, grid, traverse)}

if __name__ == "__main__":
    main()
