"""The table of a study: mean and standard deviation over the seeds of every variant, as Markdown and JSON."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data import RENDERED_SHAPES3D
from ..utils.files import whole_file
from .study import Variant, read_runs

# (heading, metric, its value in metrics.json)
DCI = ("DCI", "dci", "disentanglement")
FACTOR_VAE = ("FactorVAE score", "factor_vae", "eval_accuracy")
MIG = ("MIG", "mig", "mig")
SELF_MIG = ("self-MIG", "self_mig", "self_mig")


def write_table(
    folder: Path, name: str, variants: Sequence[Variant], columns: Sequence[tuple[str, str, str]]
) -> list[dict[str, Any]]:
    """Write ``name.md`` and ``name.json`` from all complete runs in a study's folder.

    Args:
        folder: The study.
        name: Of the two files.
        variants: All that the study may have, in the order of the table; those without runs are left out.
        columns: Heading, metric and value of each score; those that were not computed are left out.

    Returns:
        The rows: `title`, `seeds`, and for each heading, `training_cpu_minutes` and `evaluation_cpu_minutes` a pair of
        mean and standard deviation (n - 1; None for a single run), or None if there is no value.
    """
    runs = read_runs(folder)
    rows = []
    for variant in variants:
        if own := [run for run in runs if run["variant"] == variant.name]:
            rows.append(summarize(variant.title, own, columns))
    for path, text in (
        (folder / f"{name}.json", json.dumps({"rows": rows, "runs": runs}, indent=2)),
        (folder / f"{name}.md", _markdown(rows, runs, columns)),
    ):
        with whole_file(path) as unfinished:
            unfinished.write_text(text + "\n")
    return rows


def summarize(title: str, runs: Sequence[dict[str, Any]], columns: Sequence[tuple[str, str, str]]) -> dict[str, Any]:
    """One row of the table from a variant's runs, see `write_table`."""
    scores = {
        heading: mean_and_std([run["scores"][metric][value] for run in runs if metric in run["scores"]])
        for heading, metric, value in columns
    }
    # A resumed run's record holds only the time since it went on.
    training = [run["training"]["cpu_seconds"] / 60 for run in runs if not run["training"]["first_step"]]
    return {
        "title": title,
        "seeds": sorted(run["seed"] for run in runs),
        **scores,
        "training_cpu_minutes": mean_and_std(training),
        "evaluation_cpu_minutes": mean_and_std([run["evaluation"]["cpu_seconds"] / 60 for run in runs]),
    }


def mean_and_std(values: Sequence[float]) -> tuple[float, float | None] | None:
    """Mean and standard deviation (n - 1); of one value there is no deviation, of none no mean."""
    if not values:
        return None
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def _markdown(rows: list[dict[str, Any]], runs: list[dict[str, Any]], columns: Sequence[tuple[str, str, str]]) -> str:
    headings = [heading for heading, _, _ in columns if any(row[heading] for row in rows)]
    lines = [
        f"| | {' | '.join(headings)} | CPU-minutes of training | of evaluation | seeds |",
        "| --- " * (len(headings) + 4) + "|",
    ]
    for row in rows:
        cells = [_cell(row[heading], ".3f") for heading in headings]
        cells += [_cell(row[f"{part}_cpu_minutes"], ".1f") for part in ("training", "evaluation")]
        lines.append(f"| {row['title']} | {' | '.join(cells)} | {len(row['seeds'])} |")
    return "\n".join([*lines, "", *_notes(runs)])


def _cell(pair: tuple[float, float | None] | None, form: str) -> str:
    if pair is None:
        return ""
    mean, deviation = pair
    return f"{mean:{form}}" + (f" ± {deviation:{form}}" if deviation is not None else "")


def _notes(runs: list[dict[str, Any]]) -> list[str]:
    """What the numbers are of, in words; all runs of a study share it."""
    training, evaluation = runs[0]["training"], runs[0]["evaluation"]
    config, counts, size = training["config"], evaluation["counts"], training["sample_size"]
    rendered = " (rendered again, not the real Shapes3D)" if evaluation["dataset"] == RENDERED_SHAPES3D else ""
    versions = {**training["versions"], **evaluation["versions"]}
    ways = sorted({run["evaluation"]["representation"] for run in runs})
    return [
        "Mean ± standard deviation (n - 1) over the seeds. "
        f"Preset {config['preset']}, {config['max_train_steps']:,} steps of {training['images_per_step']} images of "
        f"{config['dataset_name'] or config['train_data_dir']} at {size}x{size}; "
        f"scored on {evaluation['dataset']}{rendered} under protocol {evaluation['protocol']}, {counts['train']:,} / "
        f"{counts['test']:,} images, {counts['train_votes']:,} / {counts['eval_votes']:,} votes, seed "
        f"{evaluation['seed']}. CPU-minutes of training are those of the runs that were not interrupted.",
        "",
        *(f"- {way}" for way in ways),
        "",
        ", ".join(f"{name} {version}" for name, version in versions.items()),
    ]
