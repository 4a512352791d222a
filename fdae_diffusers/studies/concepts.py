"""Choose the number of concepts N without labels, by self-MIG (FDAE, eq. 13): train with each N and compare."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from matplotlib.figure import Figure

from ..errors import FDAEError
from ..metrics.suite import METRICS
from ..utils.files import whole_file
from .study import Row, StudyConfig, run_study
from .table import write_table

TABLE = "concepts"
METRIC = "self_mig"
ROWS = {n: Row(f"concepts-{n:02d}", f"N = {n}", {"num_concepts": n}) for n in range(2, 19)}


@dataclass
class SelectionConfig(StudyConfig):
    """Settings of a selection: those of a training, of an evaluation, and what to compare."""

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


def select_concepts(config: SelectionConfig) -> int:
    """Run what is missing of the candidates with all seeds; write table and plot after each run, print the table.

    ``concepts.md``, ``concepts.json`` and ``concepts.png`` have all complete runs in the folder, also those of other
    calls, which may run at the same time.

    Args:
        config: The settings.

    Returns:
        The N of the highest mean self-MIG among all complete runs in the folder.

    Raises:
        FDAEError: If the output folder holds something else, or a training or an evaluation fails.
    """
    title = METRICS[METRIC].title
    columns = [METRIC, *(metric for metric in METRICS if metric != METRIC)]
    concepts = {row.title: n for n, row in ROWS.items()}

    def write(folder: Path) -> int:
        rows = write_table(folder, TABLE, list(ROWS.values()), columns)
        points = [(concepts[row["title"]], *row[title]) for row in rows]
        with whole_file(folder / f"{TABLE}.png") as unfinished:
            self_mig_figure(points).savefig(unfinished, format="png", dpi=150)
        return max(points, key=lambda point: point[1])[0]

    run_study(config, [ROWS[n] for n in config.candidates], write)
    folder = Path(config.output_dir)
    chosen = write(folder)
    print((folder / f"{TABLE}.md").read_text())
    return chosen


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
