"""Choose the number of concepts N without labels: train with each N, compare self-MIG (FDAE, eq. 13) and health.

Self-MIG alone does not settle N: masks that are fog, or concepts that no picture shows, can have independent codes
too. So an N is recommended in two steps. First, an N is sound if, on average over its seeds, the strongest concept of
a pixel has at least 0.6 of it, at most half a concept is dead, and reconstructions are within 1 dB of the best N.
Then, of the sound ones, the N of the highest self-MIG; if none is sound, the one of all, with a warning. Look at
masks.png of its runs before you believe it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ..errors import FDAEError
from ..evaluation.unlabelled import check_unlabelled_metrics
from ..health.report import FOG
from ..metrics.suite import METRICS
from ..utils.files import whole_file
from .study import Row, StudyConfig, run_study
from .table import write_table

TABLE = "concepts"
METRIC = "self_mig"
MAX_DEAD = 0.5  # concepts, mean over the seeds
MAX_LOSS = 1.0  # dB below the best N
ROWS = {n: Row(f"concepts-{n:02d}", f"N = {n}", {"num_concepts": n}) for n in range(2, 19)}


@dataclass
class SelectionConfig(StudyConfig):
    """Settings of a selection: those of a training, of an evaluation, and what to compare."""

    dataset: str | None = field(  # type: ignore[assignment]
        default=None,
        kw_only=True,
        metadata={"help": "Benchmark to score on, if there are labels; without, the training images are scored."},
    )
    candidates: list[int] = field(
        default_factory=lambda: list(range(2, 11)), metadata={"help": "Numbers of concepts to compare, 2 to 18."}
    )
    metrics: list[str] = field(
        default_factory=lambda: [METRIC],
        metadata={"help": "What to compute; self_mig, which chooses, is a must."},
    )

    def __post_init__(self):
        super().__post_init__()
        if unknown := sorted(set(self.candidates) - set(ROWS)):
            raise FDAEError(f"candidates must lie within 2 to 18, not {unknown}: 2N codes share 36 components")
        if METRIC not in self.metrics:
            raise FDAEError(f"metrics must include {METRIC}, which chooses")
        if self.dataset is None:
            check_unlabelled_metrics(self.metrics)
            if self.streaming:
                raise FDAEError("a selection without labels reads its images again: leave streaming out")


def select_concepts(config: SelectionConfig) -> int:
    """Run what is missing of the candidates with all seeds; write table and plot after each run, print the table.

    ``concepts.md``, ``concepts.json`` and ``concepts.png`` have all complete runs in the folder, also those of other
    calls, which may run at the same time.

    Args:
        config: The settings.

    Returns:
        The recommended N among all complete runs in the folder, see `recommend`.

    Raises:
        FDAEError: If the output folder holds something else, or a training or an evaluation fails.
    """
    title = METRICS[METRIC].title
    columns = [METRIC, *(metric for metric in METRICS if metric != METRIC)]
    concepts = {row.title: n for n, row in ROWS.items()}

    def named(rows: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
        return {concepts[row["title"]]: row for row in rows}

    def write(folder: Path) -> int:
        rows = write_table(
            folder, TABLE, list(ROWS.values()), columns, health=True, remark=lambda rows: recommend(named(rows))[1]
        )
        points = [(concepts[row["title"]], *row[title]) for row in rows]
        with whole_file(folder / f"{TABLE}.png") as unfinished:
            self_mig_figure(points).savefig(unfinished, format="png", dpi=150)
        return recommend(named(rows))[0]

    run_study(config, [ROWS[n] for n in config.candidates], write)
    folder = Path(config.output_dir)
    chosen = write(folder)
    print((folder / f"{TABLE}.md").read_text())
    return chosen


def recommend(rows: Mapping[int, dict[str, Any]]) -> tuple[int, str]:
    """Recommend an N from the rows of the table, by the rule at the head of this module.

    Args:
        rows: Of each N, what `summarize` returns.

    Returns:
        N, and why in a paragraph.
    """
    title = METRICS[METRIC].title
    faults = {n: _faults(n, row, rows) for n, row in rows.items()}
    sound = [n for n, found in faults.items() if not found]
    chosen = max(sound or rows, key=lambda n: rows[n][title][0])
    excluded = "; ".join(f"N = {n}: {', '.join(found)}" for n, found in faults.items() if found)
    if sound:
        reason = f"the highest {title} of those whose masks and pictures are sound"
    else:
        reason = f"the highest {title} of all, **but none is sound**: train longer or otherwise first"
    text = f"Recommended: **N = {chosen}**, {reason}. {title} alone does not settle N: look at the masks of its runs."
    return chosen, text + (f" Not sound: {excluded}." if excluded else "")


def _faults(n: int, row: dict[str, Any], rows: Mapping[int, dict[str, Any]]) -> list[str]:
    """What speaks against an N; nothing where no health was measured."""
    if "health" not in row:
        return []
    health = {name: pair[0] for name, pair in row["health"].items()}
    measured = [other["health"]["psnr"][0] for other in rows.values() if "health" in other]
    best = max((psnr for psnr in measured if not math.isnan(psnr)), default=math.nan)
    faults = []
    if not health["crispness"] >= FOG:
        faults.append(f"masks are fog ({health['crispness']:.2f})")
    if not health["num_alive"] >= n - MAX_DEAD:
        faults.append(f"{health['num_alive']:.1f} concepts are alive")
    if not health["psnr"] >= best - MAX_LOSS:
        faults.append(f"{best - health['psnr']:.1f} dB worse than the best")
    return faults


def self_mig_figure(points: Sequence[tuple[int, float, float | None]]) -> Figure:
    """Plot mean self-MIG over N, with its standard deviation where there is one; the highest point is filled."""
    concepts, means, deviations = zip(*points, strict=True)
    figure = Figure(figsize=(4.5, 3), layout="constrained")
    axes = figure.subplots()
    axes.errorbar(concepts, means, [deviation or 0 for deviation in deviations], marker="o", mfc="white", capsize=3)
    best = max(points, key=lambda point: point[1])
    axes.plot(*best[:2], "o", color="C0")
    axes.set(xlabel="number of concepts N", ylabel="self-MIG", xticks=concepts)
    return figure
