#!/usr/bin/env python
"""Choose the number of concepts N without labels, by self-MIG (FDAE, eq. 13): train with each N and compare.

    python training/select_concepts.py --config training/configs/quickstart.yaml --dataset shapes3d-rendered \
        --output_dir outputs/concepts

After every run `concepts.md`, `concepts.json` and `concepts.png` are written anew from all runs in the folder. The
same command goes on after an interruption; several with different `--candidates` or `--seeds` can share the work in
one folder.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from matplotlib.figure import Figure

from fdae_diffusers.errors import FDAEError
from fdae_diffusers.studies.study import StudyConfig, Variant, run_study
from fdae_diffusers.studies.table import DCI, FACTOR_VAE, MIG, SELF_MIG, write_table
from fdae_diffusers.utils.arguments import parse_config, run_script
from fdae_diffusers.utils.files import whole_file

VARIANTS = {n: Variant(f"concepts-{n:02d}", f"N = {n}", {"num_concepts": n}) for n in range(2, 19)}


@dataclass
class SelectionConfig(StudyConfig):
    """Settings of a selection: those of a training, of an evaluation, and what to compare."""

    candidates: list[int] = field(
        default_factory=lambda: list(range(2, 11)), metadata={"help": "Numbers of concepts to compare, 2 to 18."}
    )
    metrics: list[str] = field(
        default_factory=lambda: ["self_mig"], metadata={"help": "What to compute; self_mig, which chooses, is a must."}
    )

    def __post_init__(self):
        super().__post_init__()
        if unknown := sorted(set(self.candidates) - set(VARIANTS)):
            raise FDAEError(f"candidates must lie within 2 to 18, not {unknown}: 2N codes share 36 components")
        if "self_mig" not in self.metrics:
            raise FDAEError("metrics must include self_mig, which chooses")


def main() -> None:
    """Run what is missing of the selection with the settings of the command line."""
    select(parse_config(SelectionConfig))


def select(config: SelectionConfig) -> int:
    """Run the candidates with all seeds; write table and plot after each.

    Returns:
        The N of the highest mean self-MIG among all complete runs in the folder.

    Raises:
        FDAEError: If the output folder holds something else, or a training or an evaluation fails.
    """

    concepts = {variant.title: n for n, variant in VARIANTS.items()}

    def write(folder: Path) -> int:
        rows = write_table(folder, "concepts", list(VARIANTS.values()), [SELF_MIG, DCI, FACTOR_VAE, MIG])
        points = [(concepts[row["title"]], *row["self-MIG"]) for row in rows]
        with whole_file(folder / "concepts.png") as unfinished:
            self_mig_figure(points).savefig(unfinished, format="png", dpi=150)
        return max(points, key=lambda point: point[1])[0]

    run_study(config, [VARIANTS[n] for n in config.candidates], write)
    folder = Path(config.output_dir)
    chosen = write(folder)
    print((folder / "concepts.md").read_text())
    print(f"highest self-MIG: N = {chosen}")
    return chosen


def self_mig_figure(points: Sequence[tuple[int, float, float | None]]) -> Figure:
    """Mean self-MIG over N, with its standard deviation where there is one; the highest point is filled."""
    concepts, means, deviations = zip(*points, strict=True)
    figure = Figure(figsize=(4.5, 3), layout="constrained")
    axes = figure.subplots()
    axes.errorbar(concepts, means, [deviation or 0 for deviation in deviations], marker="o", mfc="white", capsize=3)
    best = max(points, key=lambda point: point[1])
    axes.plot(*best[:2], "o", color="C0")
    axes.set(xlabel="number of concepts N", ylabel="self-MIG", xticks=concepts)
    return figure


if __name__ == "__main__":
    run_script(main)
