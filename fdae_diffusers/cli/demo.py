"""`fdae demo`: masks, reconstructions, a swap grid and edits of a few images, in a folder of pictures."""

import argparse
import json
from pathlib import Path
from typing import Any

import PIL.Image

from ..basis import CodeBasis, basis_file
from ..data import RENDERED_SHAPES3D, ImageDataset, load_image_dataset
from ..errors import FDAEError
from ..hub.examples import load_examples
from ..hub.files import EXAMPLES_FILE, TRAINING_FILE
from ..hub.loading import find_file
from ..visualization.samples import make_edit_figures, make_figures, pick_images, save_figures
from .commands import load_model, read_images


def demo(args: argparse.Namespace) -> None:
    """Draw all kinds of pictures into a folder.

    Raises:
        FDAEError: If no images are named and the model was not trained on built-in ones, or the folder is not empty.
    """
    folder = Path(args.output_dir)
    if folder.exists() and not args.overwrite and (not folder.is_dir() or any(folder.iterdir())):
        raise FDAEError(f"{folder} is not empty: name another --output_dir, or add --overwrite to replace pictures")
    if args.images and args.dataset:
        raise FDAEError("name image files or a --dataset, not both")
    pipeline = load_model(args)
    pipeline.set_progress_bar_config(disable=True)  # many short calls
    size, steps = pipeline.encoder.config.sample_size, args.num_inference_steps
    images = read_images(args, pipeline, args.images) if args.images else _images_of_data(args, size)
    has_basis = find_file(args.model, basis_file(args.variant), args.revision) is not None
    basis = CodeBasis.from_pretrained(args.model, args.revision, args.variant) if has_basis else None
    figures = make_figures(pipeline, images, steps, swap_grid=True)
    figures |= make_edit_figures(pipeline, images[0], images[-1], steps, basis)
    save_figures(figures, folder)
    print(f"pictures: {folder}")


def _images_of_data(args: argparse.Namespace, size: int) -> list[PIL.Image.Image]:
    """Pick images of the named data set, of the built-in one if the model knows it, or the model's examples."""
    dataset = args.dataset
    if dataset is None:
        if _trained_on(args.model, args.revision) != RENDERED_SHAPES3D:
            if find_file(args.model, EXAMPLES_FILE, args.revision) is not None:
                return load_examples(args.model, args.revision)[: args.num_images]
            raise FDAEError(
                f"{args.model} was not trained on built-in images: name images like those of its training, "
                "fdae demo a.png b.png, or a --dataset"
            )
        dataset = RENDERED_SHAPES3D
    return pick_images(ImageDataset(load_image_dataset(dataset, size=size), size), args.num_images, args.seed)


def _trained_on(model: str, revision: str | None) -> str | None:
    """The data set in a model's training record, if it has one and that names one."""
    path = find_file(model, TRAINING_FILE, revision)
    if path is None:
        return None
    try:
        record: dict[str, Any] = json.loads(path.read_text())
        return record["config"]["dataset_name"]
    except (ValueError, KeyError, TypeError) as error:
        raise FDAEError(f"{path} is damaged: it is no record of a training") from error
