"""The pictures of a run: masks, reconstructions and the swap grid of a few fixed images."""

from pathlib import Path

import numpy as np
import PIL.Image
import torch

from ..basis import CodeBasis, CodeKind
from ..codes import FDAECodes
from ..data import CachedImages, ImageDataset, ImageStream
from ..image_processing import to_output
from ..pipeline_fdae import FDAEPipeline
from ..utils.files import whole_file
from .figures import (
    mask_figure,
    reconstruction_figure,
    single_swap_figure,
    swap_grid_figure,
    traversal_figure,
)

Figures = dict[str, PIL.Image.Image]

TRAVERSAL_VALUES = (-2.0, -1.0, 0.0, 1.0, 2.0)


def pick_images(
    dataset: ImageDataset | CachedImages | ImageStream, num_images: int, seed: int = 0
) -> list[PIL.Image.Image]:
    """Pick the same few images of a data set every time, resized for the model; of a stream, the first ones."""
    if isinstance(dataset, ImageStream):
        return to_output(dataset.first_values(num_images), "pil")
    rows = np.random.default_rng(seed).choice(len(dataset), min(num_images, len(dataset)), replace=False)
    return to_output(torch.stack([dataset[int(row)]["pixel_values"] for row in rows]), "pil")


def make_figures(
    pipeline: FDAEPipeline,
    images: list[PIL.Image.Image],
    num_inference_steps: int | None = None,
    swap_grid: bool = False,
) -> Figures:
    """Draw masks, reconstructions and, if asked, the swap grid of images; always from the same starting noise.

    Args:
        pipeline: The model, in evaluation mode.
        images: What to show.
        num_inference_steps: Steps of the sampler; the pipeline's own number by default.
        swap_grid: Draw the swap grid too; a single-concept model has none.

    Returns:
        Pictures by name.
    """
    generator = torch.Generator().manual_seed(0)
    output = pipeline(images, num_inference_steps=num_inference_steps, generator=generator)
    figures = {
        "masks": mask_figure(images, output.masks),
        "reconstructions": reconstruction_figure(images, output.images),
    }
    if swap_grid and output.codes.mask is not None:
        grid = pipeline.swap_grid(images, num_inference_steps=num_inference_steps, generator=generator)
        figures["swap_grid"] = swap_grid_figure(images, grid)
    return figures


def make_edit_figures(
    pipeline: FDAEPipeline,
    source: PIL.Image.Image,
    target: PIL.Image.Image,
    num_inference_steps: int | None = None,
    basis: CodeBasis | None = None,
) -> Figures:
    """Draw the source with one code of the target at a time and, given a basis, with each code moved along it.

    Args:
        pipeline: The model, in evaluation mode.
        source: What is edited, from the same starting noise everywhere.
        target: What gives codes.
        num_inference_steps: Steps of the sampler; the pipeline's own number by default.
        basis: Directions to move along: each code's first principal component.

    Returns:
        Pictures by name.
    """
    codes, target_codes = pipeline.encode(source), pipeline.encode(target)
    latents = pipeline.prepare_latents(1, torch.Generator().manual_seed(0))

    def decode(edited: FDAECodes) -> list[PIL.Image.Image]:
        return pipeline.decode(edited, num_inference_steps, latents=latents)

    figures = {"single_swaps": single_swap_figure(source, target, decode(codes.single_swaps(target_codes)))}
    if basis is not None:
        kinds: tuple[CodeKind, ...] = ("content",) if codes.mask is None else ("content", "mask")
        rows = {
            f"{kind} {concept}": decode(basis.traverse(codes, kind, concept, values=TRAVERSAL_VALUES))
            for kind in kinds
            for concept in range(codes.num_concepts)
        }
        figures["traversal"] = traversal_figure(list(rows.values()), list(rows), TRAVERSAL_VALUES)
    return figures


def save_figures(figures: Figures, folder: Path) -> None:
    """Write each picture to ``folder/NAME.png``, whole or not at all."""
    for name, figure in figures.items():
        with whole_file(folder / f"{name}.png") as unfinished:
            figure.save(unfinished)
