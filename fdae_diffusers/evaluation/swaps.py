"""How often a swapped code changes what it should and nothing else.

On re-rendered Shapes3D, as follows; on other labelled grids by `grid_swaps`.

The renderer knows the true picture of every edit, so that edited pictures can be judged: their factors are those of
the nearest rendered image (`Shapes3DFactorEstimator`). Which concept is which is found on pairs of images of its own,
from what each code changes when it is swapped alone.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from ..data.benchmarks import RENDERED_SHAPES3D, SHAPES3D
from ..data.shapes3d_factors import Shapes3DFactorEstimator
from ..errors import FDAEError
from ..hub.files import SWAPS_FILE
from ..pipeline_fdae import FDAEPipeline
from ..utils.arguments import check_at_least_one
from .grid_swaps import grid_accuracy, open_grid, print_grid_table, score_grid_swaps
from .pairs import Pairs
from .results import ResultConfig, public_name, result_path, write_result

FACTORS = SHAPES3D.factor_names
HUES = ("floor_hue", "wall_hue", "object_hue")


@dataclass
class SwapsConfig(ResultConfig):
    """Settings of the measurement."""

    dataset: str = field(
        default=RENDERED_SHAPES3D, metadata={"help": "Benchmark whose images the model knows: cars3d, sprites, ..."}
    )
    dataset_path: str | None = field(
        default=None, metadata={"help": "Local folder or Hub id of the data set; of Sprites also the sheets."}
    )
    num_pairs: int = field(default=200, metadata={"help": "Pairs of images that the rates are of."})
    num_search_pairs: int = field(default=32, metadata={"help": "Shapes3D: other pairs, to find concepts on."})
    seed: int = field(default=0, metadata={"help": "Seed of pairs and starting noise."})
    num_inference_steps: int | None = field(default=None, metadata={"help": "Steps of the sampler."})
    keep_noise: bool = field(default=False, metadata={"help": "Start from the images' own noise, by inversion."})
    batch_size: int = field(default=64, metadata={"help": "Pictures decoded at a time."})

    def __post_init__(self):
        check_at_least_one(self, ("num_pairs", "num_search_pairs", "num_inference_steps", "batch_size"))


@dataclass(frozen=True)
class Edit:
    """A swap of some codes, and the factors that should become the other image's; all others should stay."""

    name: str
    content: tuple[int, ...]
    mask: tuple[int, ...]
    factors: tuple[str, ...]


def find_edits(num_concepts: int, pairs: Pairs, estimator: Shapes3DFactorEstimator) -> list[Edit]:
    """Find the concept of each surface from what their codes change.

    A surface's concept is the one whose content code, swapped alone, changes the surface's hue most often. The mask
    of the object does not hold its shadow: the second mask is the one that, swapped along with it, makes most pictures
    right in all factors.

    Args:
        num_concepts: N.
        pairs: Pairs to find them on.
        estimator: Judge of the pictures.

    Raises:
        FDAEError: For a single-concept model.
    """
    if num_concepts < 2:
        raise FDAEError("a single-concept model has no concepts to swap")

    effects = np.stack(
        [
            (estimator.estimate(pairs.swap([concept], ())) == pairs.targets).mean(axis=0)
            for concept in range(num_concepts)
        ]
    )  # (N, F), the share of pictures whose factors became the other image's
    floor, wall, thing = (int(effects[:, FACTORS.index(hue)].argmax()) for hue in HUES)
    with_second = [
        Edit("object and second mask", (), (thing, concept), ("scale", "shape"))
        for concept in range(num_concepts)
        if concept != thing
    ]
    everything = tuple(range(num_concepts))
    return [
        Edit("none", (), (), ()),
        Edit("floor content", (floor,), (), HUES[:1]),
        Edit("wall content", (wall,), (), HUES[1:2]),
        Edit("object content", (thing,), (), HUES[2:]),
        Edit("all content", everything, (), HUES),
        Edit("object mask", (), (thing,), ("scale", "shape")),
        max(with_second, key=lambda edit: score_edit(edit, pairs, estimator)["all_as_expected"]),
        Edit("all masks", (), everything, ("scale", "shape", "orientation")),
    ]


def score_edit(edit: Edit, pairs: Pairs, estimator: Shapes3DFactorEstimator) -> dict[str, Any]:
    """Compare edited pictures with the true ones.

    Returns:
        What was swapped (`content`, `mask`) and should change (`changed`); `as_expected`, by factor, and
        `all_as_expected`: the shares of pictures whose factors came out as they should; `psnr`: the mean over the
        pictures, against the true pictures, in dB.
    """
    pictures = pairs.swap(edit.content, edit.mask)
    expected = pairs.expected(edit.factors)
    hits = estimator.estimate(pictures) == expected  # (n, F)
    errors = np.square((pictures.astype(np.float32) - pairs.render(expected)) / 255).mean(axis=(1, 2, 3))
    return {
        "content": list(edit.content),
        "mask": list(edit.mask),
        "changed": list(edit.factors),
        "as_expected": dict(zip(FACTORS, hits.mean(axis=0).tolist(), strict=True)),
        "all_as_expected": float(hits.all(axis=1).mean()),
        "psnr": float(-10 * np.log10(errors.clip(1e-10)).mean()),
    }


def estimator_accuracy(pairs: Pairs, estimator: Shapes3DFactorEstimator) -> dict[str, float]:
    """How often the judge estimates each factor of the pairs' true pictures right."""
    factors = np.concatenate([pairs.sources, pairs.targets])
    return dict(
        zip(FACTORS, (estimator.estimate(pairs.render(factors)) == factors).mean(axis=0).tolist(), strict=True)
    )


def evaluate_swaps(config: SwapsConfig) -> dict[str, Any]:
    """Swap codes of a model, print and write how often the pictures are right.

    On re-rendered Shapes3D the concepts of floor, wall and object are found first; on other grids each code is
    swapped by itself.

    Raises:
        FDAEError: If the model cannot be loaded or has a single concept, or there is a result already that is not to
            be replaced.
    """
    output = result_path(config, SWAPS_FILE)
    pipeline = config.load_pipeline()
    pipeline.set_progress_bar_config(disable=True)
    steps = config.num_inference_steps or pipeline.default_num_inference_steps
    if config.dataset != RENDERED_SHAPES3D:
        return _evaluate_on_grid(config, pipeline, steps, output)
    estimator = Shapes3DFactorEstimator(pipeline.encoder.config.sample_size)
    random_state = np.random.RandomState(config.seed)
    search_pairs, pairs = (
        Pairs(pipeline, num_pairs, random_state, steps, config.keep_noise, config.batch_size)
        for num_pairs in (config.num_search_pairs, config.num_pairs)
    )
    edits = find_edits(pipeline.encoder.config.num_concepts, search_pairs, estimator)
    result = {
        "model": public_name(config.model),
        "variant": config.variant,
        "num_pairs": config.num_pairs,
        "num_search_pairs": config.num_search_pairs,
        "seed": config.seed,
        "num_inference_steps": steps,
        "keep_noise": config.keep_noise,
        "estimator_accuracy": estimator_accuracy(pairs, estimator),
        "edits": {edit.name: score_edit(edit, pairs, estimator) for edit in tqdm(edits, desc="edits", disable=None)},
    }
    print_table(result)
    write_result(output, result)
    return result


def _evaluate_on_grid(config: SwapsConfig, pipeline: FDAEPipeline, steps: int, output: Path) -> dict[str, Any]:
    """Swap each code by itself and all of a kind, on a labelled grid."""
    num_concepts = pipeline.encoder.config.num_concepts
    if num_concepts < 2:
        raise FDAEError("a single-concept model has no concepts to swap")
    grid = open_grid(config.dataset, config.dataset_path, pipeline.encoder.config.sample_size)
    random_state = np.random.RandomState(config.seed)
    pairs = Pairs(pipeline, config.num_pairs, random_state, steps, config.keep_noise, config.batch_size, grid)
    result = {
        "model": public_name(config.model),
        "variant": config.variant,
        "dataset": config.dataset,
        "num_pairs": config.num_pairs,
        "seed": config.seed,
        "num_inference_steps": steps,
        "keep_noise": config.keep_noise,
        "factors_read": grid_accuracy(pairs, grid),
        "edits": score_grid_swaps(num_concepts, pairs, grid),
    }
    print_grid_table(result)
    write_result(output, result)
    return result


def print_table(result: dict[str, Any]) -> None:
    """Print the share of pictures with the right value of each factor; a star marks those that should change."""
    print(f"\n{result['model']}, {result['num_pairs']} pairs, {result['num_inference_steps']} steps")
    print(f"{'swapped':<37}" + "".join(f"{name:>12}" for name in (*FACTORS, "all", "PSNR (dB)")))
    for name, scores in result["edits"].items():
        codes = " ".join(kind[0] + ",".join(map(str, scores[kind])) for kind in ("content", "mask") if scores[kind])
        rates = [
            f"{rate:.3f}{'*' if factor in scores['changed'] else ' '}"
            for factor, rate in scores["as_expected"].items()
        ]
        cells = [*rates, f"{scores['all_as_expected']:.3f} ", f"{scores['psnr']:.1f} "]
        print(f"{name:<23}{codes:<14}" + "".join(f"{cell:>12}" for cell in cells))
    accuracy = min(result["estimator_accuracy"].values())
    print(f"(estimated from true pictures: {accuracy:.3f} right in every factor, at least)")
