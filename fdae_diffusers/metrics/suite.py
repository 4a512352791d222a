"""All metrics of one representation of a benchmark: each image is encoded once, every draw is a look-up.

Each metric starts from a fresh `RandomState(seed)`, so that its result does not depend on which others are computed.
The representation of a Factorized Diffusion Autoencoder is its N content codes followed by its N mask codes: K = 2N.

A metric is added by an entry of `METRICS`, from outside the package too: evaluation, flags, tables and cards read it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.random import RandomState
from tqdm.auto import tqdm

from .beta_vae import beta_vae_score
from .dci import dci
from .factor_grid import FactorGrid
from .factor_vae import factor_vae_score
from .irs import irs
from .leak import leak_metric
from .mig import mig, self_mig
from .modularity import modularity_explicitness
from .representation import Codes, Protocol, as_codes, components_per_code, describe
from .sap import sap

DEFAULT_METRICS = ("dci", "factor_vae", "mig", "self_mig")

DATA = ("grid", "train", "train_codes", "test")  # arguments by position, in this order
OPTIONS = (
    *("seed", "n_jobs", "progress", "num_train", "num_eval", "batch_size", "num_variance", "num_pca"),
    *("num_concepts", "appearance"),
)


@dataclass(frozen=True)
class Metric:
    """What the suite has to know of a metric.

    Attributes:
        function: Returns a dict of numbers and arrays. It gets the data it needs by position, then `protocol` and the
            options it needs by name. Codes come as a `CodeTable`; `CodeReducer` takes it, and so does `np.asarray`.
        needs: Names of what `function` takes. Data: `grid`, the codes and factors of all images; `train` and `test`,
            codes and factors of drawn images; `train_codes`, the former's codes alone. Options: `seed`; `n_jobs`;
            `progress`; `num_train`, `num_eval` and `batch_size`, the votes of FactorVAE and beta-VAE; `num_variance`
            and `num_pca`, the number of training images; `num_concepts` and `appearance`, as they were given.
        headline: Key of the one number in the result that tables and cards show.
        title: What they call it.

    Raises:
        ValueError: if there is no such need.
    """

    function: Callable[..., dict[str, Any]]
    needs: tuple[str, ...]
    headline: str
    title: str

    def __post_init__(self):
        if unknown := [need for need in self.needs if need not in DATA + OPTIONS]:
            raise ValueError(f"a metric cannot need {', '.join(unknown)}: choose from {', '.join(DATA + OPTIONS)}")


_SPLIT, _VOTES = ("train", "test"), ("grid", "seed", "num_train", "num_eval", "batch_size")

METRICS: dict[str, Metric] = {
    "dci": Metric(dci, (*_SPLIT, "seed", "n_jobs", "progress"), "disentanglement", "DCI disentanglement"),
    "factor_vae": Metric(factor_vae_score, (*_VOTES, "num_variance"), "eval_accuracy", "FactorVAE score"),
    "mig": Metric(mig, ("train",), "mig", "MIG"),
    "self_mig": Metric(self_mig, ("train_codes",), "self_mig", "self-MIG"),
    "beta_vae": Metric(beta_vae_score, (*_VOTES, "num_pca"), "eval_accuracy", "beta-VAE score"),
    "sap": Metric(sap, (*_SPLIT, "seed", "n_jobs"), "sap", "SAP"),
    "modularity_explicitness": Metric(modularity_explicitness, _SPLIT, "modularity", "Modularity"),
    "irs": Metric(irs, ("train",), "irs", "IRS"),
    "leak": Metric(
        leak_metric, (*_SPLIT, "seed", "n_jobs", "num_concepts", "appearance"), "mask_leak", "Leak of looks into masks"
    ),
}


def select_metrics(names: Iterable[str]) -> dict[str, Metric]:
    """Return the named metrics, in the order of `names`.

    Raises:
        ValueError: for a name that is not in `METRICS`; it lists those there are.
    """
    names = list(names)
    if unknown := sorted(set(names) - set(METRICS)):
        raise ValueError(f"unknown metrics {', '.join(unknown)}: choose from {', '.join(METRICS)}")
    return {name: METRICS[name] for name in names}


def drawn_rows(
    grid: FactorGrid, metrics: Iterable[str], seed: int, num_train: int, num_test: int
) -> np.ndarray | None:
    """Return the rows (m,), ascending, that `evaluate_codes` looks at; None if some metric needs all of them."""
    needs = {need for metric in select_metrics(metrics).values() for need in metric.needs}
    if "grid" in needs:
        return None
    counts = (num_train, num_test) if "test" in needs else (num_train,)
    return np.unique(np.concatenate([grid.rows(sample) for sample in _draw(grid, seed, *counts)]))


def evaluate_codes(
    codes: Codes,
    factors: np.ndarray,
    *,
    protocol: Protocol = "fdae",
    seed: int = 0,
    metrics: Sequence[str] = DEFAULT_METRICS,
    num_train: int = 10_000,
    num_test: int = 5_000,
    num_train_votes: int = 10_000,
    num_eval_votes: int = 5_000,
    vote_batch_size: int = 64,
    num_concepts: int | None = None,
    appearance: Sequence[bool] | None = None,
    n_jobs: int | None = -1,
    progress: bool = True,
) -> dict:
    """Score the codes of a full factor grid under one protocol.

    Args:
        codes: (n, K, d), content codes first, then mask codes; scalar codes (n, d); where codes differ in size a list
            of K arrays (n, d_k); or `FDAECodes` of n images. Any float type.
        factors: (n, F) integers: every combination of the factors once, in any order.
        protocol: `fdae` (the released code's), `scalar` (disentanglement_lib's) or `fast` (**not comparable with
            published numbers**), see `representation`.
        seed: of all draws and classifiers; K-means always starts from 0.
        metrics: names in `METRICS`.
        num_train: images every metric learns from (FactorVAE, beta-VAE: PCA and variances).
        num_test: images it is tested on (DCI, SAP, explicitness).
        num_train_votes: batches the classifier of the FactorVAE or beta-VAE score learns from.
        num_eval_votes: batches it is scored on.
        vote_batch_size: images (beta-VAE: pairs) per batch.
        num_concepts: N, for metrics that tell content codes from mask codes (leak).
        appearance: (F,), whether a factor is what things look like, for the same metrics.
        n_jobs: factors fitted at a time; -1 means all cores. Results do not depend on it.
        progress: show progress bars, on a terminal.

    Returns:
        One dict per metric, and how they came about: `protocol`, `representation` (in words), `components` (the
        dimensions of each code that are scored), `seed`, `counts` and `versions` of the libraries.

    Raises:
        ValueError: if `factors` is no full grid, shapes disagree, or a metric or protocol is unknown.
    """
    selected = select_metrics(metrics)
    table = as_codes(codes)
    grid = FactorGrid(factors, len(table))
    representation = describe(protocol, table.sizes)

    def data_for(metric: Metric) -> list[Any]:
        if "grid" in metric.needs:
            return [table, factors]
        samples = _draw(grid, seed, *((num_train, num_test) if "test" in metric.needs else (num_train,)))
        data = [array for sample in samples for array in (table[grid.rows(sample)], sample)]
        return data if "train" in metric.needs else data[:1]

    options: dict[str, Any] = {
        "seed": seed,
        "n_jobs": n_jobs,
        "progress": progress,
        "num_train": num_train_votes,
        "num_eval": num_eval_votes,
        "batch_size": vote_batch_size,
        "num_variance": num_train,
        "num_pca": num_train,
        "num_concepts": num_concepts,
        "appearance": appearance,
    }
    scores = {}
    for name in tqdm(selected, desc="Metrics", disable=None if progress else True):
        metric = selected[name]
        chosen = {need: options[need] for need in metric.needs if need in options}
        scores[name] = metric.function(*data_for(metric), protocol=protocol, **chosen)
    return scores | {
        "protocol": protocol,
        "representation": representation,
        "components": components_per_code(protocol, table.sizes),
        "seed": seed,
        "counts": {
            "images": len(table),
            "train": num_train,
            "test": num_test,
            "train_votes": num_train_votes,
            "eval_votes": num_eval_votes,
            "vote_batch_size": vote_batch_size,
        },
        "versions": {name: version(name) for name in ("fdae-diffusers", "numpy", "scikit-learn", "scipy")},
    }


def _draw(grid: FactorGrid, seed: int, *counts: int) -> list[np.ndarray]:
    """Draw samples of factor combinations one after another, (count, F) each."""
    random_state = RandomState(seed)
    return [grid.draw(count, random_state) for count in counts]
