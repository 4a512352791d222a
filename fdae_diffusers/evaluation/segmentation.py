"""Compare a model's masks with the true parts of a benchmark's images, and write `masks.json`."""

from dataclasses import dataclass, field
from typing import Any

import datasets
import numpy as np
import torch
from PIL import Image
from sklearn.utils import gen_batches

from ..data import Benchmark, ImageDataset, get_benchmark
from ..errors import FDAEError
from ..hub.card import write_model_card
from ..hub.files import MASKS_FILE, TRAINING_FILE
from ..image_processing import pixels_to_values
from ..metrics.segmentation import mask_statistics, segmentation_scores
from ..models import CMFNet
from ..utils.arguments import check_at_least_one
from .results import ResultConfig, public_name, result_path, write_result


@dataclass
class MasksConfig(ResultConfig):
    """Settings of the comparison."""

    dataset: str = field(kw_only=True, metadata={"help": "Benchmark with true parts: cars3d, sprites, ..."})
    dataset_path: str | None = field(default=None, metadata={"help": "Local folder or Hub id of the data set."})
    num_images: int = field(default=1000, metadata={"help": "Images to compare, drawn at random."})
    seed: int = field(default=0, metadata={"help": "Seed of the draw."})
    batch_size: int = field(default=64, metadata={"help": "Images at a time."})

    def __post_init__(self):
        check_at_least_one(self, ("num_images", "batch_size"))


def evaluate_masks(config: MasksConfig) -> dict[str, Any]:
    """Decode the masks of images, compare them with the true parts, print and write the scores.

    Returns:
        Model and data set by name; scores as :func:`~fdae_diffusers.metrics.segmentation_scores` and
        :func:`~fdae_diffusers.metrics.mask_statistics` name them, of each part by its name. `foreground_ari` is None
        where all foreground is one part.

    Raises:
        FDAEError: If the benchmark or the data set has no true parts, the model has a single concept, or something
            cannot be loaded or written.
    """
    output = result_path(config, MASKS_FILE)
    benchmark = get_benchmark(config.dataset)
    if benchmark.part_column is None:
        raise FDAEError(f"{benchmark.name} has no true parts to compare masks with")
    encoder = config.load_pipeline().encoder
    if encoder.config.num_concepts < 2:
        raise FDAEError("a single-concept model has no masks")
    size = encoder.config.sample_size
    dataset = benchmark.load(size, config.dataset_path)
    if benchmark.part_column not in dataset.column_names:
        raise FDAEError(f"the data set has no column {benchmark.part_column!r} with the true parts")
    rows = np.random.default_rng(config.seed).permutation(len(dataset))[: config.num_images]
    dataset = dataset.select(np.sort(rows))
    parts = read_parts(benchmark, dataset, size)
    masks = _decode_masks(encoder, ImageDataset(dataset, size, benchmark.image_column), config.batch_size)
    scores = segmentation_scores(masks, parts, len(benchmark.part_names))
    statistics = mask_statistics(masks)
    by_part = {
        name: {"best_iou": float(best), "concept": int(concept), "iou": iou.tolist()}
        for name, best, concept, iou in zip(
            benchmark.part_names,
            scores.pop("best_iou_of_part"),
            scores.pop("concept_of_part"),
            scores.pop("iou"),
            strict=True,
        )
    }
    if len(benchmark.part_names) == 2:  # whose foreground is a single part
        scores["foreground_ari"] = None
    result = {
        "model": public_name(config.model),
        "variant": config.variant,
        "dataset": config.dataset,
        "num_images": len(dataset),
        "seed": config.seed,
        **scores,
        **{name: statistics[name] for name in ("crispness", "entropy", "usage", "dead")},
        "parts": by_part,
    }
    print_table(result)
    write_result(output, result)
    if output.name == MASKS_FILE and (output.parent / TRAINING_FILE).exists():
        write_model_card(output.parent)
    return result


def read_parts(benchmark: Benchmark, dataset: datasets.Dataset, size: int) -> np.ndarray:
    """Return the part that each pixel shows, (n, size, size), of all rows; other sizes take the nearest pixel.

    Raises:
        FDAEError: If a pixel is numbered above the parts that there are.
    """
    column = benchmark.part_column
    assert column is not None
    pictures = dataset.select_columns([column]).with_format(None)
    parts = np.stack(
        [np.asarray(row[column].resize((size, size), Image.Resampling.NEAREST)).astype(np.int64) for row in pictures]
    )
    if parts.ndim != 3 or parts.max() >= len(benchmark.part_names):
        raise FDAEError(f"column {column!r} is to number {len(benchmark.part_names)} parts, not {parts.max() + 1}")
    return parts


def print_table(result: dict[str, Any]) -> None:
    """Print the scores, and the best concept of each part."""
    print(f"\n{result['model']}: masks of {result['num_images']} images of {result['dataset']}")
    for name in ("foreground_ari", "ari", "best_iou", "consistent_iou", "consistency", "crispness"):
        if result[name] is not None:
            print(f"  {name:<16} {result[name]:.3f}")
    for name, part in result["parts"].items():
        print(f"  {name:<16} concept {part['concept']}, IoU {part['best_iou']:.3f}")


@torch.no_grad()
def _decode_masks(encoder: CMFNet, images: ImageDataset, batch_size: int) -> np.ndarray:
    """The masks (n, N, H, W) of all images, float32."""
    encoder.eval()
    masks = []
    for rows in gen_batches(len(images), batch_size):
        values = pixels_to_values(images.read_pixels(range(len(images))[rows]))
        codes = encoder.encode(values.to(encoder.device, encoder.dtype))
        masks.append(encoder.decode_masks(codes).float().cpu().numpy())
    return np.concatenate(masks)
