"""Write the results of a run: the pipeline, and the record ``training.json`` that its card is made from."""

import json
import os
import shutil
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from ..data import RENDERED_SHAPES3D
from ..hub.files import TRAINING_FILE, is_outdated_by_training
from ..pipeline_fdae import FDAEPipeline
from ..utils.files import whole_file
from .checkpoints import UNFINISHED
from .config import TrainingConfig
from .ema import VARIANT
from .faults import whole_or_error
from .steps import StepsMeasurement

# Settings that may name a local folder.
PATHS = ("dataset_name", "train_data_dir", "cache_dir", "output_dir", "resume_from_checkpoint", "hub_dry_run_dir")


def save_pipeline(pipeline: FDAEPipeline, folder: Path, variant: str | None = None) -> None:
    """Write a pipeline into a folder where other things are; each of its files appears whole.

    Args:
        pipeline: The networks.
        folder: Where to; a pipeline there is replaced. Without a variant, the old one's variants and measurements
            are deleted: they do not describe the new one.
        variant: Name of the weights, for a second set of them.

    Raises:
        FDAEError: If it cannot be written; what was there before stays.
    """
    unfinished = folder / f"pipeline{UNFINISHED}"
    shutil.rmtree(unfinished, ignore_errors=True)
    with whole_or_error(f"the pipeline to {folder}", unfinished):
        pipeline.save_pretrained(unfinished, variant=variant)
        for file in [path for path in unfinished.rglob("*") if path.is_file()]:
            target = folder / file.relative_to(unfinished)
            target.parent.mkdir(exist_ok=True)
            os.replace(file, target)
        shutil.rmtree(unfinished)
        if variant is None:
            measured = [path for path in folder.iterdir() if is_outdated_by_training(path.name)]
            for outdated in [*folder.glob(f"*/*.{VARIANT}.safetensors"), *measured]:
                outdated.unlink(missing_ok=True)


def write_record(
    config: TrainingConfig,
    accelerator: Accelerator,
    pipeline: FDAEPipeline,
    model_id: str | None,
    cost: dict[str, float],
    steps: StepsMeasurement | None = None,
) -> None:
    """Write ``training.json``: settings, size, sampler, machine, versions and cost of a run.

    Local data and folders are recorded by their names, not their paths: the file is published.

    Args:
        config: The settings.
        accelerator: For the number and kind of devices.
        pipeline: The model.
        model_id: Its id on the Hub, if it has one.
        cost: Seconds and first step.
        steps: How well each number of steps reconstructs images, if it was measured.
    """
    batch_size = config.train_batch_size * config.gradient_accumulation_steps * accelerator.num_processes
    networks = (pipeline.unet, pipeline.encoder)
    record: dict[str, Any] = {
        "model_id": model_id,
        "config": _without_paths(asdict(config)),
        "networks": {name: type(getattr(pipeline, name)).__name__ for name in ("unet", "encoder")},
        "data_on_hub": config.dataset_name not in (None, RENDERED_SHAPES3D) and not Path(config.dataset_name).exists(),
        "sample_size": pipeline.encoder.config.sample_size,
        "num_concepts": pipeline.encoder.config.num_concepts,
        "parameters": sum(parameter.numel() for network in networks for parameter in network.parameters()),
        "images_per_step": batch_size,
        "num_inference_steps": pipeline.config.num_inference_steps,
        **(steps.as_record() if steps is not None else {}),
        "device": _device_name(accelerator.device),
        "num_processes": accelerator.num_processes,
        "engine": accelerator.distributed_type.value,
        "num_threads": torch.get_num_threads(),
        **cost,
        "versions": {name: version(name) for name in ("fdae-diffusers", "diffusers", "transformers", "torch")},
    }
    with whole_file(Path(config.output_dir) / TRAINING_FILE) as unfinished:
        unfinished.write_text(json.dumps(record, indent=2) + "\n")


def _without_paths(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with the names of local folders instead of their paths."""
    paths = {name: settings[name] for name in PATHS if settings[name] is not None}
    if not Path(paths.get("dataset_name", "")).exists():  # on the Hub, or built in
        paths.pop("dataset_name", None)
    return settings | {name: Path(path).resolve().name for name, path in paths.items()}


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
