"""The paper's ablation (table 3): train and score FDAE without its parts, over several seeds.

The rows change the number of concepts and the loss weights of the training's settings, nothing else:

    baseline    E + G, one concept: DiffAE
    cmfnet      with CMFNet, and the reconstruction as the only loss
    TERM        for each other term of `LOSS_TERMS`: CMFNet and this term alone
    full        all terms

A term that is registered in `LOSS_TERMS` has a row of its name.
"""

from dataclasses import dataclass, field
from pathlib import Path

from ..errors import FDAEError
from ..losses import LOSS_TERMS, RECONSTRUCTION
from .study import Row, StudyConfig, run_study
from .table import write_table

TABLE = "ablation"


def ablation_rows() -> dict[str, Row]:
    """Return all rows by name, in the order of the table; those of the loss terms follow from `LOSS_TERMS`."""
    terms = {name: term.symbol for name, term in LOSS_TERMS.items() if name != RECONSTRUCTION}

    def without(*absent: str) -> dict[str, dict[str, float]]:
        return {"loss_weights": dict.fromkeys(absent, 0.0)}

    rows = [
        Row("baseline", "E + G (DiffAE, N = 1)", {"num_concepts": 1}),
        Row("cmfnet", "+ CMFNet", without(*terms)),
        *(
            Row(name, f"+ CMFNet, {symbol}", without(*(other for other in terms if other != name)))
            for name, symbol in terms.items()
        ),
        Row("full", f"full ({', '.join(terms.values())})", {}),
    ]
    return {row.name: row for row in rows}


@dataclass
class AblationConfig(StudyConfig):
    """Settings of an ablation: those of a training, of an evaluation, and the rows to run."""

    rows: list[str] = field(
        default_factory=lambda: list(ablation_rows()),
        metadata={"help": "baseline, cmfnet, full, and names of loss terms: with this one alone."},
    )

    def __post_init__(self):
        super().__post_init__()
        rows = ablation_rows()
        if unknown := sorted(set(self.rows) - set(rows)):
            raise FDAEError(f"unknown rows {', '.join(unknown)}: choose from {', '.join(rows)}")
        if self.encoder.get("num_concepts") == 1:
            raise FDAEError("num_concepts=1 is the row baseline: give the N of the others")


def ablate(config: AblationConfig) -> str:
    """Run what is missing of the rows with all seeds; write ``ablation.md`` and ``ablation.json`` after each run.

    The table has all complete runs in the folder, also those of other calls, which may run at the same time.

    Args:
        config: The settings.

    Returns:
        The table in Markdown.

    Raises:
        FDAEError: If the output folder holds something else, or a training or an evaluation fails.
    """
    rows = ablation_rows()

    def write(folder: Path) -> None:
        write_table(folder, TABLE, list(rows.values()))

    run_study(config, [rows[name] for name in config.rows], write)
    return (Path(config.output_dir) / f"{TABLE}.md").read_text()
