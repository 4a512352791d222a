"""Studies: many trainings that differ in a few settings and the seed, each scored in the same way.

One folder holds one study. Its runs may be made by several processes side by side, each with its share of the
variants or seeds, and after an interruption the same command goes on where it stopped:

    study.json            settings that all runs share; a run with others is refused
    VARIANT-seedSEED/     a run: pipeline, training.json, metrics.json, and run.json when it is complete
"""

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from ..errors import FDAEError
from ..files import whole_file
from .checkpoints import list_checkpoints
from .config import FREE_ON_RESUME, TrainingConfig
from .model_card import TRAINING_FILE
from .trainer import train

STUDY_FILE = "study.json"
RUN_FILE = "run.json"
EVALUATION_SETTINGS = (
    *("dataset", "dataset_path", "protocol", "metrics"),
    *("num_train", "num_test", "num_train_votes", "num_eval_votes"),
)


@dataclass
class StudyConfig(TrainingConfig):
    """Settings of a study: those of a training, which the variants change, and those of the evaluation.

    Raises:
        FDAEError: If values contradict each other or are out of range.
    """

    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "Seeds of each variant's runs."})

    # --- Evaluation
    dataset: str | None = field(
        default=None, metadata={"help": "Benchmark to score on: shapes3d-rendered, shapes3d, cars3d, ..."}
    )
    dataset_path: str | None = field(
        default=None, metadata={"help": "Local folder or Hub id of it, instead of its own place on the Hub."}
    )
    protocol: Literal["fdae", "scalar", "fast"] = field(
        default="fdae", metadata={"help": "fdae: released code; scalar: disentanglement_lib; fast: not comparable."}
    )
    metrics: list[str] = field(
        default_factory=lambda: ["dci", "factor_vae", "mig", "self_mig"], metadata={"help": "What to compute."}
    )
    num_train: int = field(default=10_000, metadata={"help": "Images that metrics are fitted on."})
    num_test: int = field(default=5_000, metadata={"help": "Images that they are tested on."})
    num_train_votes: int = field(default=10_000, metadata={"help": "Batches the FactorVAE classifier learns from."})
    num_eval_votes: int = field(default=5_000, metadata={"help": "Batches it is scored on."})
    n_jobs: int = field(default=1, metadata={"help": "Factors fitted at a time; -1: one per core."})

    def __post_init__(self):
        super().__post_init__()
        if self.dataset is None:
            raise FDAEError("name the benchmark to score on: dataset")
        for name in ("seed", "push_to_hub", "resume_from_checkpoint"):
            if getattr(self, name):
                raise FDAEError(f"a study has no {name}: it takes seeds, goes on by itself and pushes nothing")
        if len(set(self.seeds)) < len(self.seeds):
            raise FDAEError(f"seeds are repeated: {self.seeds}")


@dataclass(frozen=True)
class Variant:
    """One row of a study's table.

    Args:
        name: Start of the names of its runs' folders.
        title: What the table calls it.
        settings: Fields of `TrainingConfig` that it changes.
    """

    name: str
    title: str
    settings: Mapping[str, Any]


def open_study(config: StudyConfig) -> Path:
    """Return the folder of a study, new or begun with the same settings.

    Raises:
        FDAEError: If the folder holds something else or a study with other settings.
    """
    folder = Path(config.output_dir)
    training = {name for name in _training_fields() if name not in FREE_ON_RESUME} | {"max_train_steps"}
    shared = {name: getattr(config, name) for name in sorted(training - {"seed"}) + list(EVALUATION_SETTINGS)}
    if folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir()):
        try:
            saved = json.loads((folder / STUDY_FILE).read_text())
        except FileNotFoundError:
            raise FDAEError(f"{folder} holds something else than a study: name another output_dir") from None
        if changed := [name for name in shared if shared[name] != saved.get(name)]:
            differences = ", ".join(f"{name}={saved.get(name)!r}" for name in changed)
            raise FDAEError(
                f"the study in {folder} was begun with {differences}: go on with that or name another folder"
            )
    else:
        _write_json(folder / STUDY_FILE, shared)
    return folder


def run_study(
    config: StudyConfig,
    variants: Sequence[Variant],
    evaluate: Callable[[StudyConfig, Path], dict[str, Any]],
    after_run: Callable[[Path], Any],
) -> None:
    """Train and score every variant with every seed, leaving out the runs that are complete.

    Args:
        config: The settings.
        variants: What to run.
        evaluate: Scores the pipeline in a folder, as ``training/evaluate_fdae.py`` does.
        after_run: Called with the study's folder after every run, also after those left out.

    Raises:
        FDAEError: If the folder holds another study, or a training or an evaluation fails.
    """
    folder = open_study(config)
    for seed in config.seeds:
        for variant in variants:
            run_dir = folder / f"{variant.name}-seed{seed}"
            if (run_dir / RUN_FILE).exists():
                print(f"{run_dir}: complete")
            else:
                print(f"{run_dir}: {variant.title}, seed {seed}")
                _write_json(run_dir / RUN_FILE, _run(config, variant, seed, run_dir, evaluate))
            for checkpoint in list_checkpoints(run_dir):  # three times the model's size
                shutil.rmtree(checkpoint)
            after_run(folder)


def read_runs(folder: Path) -> list[dict[str, Any]]:
    """Every complete run of a study, whichever process made it, by name of its folder."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob(f"*/{RUN_FILE}"))]


def _run(
    config: StudyConfig,
    variant: Variant,
    seed: int,
    run_dir: Path,
    evaluate: Callable[[StudyConfig, Path], dict[str, Any]],
) -> dict[str, Any]:
    if not (run_dir / TRAINING_FILE).exists():
        train(_training_config(config, variant, seed, run_dir))
    training = json.loads((run_dir / TRAINING_FILE).read_text())
    start = time.process_time()
    result = evaluate(config, run_dir)
    return {
        "variant": variant.name,
        "title": variant.title,
        "seed": seed,
        "scores": {metric: _numbers(result[metric]) for metric in config.metrics},
        "evaluation": {
            **{name: result[name] for name in ("dataset", "protocol", "representation", "seed", "counts", "versions")},
            "cpu_seconds": round(time.process_time() - start, 1),
        },
        "training": training,
    }


def _training_config(config: StudyConfig, variant: Variant, seed: int, run_dir: Path) -> TrainingConfig:
    settings = {name: getattr(config, name) for name in _training_fields()}
    settings |= {
        "seed": seed,
        "output_dir": str(run_dir),
        "checkpointing_steps": config.checkpointing_steps or max(1, config.max_train_steps // 10),
        "checkpoints_total_limit": 1,
        "resume_from_checkpoint": "latest" if list_checkpoints(run_dir) else None,
    }
    return TrainingConfig(**settings | dict(variant.settings))


def _training_fields() -> list[str]:
    return [setting.name for setting in fields(TrainingConfig)]


def _numbers(scores: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in scores.items() if isinstance(value, int | float)}


def _write_json(path: Path, content: Any) -> None:
    with whole_file(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=2) + "\n")
