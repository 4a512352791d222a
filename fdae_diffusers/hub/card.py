"""The model card of a run, filled from what lies in its folder: settings, scores and pictures."""

import json
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..data import RENDERED_SHAPES3D
from ..utils.files import whole_file
from .files import CARD_FILE, METRICS_FILE, TRAINING_FILE, captions

# (metric, its value in metrics.json, name in the card)
SCORES = (
    ("dci", "disentanglement", "DCI disentanglement"),
    ("dci", "completeness", "DCI completeness"),
    ("dci", "informativeness_test", "DCI informativeness"),
    ("factor_vae", "eval_accuracy", "FactorVAE score"),
    ("mig", "mig", "MIG"),
    ("self_mig", "self_mig", "self-MIG"),
)


def write_model_card(folder: str | Path) -> Path:
    """Write ``README.md`` of a pipeline folder, with metadata that the Hub shows as evaluation results.

    Args:
        folder: A folder that :func:`~fdae_diffusers.training.train` wrote; ``metrics.json`` of
            ``training/evaluate_fdae.py`` is used if it is there.

    Raises:
        FileNotFoundError: If the folder has no ``training.json``.
    """
    folder = Path(folder)
    training = json.loads((folder / TRAINING_FILE).read_text())
    scores = json.loads((folder / METRICS_FILE).read_text()) if (folder / METRICS_FILE).exists() else None
    config = training["config"]
    model_id = training["model_id"] or folder.resolve().name
    table = _table(scores) if scores else []
    card = ModelCard.from_template(
        _card_data(model_id.split("/")[-1], training, scores, table),
        template_path=str(Path(__file__).with_name("card.md")),
        model_id=model_id,
        model_name=model_id.split("/")[-1],
        config=config,
        rendered=config["dataset_name"] == RENDERED_SHAPES3D,
        dataset=config["dataset_name"] or config["train_data_dir"],
        pictures=[
            {"file": name, "caption": caption} for name, caption in captions().items() if (folder / name).exists()
        ],
        parameters=f"{training['parameters']:,}",
        num_concepts=training["num_concepts"],
        sample_size=training["sample_size"],
        steps=f"{config['max_train_steps']:,}",
        batch_size=training["images_per_step"],
        cost=_cost(training),
        versions=", ".join(f"{name} {version}" for name, version in training["versions"].items()),
        scores=scores,
        table=table,
    )
    with whole_file(folder / CARD_FILE) as unfinished:
        card.save(unfinished)
    return folder / CARD_FILE


def _card_data(
    model_name: str, training: dict[str, Any], scores: dict[str, Any] | None, table: list[tuple[str, float]]
) -> ModelCardData:
    results = [
        EvalResult(
            task_type="image-feature-extraction",
            task_name="Disentanglement",
            dataset_type=scores["dataset"],
            dataset_name=scores["dataset"],
            metric_type=name.lower().replace(" ", "-"),
            metric_name=f"{name} (protocol {scores['protocol']})",
            metric_value=round(value, 4),
        )
        for name, value in table
        if scores is not None
    ]
    return ModelCardData(
        license=training["config"]["license"],
        library_name="diffusers",
        pipeline_tag="image-to-image",
        tags=["fdae", "disentanglement", "diffusion-autoencoder", "fdae_diffusers"],
        datasets=[training["config"]["dataset_name"]] if training.get("data_on_hub") else None,
        model_name=model_name,
        eval_results=results or None,
    )


def _table(scores: dict[str, Any]) -> list[tuple[str, float]]:
    return [(title, scores[metric][value]) for metric, value, title in SCORES if metric in scores]


def _cost(training: dict[str, Any]) -> str:
    """Wall time on so many processes of which device, and CPU time where that is the device."""
    cost = f"{training['wall_seconds'] / 60:.1f} minutes on {training['num_processes']} x {training['device']}"
    if training["device"] == "cpu":
        cost += f" ({training['num_threads']} threads, {training['cpu_seconds'] / 60:.1f} CPU-minutes)"
    if training["first_step"]:
        cost += f", from step {training['first_step']} on"
    return cost
