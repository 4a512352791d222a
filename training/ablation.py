#!/usr/bin/env python
"""Ablation of the paper: train and score FDAE without its parts, over several seeds.

    python training/ablation.py --config training/configs/quickstart.yaml --dataset shapes3d-rendered \
        --output_dir outputs/ablation

The rows change the number of concepts and the two loss weights of the training's settings, nothing else. After every
run `ablation.md` and `ablation.json` are written anew from all runs in the folder. The same command goes on after an
interruption; several with different `--rows` or `--seeds` can share the work in one folder.
"""

from dataclasses import dataclass, field
from pathlib import Path

from fdae_diffusers.errors import FDAEError
from fdae_diffusers.studies.study import StudyConfig, Variant, run_study
from fdae_diffusers.studies.table import DCI, FACTOR_VAE, MIG, write_table
from fdae_diffusers.utils.arguments import parse_config, run_script

_NO_CD, _NO_ME = {"content_decorrelation": 0.0}, {"mask_entropy": 0.0}
ROWS = {
    variant.name: variant
    for variant in (
        Variant("baseline", "E + G (DiffAE, N = 1)", {"num_concepts": 1}),
        Variant("cmfnet", "+ CMFNet", {"loss_weights": {**_NO_CD, **_NO_ME}}),
        Variant("cd", "+ CMFNet, L_CD", {"loss_weights": _NO_ME}),
        Variant("me", "+ CMFNet, L_ME", {"loss_weights": _NO_CD}),
        Variant("full", "full (L_CD, L_ME)", {}),
    )
}


@dataclass
class AblationConfig(StudyConfig):
    """Settings of an ablation: those of a training, of an evaluation, and what to run."""

    rows: list[str] = field(default_factory=lambda: list(ROWS), metadata={"help": "baseline, cmfnet, cd, me, full."})

    def __post_init__(self):
        super().__post_init__()
        if unknown := sorted(set(self.rows) - set(ROWS)):
            raise FDAEError(f"unknown rows {', '.join(unknown)}: choose from {', '.join(ROWS)}")
        if self.encoder.get("num_concepts") == 1:
            raise FDAEError("num_concepts=1 is the row baseline: give the N of the others")


def main() -> None:
    """Run what is missing of the ablation with the settings of the command line."""
    ablate(parse_config(AblationConfig))


def ablate(config: AblationConfig) -> None:
    """Run the rows with all seeds and write the table after each.

    Raises:
        FDAEError: If the output folder holds something else, or a training or an evaluation fails.
    """

    def write(folder: Path) -> None:
        write_table(folder, "ablation", list(ROWS.values()), [DCI, FACTOR_VAE, MIG])

    run_study(config, [ROWS[name] for name in config.rows], write)
    print((Path(config.output_dir) / "ablation.md").read_text())


if __name__ == "__main__":
    run_script(main)
