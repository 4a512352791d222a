"""Score a model on a disentanglement benchmark: encode every image once, compute the metrics, write `metrics.json`."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ..data import get_benchmark, load_benchmark
from ..errors import FDAEError, first_line
from ..hub.card import write_model_card
from ..hub.files import IMPORTANCE_FILE, METRICS_FILE, TRAINING_FILE
from ..hub.loading import load_pipeline
from ..metrics import evaluate_codes
from ..metrics.factor_grid import FactorGrid
from ..metrics.representation import NUM_BINS, describe
from ..metrics.suite import METRICS
from ..utils.arguments import check_at_least_one
from ..utils.files import output_file, whole_file
from ..visualization.figures import importance_figure
from .encode import encode_dataset


@dataclass
class EvaluationSettings:
    """How models are scored; the defaults are the released protocol with the paper's counts.

    Raises:
        FDAEError: If there is no such metric, or there are too few images.
    """

    dataset: str = field(metadata={"help": "shapes3d-rendered, shapes3d, cars3d, mpi3d-toy, mpi3d-real-complex, ..."})
    dataset_path: str | None = field(
        default=None, metadata={"help": "Local folder or Hub id of the data set, instead of its own place on the Hub."}
    )
    protocol: Literal["fdae", "scalar", "fast"] = field(
        default="fdae", metadata={"help": "fdae: released code; scalar: disentanglement_lib; fast: not comparable."}
    )
    metrics: list[str] = field(
        default_factory=lambda: ["dci", "factor_vae", "mig", "self_mig"], metadata={"help": "What to compute."}
    )
    num_train: int = field(default=10_000, metadata={"help": "Images that metrics are fitted on."})
    num_test: int = field(default=5_000, metadata={"help": "Images that they are tested on."})
    num_train_votes: int = field(default=10_000, metadata={"help": "Batches the FactorVAE classifier learns from."})
    num_eval_votes: int = field(default=5_000, metadata={"help": "Batches it is scored on."})
    batch_size: int = field(default=256, metadata={"help": "Images encoded at a time."})
    num_workers: int = field(default=0, metadata={"help": "Processes that read images for it."})
    n_jobs: int = field(default=-1, metadata={"help": "Factors fitted at a time; -1: one per core."})
    device: str | None = field(default=None, metadata={"help": "cuda, cpu, ...; an accelerator if there is one."})

    def __post_init__(self):
        if unknown := sorted(set(self.metrics) - set(METRICS)):
            raise FDAEError(f"unknown metrics {', '.join(unknown)}: choose from {', '.join(METRICS)}")
        if self.num_train < NUM_BINS:
            raise FDAEError(f"num_train must be at least {NUM_BINS}, the number of clusters, not {self.num_train}")
        check_at_least_one(self, ("num_test", "num_train_votes", "num_eval_votes", "batch_size"))


@dataclass
class EvaluationConfig(EvaluationSettings):
    """Settings of the evaluation of one model."""

    model: str = field(kw_only=True, metadata={"help": "Pipeline folder or Hub id."})
    variant: str | None = field(default=None, metadata={"help": "Weights of the model: ema for the averaged ones."})
    seed: int = field(default=0, metadata={"help": "Seed of all draws and classifiers."})
    cache_dir: str | None = field(default=None, metadata={"help": "Keep codes here: interrupted runs go on."})
    output: str | None = field(default=None, metadata={"help": "JSON file; metrics.json in a local model's folder."})


def evaluate(config: EvaluationConfig) -> dict[str, Any]:
    """Encode the benchmark, compute the metrics, print and write them; with DCI, draw its importances beside them.

    The figure is `importance.png` beside `metrics.json`, and `NAME-importance.png` beside another `NAME.json`.

    Raises:
        FDAEError: If the model or the data set cannot be loaded, or the metrics cannot score them.
    """
    output = output_file(config.output, config.model, METRICS_FILE)
    encoder = load_pipeline(config.model, config.device, config.variant).encoder
    images, factors = load_benchmark(config.dataset, config.dataset_path, encoder.config.sample_size)
    num_concepts = encoder.config.num_concepts
    with _told_clearly(config):  # before images are encoded
        FactorGrid(factors, len(images))
        describe(config.protocol, 2 * num_concepts if num_concepts > 1 else 1, encoder.config.content_dim)
    codes = encode_dataset(encoder, images, config.batch_size, config.num_workers, config.cache_dir)
    with _told_clearly(config):
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
            n_jobs=config.n_jobs,
        )
    result = {"model": config.model, "variant": config.variant, "dataset": config.dataset, **scores}
    print_table(result)
    with whole_file(output) as unfinished:
        unfinished.write_text(json.dumps(result, indent=2, default=np.ndarray.tolist) + "\n")
    print(f"written to {output}")
    own = output.name == METRICS_FILE
    picture = output.with_name(IMPORTANCE_FILE if own else f"{output.stem}-{IMPORTANCE_FILE}")
    picture.unlink(missing_ok=True)  # of the evaluation before
    if "dci" in scores:
        names = get_benchmark(config.dataset).factor_names
        figure = importance_figure(scores["dci"]["importance"], names, num_concepts)
        with whole_file(picture) as unfinished:
            figure.save(unfinished)
    if own and (output.parent / TRAINING_FILE).exists():
        write_model_card(output.parent)
    return result


@contextmanager
def _told_clearly(config: EvaluationConfig) -> Iterator[None]:
    """Tell what the metrics refuse in one line."""
    try:
        yield
    except ValueError as error:
        raise FDAEError(f"cannot score {config.model} on {config.dataset}: {first_line(error)}") from error


def print_table(result: dict[str, Any]) -> None:
    """Print every single number of the metrics that were computed."""
    print(f"\n{result['model']} on {result['dataset']}, protocol {result['protocol']}, seed {result['seed']}")
    for metric in METRICS:
        for name, value in result.get(metric, {}).items():
            if isinstance(value, float):
                print(f"  {metric:<24} {name:<24} {value:.4f}")
