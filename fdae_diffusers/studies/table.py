"""The table of a study: mean and standard deviation over the seeds of every row, as Markdown and JSON."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..hub.card import benchmark_note, public_name
from ..metrics.suite import METRICS
from ..utils.files import whole_file
from .study import Row, read_runs

# Of a health report, for tables.
HEALTH_TITLES = {
    "psnr": ("PSNR (dB)", ".1f"),
    "crispness": ("strongest mask", ".2f"),
    "num_alive": ("concepts alive", ".1f"),
    "content_inside": ("content inside its mask", ".2f"),
}


def write_table(
    folder: Path,
    name: str,
    rows: Sequence[Row],
    metrics: Sequence[str] | None = None,
    health: bool = False,
    remark: Callable[[list[dict[str, Any]]], str] | None = None,
) -> list[dict[str, Any]]:
    """Write ``name.md`` and ``name.json`` from all complete runs in a study's folder.

    Args:
        folder: The study.
        name: Of the two files.
        rows: All that the study may have, in the order of the table; those without runs are left out.
        metrics: Names in `METRICS`, one column each, in the order of the table; those that were not computed are left
            out. All by default.
        health: Also show the health of the models.
        remark: Makes a paragraph below the table from its rows.

    Returns:
        The rows: `title`, `seeds`, and for each metric's title, `training_cpu_minutes` and `evaluation_cpu_minutes` a
        pair of mean and standard deviation (n - 1; None for a single run), or None if there is no value. `health`, if
        it was measured, holds such pairs by the names of its numbers.
    """
    metrics = list(METRICS) if metrics is None else metrics
    runs = read_runs(folder)
    summaries = []
    for row in rows:
        if own := [run for run in runs if run["row"] == row.name]:
            summaries.append(summarize(row.title, own, metrics))
    for path, text in (
        (folder / f"{name}.json", json.dumps({"rows": summaries, "runs": runs}, indent=2)),
        (folder / f"{name}.md", _markdown(summaries, runs, metrics, health, remark)),
    ):
        with whole_file(path) as unfinished:
            unfinished.write_text(text + "\n")
    return summaries


def summarize(title: str, runs: Sequence[dict[str, Any]], metrics: Sequence[str]) -> dict[str, Any]:
    """Return one row of the table from its runs, see `write_table`."""
    scores = {
        METRICS[metric].title: mean_and_std(
            [run["scores"][metric][METRICS[metric].headline] for run in runs if metric in run["scores"]]
        )
        for metric in metrics
    }
    # A resumed run's record holds only the time since it was resumed.
    measured = [run["health"] for run in runs if run.get("health")]
    health = {name: mean_and_std([numbers[name] for numbers in measured]) for name in HEALTH_TITLES}
    training = [run["training"]["cpu_seconds"] / 60 for run in runs if not run["training"]["first_step"]]
    return {
        "title": title,
        "seeds": sorted(run["seed"] for run in runs),
        **scores,
        **({"health": health} if measured else {}),
        "training_cpu_minutes": mean_and_std(training),
        "evaluation_cpu_minutes": mean_and_std([run["evaluation"]["cpu_seconds"] / 60 for run in runs]),
    }


def mean_and_std(values: Sequence[float]) -> tuple[float, float | None] | None:
    """Return mean and standard deviation (n - 1); of one value there is no deviation, of none no mean."""
    if not values:
        return None
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def _markdown(
    rows: list[dict[str, Any]],
    runs: list[dict[str, Any]],
    metrics: Sequence[str],
    health: bool,
    remark: Callable[[list[dict[str, Any]]], str] | None,
) -> str:
    titles = [METRICS[metric].title for metric in metrics]
    headings = [title for title in titles if any(row[title] for row in rows)]
    shown = HEALTH_TITLES if health else {}
    columns = [*headings, *(title for title, _ in shown.values())]
    lines = [
        f"| | {' | '.join(columns)} | CPU-minutes of training | of evaluation | seeds |",
        "| --- " * (len(columns) + 4) + "|",
    ]
    for row in rows:
        cells = [_cell(row[heading], ".3f") for heading in headings]
        cells += [_cell(row.get("health", {}).get(name), form) for name, (_, form) in shown.items()]
        cells += [_cell(row[f"{part}_cpu_minutes"], ".1f") for part in ("training", "evaluation")]
        lines.append(f"| {row['title']} | {' | '.join(cells)} | {len(row['seeds'])} |")
    remarks = [remark(rows), ""] if remark is not None else []
    return "\n".join([*lines, "", *remarks, *_notes(runs)])


def _cell(pair: tuple[float, float | None] | None, form: str) -> str:
    if pair is None:
        return ""
    mean, deviation = pair
    return f"{mean:{form}}" + (f" ± {deviation:{form}}" if deviation is not None else "")


def _notes(runs: list[dict[str, Any]]) -> list[str]:
    """Notes under the table: data, protocol, counts, versions. All runs of a study share them."""
    training, evaluation = runs[0]["training"], runs[0]["evaluation"]
    config, counts, size = training["config"], evaluation["counts"], training["sample_size"]
    note = benchmark_note(evaluation["dataset"])
    note = f" ({note})" if note else ""
    versions = {**training["versions"], **evaluation["versions"]}
    amounts = f"{counts['train']:,} images without labels"
    if "test" in counts:
        images, votes = (
            f"{counts[a]:,} / {counts[b]:,}" for a, b in (("train", "test"), ("train_votes", "eval_votes"))
        )
        amounts = f"{images} images, {votes} votes"
    ways = sorted({run["evaluation"]["representation"] for run in runs})
    return [
        "Mean ± standard deviation (n - 1) over the seeds. "
        f"Preset {config['preset']}, {config['max_train_steps']:,} steps of {training['images_per_step']} images of "
        f"{public_name(config['dataset_name'] or config['train_data_dir'])} at {size}x{size}; "
        f"scored on {evaluation['dataset']}{note} under protocol {evaluation['protocol']}, {amounts}, seed "
        f"{evaluation['seed']}. CPU-minutes of training are those of the runs that were not interrupted.",
        "",
        *(f"- {way}" for way in ways),
        "",
        ", ".join(f"{name} {version}" for name, version in versions.items()),
    ]
