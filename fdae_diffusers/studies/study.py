"""Studies: many trainings that differ in a few settings and the seed, each scored in the same way.

One folder holds one study. Its runs may be made by several processes side by side, each with its share of the
rows or seeds, and after an interruption the same command resumes where it stopped:

    study.json            settings that all runs share; a run with others is refused
    ROW-seedSEED/         a run: pipeline, training.json, metrics.json, and run.json when it is complete
"""

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ..data import ImageDataset, load_benchmark, load_image_dataset
from ..errors import FDAEError, RunInterrupted
from ..evaluation.disentanglement import EvaluationConfig, EvaluationSettings, evaluate
from ..evaluation.results import public_name
from ..evaluation.unlabelled import evaluate_unlabelled
from ..health import HealthReport
from ..hub.files import HEALTH_FILE, TRAINING_FILE, variant_name
from ..hub.loading import load_pipeline
from ..metrics.representation import NUM_BINS
from ..training.checkpoints import list_checkpoints
from ..training.config import FREE_ON_RESUME, TrainingConfig
from ..training.ema import VARIANT
from ..training.faults import GO_ON
from ..training.trainer import train
from ..utils.files import whole_file

STUDY_FILE = "study.json"
RUN_FILE = "run.json"
# Settings that runs of one study may differ in; all else decides what is learned or how it is scored.
NOT_SHARED = FREE_ON_RESUME - {"max_train_steps"} | {"seed", "batch_size", "n_jobs", "device", "codes_cache_dir"}


@dataclass
class StudyConfig(TrainingConfig, EvaluationSettings):
    """Settings of a study: those of a training, which the rows change, and those of the evaluation.

    Raises:
        FDAEError: If values contradict each other or are out of range.
    """

    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "Seeds of each row's runs."})

    def __post_init__(self):
        TrainingConfig.__post_init__(self)
        EvaluationSettings.__post_init__(self)
        for name in ("seed", "push_to_hub", "resume_from_checkpoint"):
            if getattr(self, name):
                raise FDAEError(f"a study has no {name}: it takes seeds, goes on by itself and pushes nothing")
        if len(set(self.seeds)) < len(self.seeds):
            raise FDAEError(f"seeds are repeated: {self.seeds}")


@dataclass(frozen=True)
class Row:
    """One row of a study's table: a training that differs from the others in a few settings.

    Attributes:
        name: Start of the names of its runs' folders.
        title: What the table calls it.
        settings: Fields of `TrainingConfig` that it changes; mappings are merged over the study's.
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
    settings = _settings(config, TrainingConfig) | _settings(config, EvaluationSettings)
    shared = {name: value for name, value in settings.items() if name not in NOT_SHARED}
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


def run_study(config: StudyConfig, rows: Sequence[Row], after_run: Callable[[Path], Any]) -> None:
    """Train and score every row with every seed, leaving out the runs that are complete.

    Args:
        config: The settings.
        rows: What to run.
        after_run: Called with the study's folder after every run, also after those left out.

    Raises:
        FDAEError: If the benchmark cannot be loaded, the folder holds another study, or a run fails.
    """
    # before hours of training, not after
    if config.dataset is not None:
        load_benchmark(config.dataset, config.dataset_path, max_samples=1)
    elif (number := len(unlabelled_images(config, size=8, max_samples=NUM_BINS))) < NUM_BINS:
        raise FDAEError(f"scores without labels need {NUM_BINS} images at least, the number of clusters, not {number}")
    folder = open_study(config)
    for seed in config.seeds:
        for row in rows:
            run_dir = folder / f"{row.name}-seed{seed}"
            if (run_dir / RUN_FILE).exists():
                print(f"{run_dir}: complete")
            else:
                print(f"{run_dir}: {row.title}, seed {seed}")
                _write_json(run_dir / RUN_FILE, _run(config, row, seed, run_dir))
            for checkpoint in list_checkpoints(run_dir):  # three times the model's size
                shutil.rmtree(checkpoint)
            after_run(folder)


def read_runs(folder: Path) -> list[dict[str, Any]]:
    """Every complete run of a study, whichever process made it, by name of its folder."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob(f"*/{RUN_FILE}"))]


def unlabelled_images(config: StudyConfig, size: int, max_samples: int) -> ImageDataset:
    """Load images of the training data, the same ones in every run of a study without labels."""
    dataset = load_image_dataset(
        config.dataset_name,
        config.train_data_dir,
        dataset_config_name=config.dataset_config_name,
        split=config.split,
        image_column=config.image_column,
        cache_dir=config.cache_dir,
        max_samples=min(max_samples, config.max_train_samples or max_samples),
        size=size,
    )
    return ImageDataset(dataset, size, config.image_column, config.on_bad_image)


def _evaluate(config: StudyConfig, run_dir: Path, weights: str | None) -> dict[str, Any]:
    """Score the model of a run, with labels or, if no benchmark is named, without."""
    if config.dataset is not None:
        # An evaluation that was interrupted after it wrote its scores is repeated.
        settings = _settings(config, EvaluationSettings)
        return evaluate(EvaluationConfig(model=str(run_dir), variant=weights, overwrite=True, **settings))
    encoder = load_pipeline(str(run_dir), config.device, weights).encoder
    scores = evaluate_unlabelled(
        encoder,
        unlabelled_images(config, encoder.config.sample_size, config.num_train),
        config.metrics,
        protocol=config.protocol,
        n_jobs=config.n_jobs,
        batch_size=config.batch_size,
        num_workers=config.dataloader_num_workers,
    )
    return {"dataset": public_name(config.dataset_name or config.train_data_dir or ""), **scores}


def _run(config: StudyConfig, row: Row, seed: int, run_dir: Path) -> dict[str, Any]:
    """Do what is missing of a run and return its record."""
    if not (run_dir / TRAINING_FILE).exists():
        try:
            train(_training_config(config, row, seed, run_dir))
        except RunInterrupted as stop:
            raise RunInterrupted(stop.signal_number, "stopped; the same command goes on") from None
        except FDAEError as error:  # which would tell a training by itself how to go on
            raise FDAEError(str(error).replace(GO_ON, "go on with the same command")) from error
    training = json.loads((run_dir / TRAINING_FILE).read_text())
    start = time.process_time()
    weights = VARIANT if config.use_ema else None
    result = _evaluate(config, run_dir, weights)
    health = run_dir / variant_name(HEALTH_FILE, weights)
    return {
        "row": row.name,
        "title": row.title,
        "seed": seed,
        "scores": {metric: _numbers(result[metric]) for metric in config.metrics},
        "evaluation": {
            **{name: result[name] for name in ("dataset", "protocol", "representation", "seed", "counts", "versions")},
            "cpu_seconds": round(time.process_time() - start, 1),
        },
        "health": HealthReport.load(health).numbers if health.exists() else None,
        "training": training,
    }


def _training_config(config: StudyConfig, row: Row, seed: int, run_dir: Path) -> TrainingConfig:
    settings = _settings(config, TrainingConfig) | {
        "seed": seed,
        "output_dir": str(run_dir),
        "checkpointing_steps": config.checkpointing_steps or max(1, config.max_train_steps // 10),
        "checkpoints_total_limit": 1,
        "resume_from_checkpoint": "latest" if list_checkpoints(run_dir) else None,
    }
    for name, value in row.settings.items():
        settings[name] = {**settings[name], **value} if isinstance(value, Mapping) else value
    return TrainingConfig(**settings)


def _settings(config: StudyConfig, part: type[TrainingConfig] | type[EvaluationSettings]) -> dict[str, Any]:
    return {setting.name: getattr(config, setting.name) for setting in fields(part)}


def _numbers(scores: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in scores.items() if isinstance(value, int | float)}


def _write_json(path: Path, content: Any) -> None:
    with whole_file(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=2) + "\n")
