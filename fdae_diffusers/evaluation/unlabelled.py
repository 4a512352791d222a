"""Score a model on images without labels: self-MIG and other metrics that look at codes alone."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from ..data import ImageDataset
from ..errors import FDAEError, user_errors
from ..metrics.representation import Protocol, as_codes, components_per_code, describe
from ..metrics.suite import select_metrics
from ..models import CMFNet
from .encode import encode_dataset

WITHOUT_LABELS = {"train_codes", "seed", "n_jobs", "progress"}  # what such metrics may need


def check_unlabelled_metrics(names: Sequence[str]) -> None:
    """Raise FDAEError if a metric needs labels."""
    with user_errors("cannot evaluate", ValueError):
        metrics = select_metrics(names)
    if labelled := [name for name, metric in metrics.items() if not set(metric.needs) <= WITHOUT_LABELS]:
        raise FDAEError(f"{', '.join(labelled)} need labels: name a benchmark as --dataset, or leave them out")


def evaluate_unlabelled(
    encoder: CMFNet,
    images: ImageDataset,
    metrics: Sequence[str],
    *,
    protocol: Protocol = "fdae",
    seed: int = 0,
    n_jobs: int | None = -1,
    batch_size: int = 256,
    num_workers: int = 0,
) -> dict[str, Any]:
    """Encode images and compute metrics that need no labels.

    Args:
        encoder: The model.
        images: Images of any kind; all are used.
        metrics: Names in `METRICS`, of those that need `train_codes` alone.
        protocol: As for :func:`~fdae_diffusers.metrics.evaluate_codes`.
        seed: Of whatever is drawn.
        n_jobs: Factors fitted at a time.
        batch_size: Images encoded at a time.
        num_workers: Processes that read images.

    Returns:
        What :func:`~fdae_diffusers.metrics.evaluate_codes` returns, of these metrics.

    Raises:
        FDAEError: If a metric needs labels, or the images do not suffice.
    """
    check_unlabelled_metrics(metrics)
    table = as_codes(encode_dataset(encoder, images, batch_size, num_workers))
    options: dict[str, Any] = {"seed": seed, "n_jobs": n_jobs, "progress": False}
    scores = {}
    with user_errors("cannot score the images", ValueError):
        representation = describe(protocol, table.sizes)
        for name, metric in select_metrics(metrics).items():
            chosen = {need: options[need] for need in metric.needs if need in options}
            scores[name] = metric.function(table, protocol=protocol, **chosen)
    return scores | {
        "protocol": protocol,
        "representation": representation,
        "components": components_per_code(protocol, table.sizes),
        "seed": seed,
        "counts": {"images": len(table), "train": len(table)},
        "versions": {name: version(name) for name in ("fdae-diffusers", "numpy", "scikit-learn", "scipy")},
    }
