"""The training loop of FDAE on accelerate: one CPU core to many GPUs with the same code."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.utils import GradientAccumulationPlugin, ProjectConfiguration, set_seed
from diffusers.optimization import get_scheduler
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from ..data import ImageDataset, load_image_dataset
from ..errors import FDAEError
from ..objective import FDAEObjective, FDAEObjectiveOutput
from ..pipeline_fdae import FDAEPipeline
from ..presets import build_models
from ..schedulers import EDMHeunScheduler
from .checkpoints import checkpoint_step, find_checkpoint, save_checkpoint
from .config import TrainingConfig
from .figures import Figures, make_figures, pick_images, save_figures


def train(config: TrainingConfig) -> Path:
    """Train a model and write its pipeline, figures, logs and checkpoints.

    Args:
        config: The settings.

    Returns:
        The output folder, which :meth:`FDAEPipeline.from_pretrained` loads.

    Raises:
        FDAEError: If the settings or the data are unusable, or the loss stops being a number.
    """
    accelerator = _make_accelerator(config)
    set_seed(config.seed, device_specific=True)
    output_dir = Path(config.output_dir)
    resume_from = find_checkpoint(output_dir, config.resume_from_checkpoint) if config.resume_from_checkpoint else None

    unet, encoder = build_models(config.preset, config.unet, config.encoder)
    if config.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    objective = FDAEObjective(
        unet,
        encoder,
        EDMHeunScheduler(),
        p_mean=config.p_mean,
        p_std=config.p_std,
        content_decorrelation_weight=config.content_decorrelation_weight,
        mask_entropy_weight=config.mask_entropy_weight,
        reduction=config.reduction,
    )
    images = _load_images(config, unet.config.sample_size)
    optimizer = torch.optim.RAdam(objective.parameters(), lr=config.learning_rate)
    lr_scheduler = get_scheduler(
        config.lr_scheduler,
        optimizer,
        num_warmup_steps=config.lr_warmup_steps,
        num_training_steps=config.max_train_steps,
    )
    loader = DataLoader(
        images,
        batch_size=config.train_batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=config.dataloader_num_workers,
        generator=torch.Generator().manual_seed(config.seed),
        pin_memory=accelerator.device.type == "cuda",
    )
    objective, optimizer, loader, lr_scheduler = accelerator.prepare(objective, optimizer, loader, lr_scheduler)
    settings = {name: value for name, value in asdict(config).items() if isinstance(value, int | float | str)}
    accelerator.init_trackers("fdae", settings)

    step = 0
    if resume_from is not None:
        accelerator.load_state(str(resume_from))
        step = checkpoint_step(resume_from)
    shown = pick_images(images, config.num_validation_images)
    losses = LossMeter(accelerator)
    progress = tqdm(
        total=config.max_train_steps, initial=step, desc="train", disable=not accelerator.is_local_main_process
    )
    batches = _endless(accelerator, loader, start=step * config.gradient_accumulation_steps)
    while step < config.max_train_steps:
        with accelerator.accumulate(objective):
            output = objective(next(batches)["pixel_values"])
            accelerator.backward(output.loss)
            if accelerator.sync_gradients and config.max_grad_norm is not None:
                accelerator.clip_grad_norm_(objective.parameters(), config.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
        losses.add(output)
        if not accelerator.sync_gradients:
            continue
        lr_scheduler.step()
        step += 1
        progress.update()

        last = step == config.max_train_steps
        saves = _is_due(step, config.checkpointing_steps)
        if step % config.logging_steps == 0 or last or saves:
            means = losses.pop_means(step)
            accelerator.log({**means, "learning_rate": lr_scheduler.get_last_lr()[0]}, step=step)
            progress.set_postfix({name.removesuffix("_loss"): f"{value:.3g}" for name, value in means.items()})
        if saves:
            save_checkpoint(accelerator, output_dir, step, config.checkpoints_total_limit)
        if _is_due(step, config.validation_steps) and not last and accelerator.is_main_process:
            figures = make_figures(_pipeline(accelerator, objective), shown, config.num_inference_steps)
            _track_figures(accelerator, figures, step)
            save_figures(figures, output_dir / "samples" / f"step-{step:06d}")
            accelerator.unwrap_model(objective).train()
    progress.close()

    if accelerator.is_main_process:
        pipeline = _pipeline(accelerator, objective)
        pipeline.save_pretrained(output_dir)
        figures = make_figures(pipeline, shown, config.num_inference_steps, swap_grid=True)
        _track_figures(accelerator, figures, step)
        save_figures(figures, output_dir)
    accelerator.end_training()
    return output_dir


class LossMeter:
    """Mean of the loss parts over an interval and the processes; refuses to go on when one is no number."""

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self.sums: dict[str, torch.Tensor] = {}
        self.count = 0

    def add(self, output: FDAEObjectiveOutput) -> None:
        """Add the losses of a batch, without waiting for the device."""
        for name, value in output.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach()
        self.count += 1

    def pop_means(self, step: int) -> dict[str, float]:
        """Return the means since the last call and start anew.

        Raises:
            FDAEError: If a mean is not finite.
        """
        names, sums = list(self.sums), torch.stack(list(self.sums.values()))
        values = self.accelerator.reduce(sums / self.count, reduction="mean").tolist()
        means = dict(zip(names, values, strict=True))
        self.sums, self.count = {}, 0
        if not all(math.isfinite(value) for value in values):
            raise FDAEError(
                f"the loss is no longer a number at step {step} ({means}): lower learning_rate or set max_grad_norm, "
                "and go on from the last checkpoint with resume_from_checkpoint"
            )
        return means


def _make_accelerator(config: TrainingConfig) -> Accelerator:
    return Accelerator(
        mixed_precision=config.mixed_precision,
        # A step holds the same number of batches everywhere, also across the end of an epoch.
        gradient_accumulation_plugin=GradientAccumulationPlugin(
            num_steps=config.gradient_accumulation_steps, sync_with_dataloader=False
        ),
        step_scheduler_with_optimizer=False,
        log_with=None if config.report_to == "none" else config.report_to,
        project_config=ProjectConfiguration(
            project_dir=config.output_dir, logging_dir=str(Path(config.output_dir) / "logs")
        ),
        dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True, data_seed=config.seed),
    )


def _load_images(config: TrainingConfig, size: int) -> ImageDataset:
    dataset = load_image_dataset(
        dataset_name=config.dataset_name,
        train_data_dir=config.train_data_dir,
        dataset_config_name=config.dataset_config_name,
        split=config.split,
        cache_dir=config.cache_dir,
        max_samples=config.max_train_samples,
        size=size,
    )
    images = ImageDataset(dataset, size, image_column=config.image_column, on_bad_image=config.on_bad_image)
    if len(images) < config.train_batch_size:
        raise FDAEError(
            f"the data set has {len(images)} images, fewer than a batch: "
            f"lower train_batch_size={config.train_batch_size}"
        )
    return images


def _endless(accelerator: Accelerator, loader: Any, start: int) -> Iterator[dict[str, torch.Tensor]]:
    """Batches without end from number ``start`` on; an epoch's order depends on the seed and its number alone."""
    first_epoch, skip = divmod(start, len(loader))
    for epoch in itertools.count(first_epoch):
        loader.set_epoch(epoch)
        yield from accelerator.skip_first_batches(loader, skip) if skip else loader
        skip = 0


def _is_due(step: int, interval: int) -> bool:
    return interval > 0 and step % interval == 0


def _pipeline(accelerator: Accelerator, objective: torch.nn.Module) -> FDAEPipeline:
    """The pipeline of the networks in training, in evaluation mode."""
    unwrapped = accelerator.unwrap_model(objective).eval()
    pipeline = FDAEPipeline(unet=unwrapped.unet, encoder=unwrapped.encoder, scheduler=unwrapped.scheduler)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _track_figures(accelerator: Accelerator, figures: Figures, step: int) -> None:
    for tracker in accelerator.trackers:
        for name, figure in figures.items():
            if tracker.name == "tensorboard":
                tracker.log_images({name: np.asarray(figure)[None]}, step=step, dataformats="NHWC")
            elif tracker.name == "wandb":
                tracker.log_images({name: [figure]}, step=step)
