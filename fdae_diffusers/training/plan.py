"""A training that fits a machine and a time: sizes are tried, a few steps of each are measured."""

import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from statistics import median
from typing import Any

import torch

from ..errors import FDAEError
from ..utils.arguments import JSONMapping
from .building import build_networks, build_objective
from .config import TrainingConfig
from .device_fit import check_device
from .distributed import make_accelerator

START_SECONDS = 10.0  # before the first step: reading the data, starting the logs
OTHER_STEPS = 120  # what pictures and measurements cost, in steps: 46 decodings of 64 images at the end
FEWEST_STEPS = 10
SHORT_STEPS = 1000  # below, masks are fog and reconstructions noise
FEW_PICTURES = 200  # below, a model learns its pictures by heart
NUM_PICTURES = 5  # how many times masks are drawn while it runs
CHECKPOINTS_FROM_MINUTES = 30
_MEASURED_STEPS = 3


@dataclass(frozen=True)
class Size:
    """Networks, resolution and batch that a training may have, and the steps below which a smaller one is better."""

    preset: str
    resolution: int
    batch_size: int
    min_steps: int


# Tried in this order; the last one is taken whatever it costs.
SIZES = {
    "cpu": (Size("patch-64", 64, 8, 1_500), Size("tiny-32", 32, 16, 0)),
    "accelerator": (Size("shapes3d", 64, 32, 20_000), Size("patch-64", 64, 64, 0)),
}


@dataclass(frozen=True)
class StepCost:
    """What a step of a training costs.

    Attributes:
        seconds: Of one step, the median of a few.
        parameters: Of both networks.
    """

    seconds: float
    parameters: int


@dataclass(frozen=True)
class Plan:
    """A training and what is to be expected of it.

    Attributes:
        config: The settings.
        resolution: Height and width of the images.
        num_concepts: N.
        cost: Of one step.
        num_images: In the data.
        device: In words.
    """

    config: TrainingConfig
    resolution: int
    num_concepts: int
    cost: StepCost
    num_images: int
    device: str

    @property
    def epochs(self) -> float:
        """How many times each image is seen."""
        return self.config.max_train_steps * self.config.train_batch_size / self.num_images

    @property
    def seconds(self) -> float:
        """Expected time of the whole run."""
        return START_SECONDS + (self.config.max_train_steps + OTHER_STEPS) * self.cost.seconds

    def describe(self, now: datetime) -> str:
        """Say in a few lines what will happen, and until when."""
        config = self.config
        end = now + timedelta(seconds=self.seconds)
        lines = [
            f"device      {self.device}",
            f"model       {config.preset}, {self.cost.parameters:,} parameters, N = {self.num_concepts} concepts, "
            f"{self.resolution}x{self.resolution} pixels",
            f"training    {config.max_train_steps:,} steps of {config.train_batch_size} pictures at "
            f"{self.cost.seconds:.3g} s: {self.epochs:.0f} epochs of {self.num_images:,} pictures",
            f"end         about {end:%H:%M}, in {max(1, round(self.seconds / 60))} min",
        ]
        if config.validation_steps:
            lines.append(f"masks       {config.output_dir}/samples, every {config.validation_steps:,} steps")
        if config.max_train_steps < SHORT_STEPS:
            lines.append(f"note        fewer than {SHORT_STEPS:,} steps show little: give it more --minutes")
        if self.num_images < FEW_PICTURES:
            lines.append("note        few pictures: the model will know these, and others hardly")
        return "\n".join(lines)


def plan_training(
    config: TrainingConfig,
    num_images: int,
    minutes: float,
    resolution: int | None = None,
    fixed: Collection[str] = (),
) -> Plan:
    """Choose networks, resolution, batch and steps for a time on this machine.

    Args:
        config: Settings of everything else.
        num_images: In the data.
        minutes: How long the training may take, with its pictures.
        resolution: Height and width of the images; chosen if it is not named.
        fixed: Settings of `config` that stay as they are: "preset", "train_batch_size", "max_train_steps", ...

    Raises:
        FDAEError: If the time is not positive, the resolution does not suit the networks, no size fits the memory, or
            the preset that was given does not suit the device.
    """
    if not minutes > 0:
        raise FDAEError(f"minutes must be positive, not {minutes}")
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    device = device or torch.device("cpu")
    sizes = _candidates(config, "cpu" if device.type == "cpu" else "accelerator", resolution, fixed)
    chosen: tuple[TrainingConfig, StepCost, int] | None = None
    for size in sizes:
        sized = _with_size(config, size, num_images, fixed)
        if "preset" in fixed:  # the sizes above fit a machine
            check_device(sized, make_accelerator(sized))
        try:
            cost = measure_step(sized, device)
        except torch.OutOfMemoryError:
            continue
        steps = max(FEWEST_STEPS, int((60 * minutes - START_SECONDS) / cost.seconds) - OTHER_STEPS)
        chosen = _with_steps(sized, steps, minutes, fixed), cost, sized.unet["sample_size"]
        if steps >= size.min_steps:
            break
    if chosen is None:
        raise FDAEError(f"{_in_words(device)} has too little memory: lower --resolution or --train_batch_size")
    planned, cost, resolution = chosen
    num_concepts = planned.encoder.get("num_concepts") or _num_concepts(planned)
    return Plan(planned, resolution, num_concepts, cost, num_images, _in_words(device))


def measure_step(config: TrainingConfig, device: torch.device) -> StepCost:
    """Measure a training step on random images; torch's random numbers stay as they are.

    Raises:
        FDAEError: If the networks cannot be built or do not suit their resolution.
    """
    with torch.random.fork_rng():
        unet, encoder = build_networks(config)
        objective = build_objective(config, unet, encoder).to(device)
        optimizer = torch.optim.RAdam(objective.parameters(), lr=0.0, foreach=True)
        size = unet.config.sample_size
        images = torch.rand(config.train_batch_size, 3, size, size, device=device) * 2 - 1
        times = []
        for _ in range(1 + _MEASURED_STEPS):
            start = time.perf_counter()
            objective(images).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            if device.type != "cpu":
                torch.accelerator.synchronize()
            times.append(time.perf_counter() - start)
    parameters = sum(parameter.numel() for parameter in objective.parameters())
    return StepCost(median(times[1:]) * config.gradient_accumulation_steps, parameters)


def _candidates(config: TrainingConfig, kind: str, resolution: int | None, fixed: Collection[str]) -> list[Size]:
    """Sizes to try, the largest first."""
    if resolution is not None and (resolution < 16 or resolution % 16):
        raise FDAEError(f"resolution must be a multiple of 16, not {resolution}")
    if "preset" in fixed:
        size = resolution or (32 if config.preset == "tiny-32" else 64)
        return [Size(config.preset, size, config.train_batch_size, 0)]
    if resolution is None:
        return list(SIZES[kind])
    if resolution <= 32:
        return [Size("tiny-32", resolution, 16, 0)]
    return list(dict.fromkeys(replace(size, resolution=resolution) for size in SIZES[kind] if size.resolution >= 64))


def _with_size(config: TrainingConfig, size: Size, num_images: int, fixed: Collection[str]) -> TrainingConfig:
    changes: dict[str, Any] = {
        "preset": size.preset,
        "train_batch_size": max(2, min(size.batch_size, num_images // 2)),
        "unet": JSONMapping({"sample_size": size.resolution, **config.unet}),
        "encoder": JSONMapping({"sample_size": size.resolution, **config.encoder}),
    }
    # In networks given as arguments, a resolution of their own stays.
    free = {name: value for name, value in changes.items() if name in ("unet", "encoder") or name not in fixed}
    return replace(config, **free)


def _with_steps(config: TrainingConfig, steps: int, minutes: float, fixed: Collection[str]) -> TrainingConfig:
    if "max_train_steps" in fixed:
        steps = config.max_train_steps
    changes: dict[str, Any] = {
        "max_train_steps": steps,
        "lr_warmup_steps": min(config.lr_warmup_steps, steps // 10),
        "logging_steps": max(1, min(config.logging_steps, steps // 20)),
        "validation_steps": max(1, steps // NUM_PICTURES),
        "checkpointing_steps": max(1, steps // NUM_PICTURES) if minutes >= CHECKPOINTS_FROM_MINUTES else 0,
    }
    return replace(config, **{name: value for name, value in changes.items() if name not in fixed})


def _num_concepts(config: TrainingConfig) -> int:
    with torch.random.fork_rng():
        return build_networks(config)[1].config.num_concepts


def _in_words(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads" if device.type == "cpu" else device.type
