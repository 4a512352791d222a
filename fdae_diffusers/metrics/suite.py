"""All metrics of one representation of a benchmark: each image is encoded once, every draw is a look-up.

Each metric starts from a fresh `RandomState(seed)`, so that its result does not depend on which others are computed.
The representation of a Factorized Diffusion Autoencoder is its N content codes followed by its N mask codes: K = 2N.
"""

from collections.abc import Sequence
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
from .mig import mig, self_mig
from .modularity import modularity_explicitness
from .representation import Protocol, as_codes, describe
from .sap import sap

METRICS = ("dci", "factor_vae", "mig", "self_mig", "beta_vae", "sap", "modularity_explicitness", "irs")


def evaluate_codes(
    codes: np.ndarray,
    factors: np.ndarray,
    *,
    protocol: Protocol = "fdae",
    seed: int = 0,
    metrics: Sequence[str] = ("dci", "factor_vae", "mig", "self_mig"),
    num_train: int = 10_000,
    num_test: int = 5_000,
    num_train_votes: int = 10_000,
    num_eval_votes: int = 5_000,
    vote_batch_size: int = 64,
    n_jobs: int | None = -1,
    progress: bool = True,
) -> dict:
    """Score the codes of a full factor grid under one protocol.

    Args:
        codes: (n, K, d), content codes first, then mask codes; or scalar codes (n, d). Any float type.
        factors: (n, F) integers: every combination of the factors once, in any order.
        protocol: `fdae` (the released code's), `scalar` (disentanglement_lib's) or `fast` (**not comparable with
            published numbers**), see `representation`.
        seed: of all draws, K-means and classifiers.
        metrics: any of `dci`, `factor_vae`, `mig`, `self_mig`, `beta_vae`, `sap`, `modularity_explicitness`, `irs`.
        num_train: images every metric learns from (FactorVAE, beta-VAE: PCA and variances).
        num_test: images it is tested on (DCI, SAP, explicitness).
        num_train_votes: batches the classifier of the FactorVAE or beta-VAE score learns from.
        num_eval_votes: batches it is scored on.
        vote_batch_size: images (beta-VAE: pairs) per batch.
        n_jobs: factors fitted at a time; -1 means all cores. Results do not depend on it.
        progress: show progress bars.

    Returns:
        One dict per metric, and how they came about: `protocol`, `representation` (in words), `seed`, `counts` and
        `versions` of the libraries.

    Raises:
        ValueError: if `factors` is no full grid, shapes disagree, or a metric or protocol is unknown.
    """
    unknown = set(metrics) - set(METRICS)
    if unknown:
        raise ValueError(f"unknown metrics {sorted(unknown)}, choose from {METRICS}")
    codes = as_codes(codes)
    grid = FactorGrid(factors, len(codes))
    representation = describe(protocol, *codes.shape[1:])

    def draw(*counts: int) -> list[np.ndarray]:
        random_state = RandomState(seed)
        drawn = [grid.draw(count, random_state) for count in counts]
        return [array for sample in drawn for array in (codes[grid.rows(sample)], sample)]

    def compute(metric: str) -> dict:
        options: dict[str, Any] = {"protocol": protocol, "seed": seed}
        votes = options | {"num_train": num_train_votes, "num_eval": num_eval_votes, "batch_size": vote_batch_size}
        match metric:
            case "dci":
                return dci(*draw(num_train, num_test), **options, n_jobs=n_jobs, progress=progress)
            case "sap":
                return sap(*draw(num_train, num_test), **options, n_jobs=n_jobs)
            case "modularity_explicitness":
                return modularity_explicitness(*draw(num_train, num_test), **options)
            case "mig":
                return mig(*draw(num_train), **options)
            case "self_mig":
                return self_mig(draw(num_train)[0], **options)
            case "irs":
                return irs(*draw(num_train), protocol=protocol)
            case "factor_vae":
                return factor_vae_score(codes, factors, **votes, num_variance=num_train)
            case _:
                return beta_vae_score(codes, factors, **votes, num_pca=num_train)

    scores = {metric: compute(metric) for metric in tqdm(metrics, desc="Metrics", disable=not progress)}
    return scores | {
        "protocol": protocol,
        "representation": representation,
        "seed": seed,
        "counts": {
            "images": len(codes),
            "train": num_train,
            "test": num_test,
            "train_votes": num_train_votes,
            "eval_votes": num_eval_votes,
            "vote_batch_size": vote_batch_size,
        },
        "versions": {name: version(name) for name in ("fdae-diffusers", "numpy", "scikit-learn", "scipy")},
    }
