"""`fdae demo`: masks, reconstructions, a swap grid and edits of a few images, in a folder of pictures."""

import argparse
import json
from pathlib import Path
from typing import Any

import PIL.Image
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError

from ..basis import CodeBasis, basis_file
from ..data import RENDERED_SHAPES3D, ImageDataset, load_image_dataset
from ..errors import FDAEError
from ..hub.files import TRAINING_FILE
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
    images = read_images(pipeline, args.images) if args.images else _images_of_data(args, size)
    has_basis = _find_file(args.model, basis_file(args.variant), args.revision) is not None
    basis = CodeBasis.from_pretrained(args.model, args.revision, args.variant) if has_basis else None
    figures = make_figures(pipeline, images, steps, swap_grid=True)
    figures |= make_edit_figures(pipeline, images[0], images[-1], steps, basis)
    save_figures(figures, folder)
    print(f"pictures: {folder}")


def _images_of_data(args: argparse.Namespace, size: int) -> list[PIL.Image.Image]:
    """Pick images of the data set that is named, else of the built-in one if the model was trained on it."""
    dataset = args.dataset
    if dataset is None:
        if _trained_on(args.model, args.revision) != RENDERED_SHAPES3D:
            raise FDAEError(
                f"{args.model} was not trained on built-in images: name images like those of its training, "
                "fdae demo a.png b.png, or a --dataset"
            )
        dataset = RENDERED_SHAPES3D
    return pick_images(ImageDataset(load_image_dataset(dataset, size=size), size), args.num_images, args.seed)


def _trained_on(model: str, revision: str | None) -> str | None:
    """The data set in a model's training record, if it has one and that names one."""
    path = _find_file(model, TRAINING_FILE, revision)
    if path is None:
        return None
    try:
        record: dict[str, Any] = json.loads(path.read_text())
        return record["config"]["dataset_name"]
    except (ValueError, KeyError, TypeError) as error:
        raise FDAEError(f"{path} is damaged: it is no record of a training") from error


def _find_file(model: str, name: str, revision: str | None) -> Path | None:
    """A file of a model, in its folder or on the Hub; None if the model does not have it."""
    if Path(model).is_dir():
        path = Path(model) / name
        return path if path.is_file() else None
    try:
        return Path(hf_hub_download(model, name, revision=revision))
    except EntryNotFoundError:  # also where the Hub is out of reach and the cache has no such file
        return None
