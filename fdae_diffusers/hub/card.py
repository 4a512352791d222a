"""The model card of a run, filled from what lies in its folder: settings, scores and pictures."""

import json
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..data import RENDERED_SHAPES3D, get_benchmark
from ..errors import FDAEError
from ..metrics.suite import METRICS
from ..utils.files import whole_file
from .files import (
    ATTRIBUTES_FILE,
    CARD_FILE,
    HEALTH_FILE,
    MASKS_FILE,
    METRICS_FILE,
    SWAPS_FILE,
    TRAINING_FILE,
    captions,
    variant_name,
)

TEMPLATE = Path(__file__).with_name("card.md")
AVERAGED = "ema"  # the variant that a training with averaged weights draws its pictures with


def write_model_card(folder: str | Path) -> Path:
    """Write ``README.md`` of a pipeline folder, with metadata that the Hub shows as evaluation results.

    The card shows what is there: ``health.json``, ``metrics.json``, ``masks.json``, ``swaps.json``,
    ``attributes.json`` and the pictures of `MODEL_FILES`. It names data by their Hub id or the last part of their
    path, never by an absolute path.

    Args:
        folder: A folder that :func:`~fdae_diffusers.training.train` wrote.

    Returns:
        The card's path.

    Raises:
        FileNotFoundError: If the folder has no ``training.json``.
    """
    folder = Path(folder)
    training = json.loads((folder / TRAINING_FILE).read_text())
    config = training["config"]
    scores, masks, swaps, attributes = (
        _read(folder / name) for name in (METRICS_FILE, MASKS_FILE, SWAPS_FILE, ATTRIBUTES_FILE)
    )
    averaged = _read(folder / variant_name(HEALTH_FILE, AVERAGED)) if config.get("use_ema") else None
    model_id = training.get("model_id") or _local_name(config, folder)
    model_name = model_id.split("/")[-1]
    table = score_table(scores) if scores else []
    dataset = public_name(config.get("dataset_name") or config.get("train_data_dir"))
    card = ModelCard.from_template(
        _card_data(model_name, training, scores, table),
        template_path=str(TEMPLATE),
        model_id=model_id,
        model_name=model_name,
        config=config,
        note=benchmark_note(dataset),
        scores_note=benchmark_note(scores["dataset"]) if scores else None,
        rendered=dataset == RENDERED_SHAPES3D,
        dataset=dataset,
        pictures=[
            {"file": name, "caption": caption} for name, caption in captions().items() if (folder / name).exists()
        ],
        parameters=f"{training['parameters']:,}",
        num_concepts=training["num_concepts"],
        sample_size=training["sample_size"],
        steps=f"{config['max_train_steps']:,}",
        batch_size=training["images_per_step"],
        loss_weights=_loss_weights(config),
        sampling=training.get("sampling") or [],
        cost=_cost(training),
        versions=", ".join(f"{name} {version}" for name, version in training["versions"].items()),
        health=averaged or _read(folder / HEALTH_FILE),
        scores=scores,
        table=table,
        masks=masks,
        swaps=swaps,
        attributes=attributes,
        attributes_dataset=public_name(attributes.get("dataset") or attributes.get("dataset_name") or dataset)
        if attributes
        else "",
    )
    with whole_file(folder / CARD_FILE) as unfinished:
        card.save(unfinished)
    return folder / CARD_FILE


def score_table(scores: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Return title and headline of each metric of `METRICS` that was computed.

    Args:
        scores: What ``metrics.json`` holds.
    """
    return [(metric.title, scores[name][metric.headline]) for name, metric in METRICS.items() if name in scores]


def _read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text()) if path.exists() else None


def _card_data(
    model_name: str, training: dict[str, Any], scores: dict[str, Any] | None, table: list[tuple[str, float]]
) -> ModelCardData:
    results = [
        EvalResult(
            task_type="image-feature-extraction",
            task_name="Disentanglement",
            dataset_type=scores["dataset"],
            dataset_name=scores["dataset"],
            metric_type=title.lower().replace(" ", "-"),
            metric_name=f"{title} (protocol {scores['protocol']})",
            metric_value=round(value, 4),
        )
        for title, value in table
        if scores is not None
    ]
    return ModelCardData(
        license=training["config"].get("license", "apache-2.0"),
        library_name="diffusers",
        pipeline_tag="image-to-image",
        tags=["fdae", "disentanglement", "diffusion-autoencoder", "fdae_diffusers"],
        datasets=[training["config"]["dataset_name"]] if training.get("data_on_hub") else None,
        model_name=model_name,
        eval_results=results or None,
    )


def _local_name(config: Mapping[str, Any], folder: Path) -> str:
    """The folder as it was named for training, from which the card's snippet loads it; of an absolute path the end."""
    name = folder.resolve().name
    output_dir = PurePath(config.get("output_dir", name))
    return str(output_dir) if output_dir.name == name and not output_dir.is_absolute() else name


def benchmark_note(dataset: str) -> str | None:
    """Return what a reader of scores on a data set has to know; None if there is nothing, or it is no benchmark."""
    try:
        return get_benchmark(dataset).note
    except FDAEError:
        return None


def public_name(dataset: str) -> str:
    """Return a name that may be published: Hub ids and relative paths as they are, of an absolute path the end."""
    path = PurePath(dataset)
    return path.name if path.is_absolute() else dataset


def _loss_weights(config: Mapping[str, Any]) -> str:
    """Name and weight of each loss term but the reconstruction; older records hold two of them as fields."""
    weights = config.get("loss_weights") or {
        name: config[f"{name}_weight"]
        for name in ("content_decorrelation", "mask_entropy")
        if f"{name}_weight" in config
    }
    return ", ".join(
        f"{name.replace('_', ' ')} {weight:g}" for name, weight in weights.items() if name != "reconstruction"
    )


def _cost(training: dict[str, Any]) -> str:
    """Wall time on so many processes of which device, and CPU time where that is the device."""
    cost = f"{training['wall_seconds'] / 60:.1f} minutes on {training['num_processes']} x {training['device']}"
    if training["device"] == "cpu":
        cost += f" ({training['num_threads']} threads, {training['cpu_seconds'] / 60:.1f} CPU-minutes)"
    if training["first_step"]:
        cost += f", from step {training['first_step']} on"
    return cost
