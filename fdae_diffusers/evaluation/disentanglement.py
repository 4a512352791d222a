"""Score a model on a disentanglement benchmark: encode every image once, compute the metrics, write `metrics.json`."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from ..codes import FDAECodes
from ..data import BENCHMARKS, Benchmark, ImageDataset, get_benchmark, load_benchmark
from ..errors import FDAEError, user_errors
from ..hub.card import write_model_card
from ..hub.files import IMPORTANCE_FILE, METRICS_FILE, TRAINING_FILE
from ..metrics import evaluate_codes
from ..metrics.factor_grid import FactorGrid
from ..metrics.representation import NUM_BINS, describe
from ..metrics.suite import DEFAULT_METRICS, METRICS, drawn_rows, select_metrics
from ..models import CMFNet
from ..utils.arguments import check_at_least_one
from ..utils.files import whole_file
from ..visualization.figures import importance_figure
from .encode import code_sizes, encode_dataset
from .results import ResultConfig, public_name, result_path, write_result


@dataclass
class EvaluationSettings:
    """How models are scored; the defaults are the released protocol with the paper's counts.

    Raises:
        FDAEError: If there is no such metric, or there are too few images.
    """

    dataset: str = field(kw_only=True, metadata={"help": lambda: f"One of {', '.join(BENCHMARKS)}."})
    dataset_path: str | None = field(
        default=None, metadata={"help": "Local folder or Hub id of the data set, instead of its own place on the Hub."}
    )
    protocol: Literal["fdae", "scalar", "fast"] = field(
        default="fdae", metadata={"help": "fdae: released code; scalar: disentanglement_lib; fast: not comparable."}
    )
    metrics: list[str] = field(
        default_factory=lambda: list(DEFAULT_METRICS),
        metadata={"help": lambda: f"What to compute, of {', '.join(METRICS)}."},
    )
    num_train: int = field(default=10_000, metadata={"help": "Images that metrics are fitted on."})
    num_test: int = field(default=5_000, metadata={"help": "Images that they are tested on."})
    num_train_votes: int = field(default=10_000, metadata={"help": "Batches the FactorVAE classifier learns from."})
    num_eval_votes: int = field(default=5_000, metadata={"help": "Batches it is scored on."})
    batch_size: int = field(default=256, metadata={"help": "Images encoded at a time."})
    dataloader_num_workers: int = field(
        default=0, metadata={"help": "Processes that read images; 0 reads in the main process."}
    )
    n_jobs: int = field(default=-1, metadata={"help": "Factors fitted at a time; -1: one per core."})
    device: str | None = field(default=None, metadata={"help": "cuda, cpu, ...; an accelerator if there is one."})

    def __post_init__(self):
        with user_errors("cannot evaluate", ValueError):
            select_metrics(self.metrics)
        if self.num_train < NUM_BINS:
            raise FDAEError(f"num_train must be at least {NUM_BINS}, the number of clusters, not {self.num_train}")
        check_at_least_one(self, ("num_test", "num_train_votes", "num_eval_votes", "batch_size"))


@dataclass
class EvaluationConfig(EvaluationSettings, ResultConfig):
    """Settings of the evaluation of one model."""

    seed: int = field(default=0, metadata={"help": "Seed of all draws and classifiers."})
    codes_cache_dir: str | None = field(
        default=None, metadata={"help": "Keep codes here: an interrupted evaluation resumes."}
    )


def evaluate(config: EvaluationConfig) -> dict[str, Any]:
    """Encode the benchmark, compute the metrics, print and write them; with DCI, draw its importances beside them.

    Only images that some metric looks at are encoded. The figure is `importance.png` beside `metrics.json`, and
    `NAME-importance.png` beside another `NAME.json`.

    Returns:
        Model and data set by name, the variant, and what :func:`~fdae_diffusers.metrics.evaluate_codes` returns.

    Raises:
        FDAEError: If the model or the data set cannot be loaded, the metrics cannot score them, or there is a result
            already that is not to be replaced.
    """
    output = result_path(config, METRICS_FILE)
    benchmark = get_benchmark(config.dataset)
    encoder = config.load_pipeline().encoder
    images, factors = load_benchmark(config.dataset, config.dataset_path, encoder.config.sample_size)
    refused = f"cannot score {public_name(config.model)} on {config.dataset}"
    with user_errors(refused, ValueError):  # before images are encoded
        grid = FactorGrid(factors, len(images))
        describe(config.protocol, code_sizes(encoder))
        rows = drawn_rows(grid, config.metrics, config.seed, config.num_train, config.num_test)
    codes = _encode(config, encoder, images, rows)
    with user_errors(refused, ValueError):
        scores = evaluate_codes(
            codes,
            factors,
            protocol=config.protocol,
            seed=config.seed,
            metrics=config.metrics,
            num_train=config.num_train,
            num_test=config.num_test,
            num_train_votes=config.num_train_votes,
            num_eval_votes=config.num_eval_votes,
            num_concepts=encoder.config.num_concepts,
            appearance=[name in benchmark.appearance_factors for name in benchmark.factor_names],
            n_jobs=config.n_jobs,
        )
    result = {"model": public_name(config.model), "variant": config.variant, "dataset": config.dataset, **scores}
    print_table(result)
    write_result(output, result)
    own = output.name == METRICS_FILE
    picture = output.with_name(IMPORTANCE_FILE if own else f"{output.stem}-{IMPORTANCE_FILE}")
    picture.unlink(missing_ok=True)  # of the evaluation before
    if "dci" in scores:
        importance = even_rows(scores["dci"]["importance"], scores["components"], code_sizes(encoder))
        figure = importance_figure(importance, benchmark.factor_names, encoder.config.num_concepts)
        with whole_file(picture) as unfinished:
            figure.save(unfinished)
    if own and (output.parent / TRAINING_FILE).exists():
        write_model_card(output.parent)
    return result


def even_rows(importance: np.ndarray, components: list[int], sizes: list[int]) -> np.ndarray:
    """Give every code as many rows of DCI's importance (D, F) by rows of zeros, as the figure wants them.

    Args:
        importance: (D, F), code after code.
        components: How many rows belong to each code, or ones where each dimension was scored by itself.
        sizes: Dimensions of each code.
    """
    num_rows = components if len(components) == len(sizes) else sizes
    parts = np.split(importance, np.cumsum(num_rows)[:-1])
    return np.concatenate([np.pad(part, ((0, max(num_rows) - len(part)), (0, 0))) for part in parts])


def print_table(result: dict[str, Any]) -> None:
    """Print every single number of the metrics that were computed."""
    print(f"\n{result['model']} on {result['dataset']}, protocol {result['protocol']}, seed {result['seed']}")
    if note := get_benchmark(result["dataset"]).note:
        print(f"({note})")
    for metric in METRICS:
        for name, value in result.get(metric, {}).items():
            if isinstance(value, float):
                print(f"  {metric:<24} {name:<24} {value:.4f}")
    if "leak" in result:
        print_leak(result["leak"], get_benchmark(result["dataset"]))


def print_leak(leak: dict[str, Any], benchmark: Benchmark) -> None:
    """Print how well each factor is predicted from each code, 0 by chance; a star marks factors of appearance."""
    stars = ("*" if name in benchmark.appearance_factors else "" for name in benchmark.factor_names)
    names = [name + star for name, star in zip(benchmark.factor_names, stars, strict=True)]
    print(f"\n{'predicted from':<16}" + "".join(f"{name:>{len(name) + 2}}" for name in names))
    content, *mask = (
        np.split(np.asarray(leak["skill"]), [len(leak["skill"]) // 2]) if _has_masks(leak) else [leak["skill"]]
    )
    rows = [(f"content {concept}", skill) for concept, skill in enumerate(content)] + [
        ("all content", leak["content"])
    ]
    if mask:
        rows += [(f"mask {concept}", skill) for concept, skill in enumerate(mask[0])] + [("all masks", leak["mask"])]
    for title, skill in rows:
        print(
            f"{title:<16}" + "".join(f"{value:>{len(name) + 2}.2f}" for name, value in zip(names, skill, strict=True))
        )


def _has_masks(leak: dict[str, Any]) -> bool:
    return not np.isnan(leak["mask"]).all()


def _encode(config: EvaluationConfig, encoder: CMFNet, images: ImageDataset, rows: np.ndarray | None) -> FDAECodes:
    """Encode the images at some rows, or all; the codes of the others, which no metric looks at, are zero."""
    chosen = images if rows is None else images.select(rows)
    codes = encode_dataset(encoder, chosen, config.batch_size, config.dataloader_num_workers, config.codes_cache_dir)
    if rows is None:
        return codes

    def spread(kind: torch.Tensor) -> torch.Tensor:
        everywhere = kind.new_zeros(len(images), *kind.shape[1:])
        everywhere[torch.from_numpy(rows)] = kind
        return everywhere

    return FDAECodes(spread(codes.content), None if codes.mask is None else spread(codes.mask))
