"""The training loop of FDAE on accelerate: one CPU core to many GPUs with the same code."""

import itertools
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from accelerate.utils import set_seed
from diffusers.optimization import get_scheduler
from tqdm.auto import tqdm

from ..data.reading import one_line_errors
from ..errors import RunInterrupted, user_errors
from ..health import HealthReport, measure_health
from ..hub.card import write_model_card
from ..hub.examples import save_examples
from ..hub.files import HEALTH_FILE, variant_name
from ..hub.publish import prepare_repository, publish
from ..pipeline_fdae import FDAEPipeline
from ..utils.arguments import JSONMapping
from ..utils.memory import keep_freed_memory
from ..visualization.samples import Figures, make_figures, pick_images, save_figures
from .batches import StreamLoader, load_images, log_skipped, make_loader, pick_unseen_images
from .building import CUSTOM_PRESET, Networks, build_networks, build_objective, check_networks
from .checkpoints import checkpoint_step, delete_unfinished, find_checkpoint, load_checkpoint, save_checkpoint
from .config import TrainingConfig
from .device_fit import check_device, count_parameters, describe_run
from .distributed import (
    gathered_pipeline,
    make_accelerator,
    on_main_process,
    synchronize_batch_norm,
)
from .ema import VARIANT, ModelAverage
from .faults import check_weights, explained_faults
from .meter import LossMeter
from .phases import moving_settings
from .results import save_pipeline, write_record
from .steps import NUM_IMAGES, StepsMeasurement, measure_steps, scheduler_for
from .stop_signal import Interruption


def train(config: TrainingConfig, networks: Networks | None = None) -> Path:
    """Train a model and write its pipeline, figures, model card, logs and checkpoints.

    Args:
        config: The settings.
        networks: U-Net and encoder to train instead of new ones: trained networks to train further, or networks of
            other classes, where `encoder.condition(codes, masks)` returns the keywords of
            `unet(sample, timestep, **condition)`. The settings of `NetworkConfig` are not used then, and the preset is
            recorded as "custom". In a run of several processes, each has to pass the same weights.

    Returns:
        The output folder, which :meth:`FDAEPipeline.from_pretrained` loads.

    Raises:
        FDAEError: If the settings or the data are unusable, the loss stops being a number, or the machine fails.
        RunInterrupted: If Ctrl-C or SIGTERM stopped the run; it has left a checkpoint.
    """
    with explained_faults():
        return Trainer(config, networks).run()


class Trainer:
    """One training run. Everything random follows from the seed: weights, data order and noise.

    Args:
        config: The settings.
        networks: As for :func:`train`.
    """

    def __init__(self, config: TrainingConfig, networks: Networks | None = None):
        if networks is not None:
            config = replace(
                config, preset=CUSTOM_PRESET, num_concepts=None, unet=JSONMapping(), encoder=JSONMapping()
            )
        self.config = config
        self.output_dir = Path(config.output_dir)
        resume_from = find_checkpoint(config)
        _check_writable(self.output_dir)
        self.accelerator = make_accelerator(config)
        check_device(config, self.accelerator, networks)
        # Before hours of training, not after.
        self.model_id = on_main_process(self.accelerator, self._prepare_repository) if config.push_to_hub else None
        if self.accelerator.device.type == "cpu":
            keep_freed_memory()
        if self.accelerator.is_main_process:
            delete_unfinished(self.output_dir)
        set_seed(config.seed)  # the same weights everywhere, then noise of its own for each process

        if networks is None:
            networks = build_networks(config)
        else:
            check_networks(*networks)
        if self.accelerator.is_main_process:
            tqdm.write(describe_run(config, self.accelerator, count_parameters(networks)), file=sys.stderr)
        objective = build_objective(config, *networks)
        if self.accelerator.process_index > 0:
            set_seed(config.seed, device_specific=True)
        if config.gather_batch_statistics:
            objective = synchronize_batch_norm(objective, self.accelerator.device)
        self.images = load_images(config, objective.unet.config.sample_size, self.accelerator, config.seed)
        optimizer = torch.optim.RAdam(objective.parameters(), lr=config.learning_rate, foreach=True)
        lr_scheduler = get_scheduler(
            config.lr_scheduler,
            optimizer,
            num_warmup_steps=config.lr_warmup_steps,
            num_training_steps=config.max_train_steps,
        )
        loader = make_loader(config, self.images, self.accelerator, config.seed)
        self.objective, self.optimizer, self.lr_scheduler, self.loader = self.accelerator.prepare(
            objective, optimizer, lr_scheduler, loader
        )
        self.stream = self.loader if isinstance(self.loader, StreamLoader) else None
        self.average = (
            ModelAverage(self.accelerator.unwrap_model(self.objective), config.ema_decay) if config.use_ema else None
        )
        settings = {name: value for name, value in asdict(config).items() if isinstance(value, int | float | str)}
        self.accelerator.init_trackers("fdae", settings)
        self.losses = LossMeter(self.accelerator)
        self.shown = pick_images(self.images, config.num_validation_images)
        self.step = 0
        if resume_from:
            load_checkpoint(self.accelerator, resume_from, self.average, self.stream)
            self.step = checkpoint_step(resume_from)

    def run(self) -> Path:
        """Train to the last step and write the results."""
        config = self.config
        first_step, wall_start, cpu_start = self.step, time.perf_counter(), time.process_time()
        batches = self._batches(start=self.step * config.gradient_accumulation_steps)
        progress = tqdm(
            total=config.max_train_steps,
            initial=self.step,
            desc="train",
            unit="step",
            disable=not self.accelerator.is_local_main_process,
        )
        with progress, Interruption(self.accelerator) as interruption:
            while self.step < config.max_train_steps:
                self._train_step(batches)
                self.step += 1
                progress.update()
                stop = interruption.requested()
                last = self.step == config.max_train_steps
                saves = stop or _is_due(self.step, config.checkpointing_steps)
                if last or saves or _is_due(self.step, config.logging_steps):
                    self._log(progress)
                if saves:
                    self._save_checkpoint()
                if stop and not last:
                    self._stop(stop)
                if not last and _is_due(self.step, config.validation_steps):
                    self._save_samples()
        log_skipped(self.images)
        self._finish(
            cost={
                "first_step": first_step,  # what a resumed run did not do again
                "wall_seconds": round(time.perf_counter() - wall_start, 1),
                "cpu_seconds": round(time.process_time() - cpu_start, 1),
            }
        )
        return self.output_dir

    def _log(self, progress: tqdm) -> None:
        means = self.losses.pop_means(self.step)
        learning_rate = self.lr_scheduler.get_last_lr()[0]
        self.accelerator.log({**means, "learning_rate": learning_rate}, step=self.step)
        progress.set_postfix({name.removeprefix("loss/"): f"{value:.3g}" for name, value in means.items()})

    def _train_step(self, batches: Iterator[dict[str, torch.Tensor]]) -> None:
        """One step of the optimizer, over as many batches as are accumulated."""
        objective = self.accelerator.unwrap_model(self.objective)
        for name, value in moving_settings(self.config, self.step / self.config.max_train_steps).items():
            setattr(objective, name, value)
        for _ in range(self.config.gradient_accumulation_steps):
            with self.accelerator.accumulate(self.objective):
                pixel_values = next(batches)["pixel_values"]
                with self.accelerator.autocast():  # FSDP, unlike DDP, does not bring its own
                    output = self.objective(pixel_values)
                self.accelerator.backward(output.loss)
                if self.accelerator.sync_gradients and self.config.max_grad_norm is not None:
                    self.accelerator.clip_grad_norm_(self.objective.parameters(), self.config.max_grad_norm)
                self.optimizer.step()
                self.optimizer.zero_grad()
            self.losses.add(output)
        self.lr_scheduler.step()
        if self.average is not None:
            self.average.step()

    def _batches(self, start: int) -> Iterator[dict[str, torch.Tensor]]:
        """Batches without end from number ``start`` on; an epoch's order depends on the seed and its number alone."""
        with one_line_errors():
            if self.stream is not None:  # it keeps its own position
                yield from self.stream
            first_epoch, skip = divmod(start, len(self.loader))
            for epoch in itertools.count(first_epoch):
                self.loader.set_epoch(epoch)
                yield from self.accelerator.skip_first_batches(self.loader, skip) if skip else self.loader
                skip = 0

    def _best_weights(self) -> AbstractContextManager[None]:
        """Return a context in which the EMA weights are in place, if EMA is on."""
        return self.average.applied() if self.average is not None else nullcontext()

    def _pipeline(self, num_inference_steps: int | None = None) -> FDAEPipeline | None:
        """Return the model on the main process, with a number of steps and the sampler for it."""
        scheduler = scheduler_for(self.config.scheduler, num_inference_steps)
        return gathered_pipeline(self.accelerator, self.objective, scheduler, num_inference_steps)

    def _save_checkpoint(self) -> None:
        check_weights(self.accelerator, self.objective, self.step)
        save_checkpoint(self.accelerator, self.config, self.step, self.average, self.stream)

    def _save_samples(self) -> None:
        with self._best_weights():
            pipeline = self._pipeline(self.config.num_inference_steps)
            if pipeline is not None:
                figures = make_figures(pipeline, self.shown)
                self._track(figures)
                save_figures(figures, self.output_dir / "samples" / f"step-{self.step:06d}")
        self.accelerator.wait_for_everyone()

    def _stop(self, signal_number: int) -> NoReturn:
        self.accelerator.end_training()
        told = f"stopped at step {self.step}; resume with --resume_from_checkpoint latest"
        raise RunInterrupted(signal_number, told if self.accelerator.is_main_process else "")

    def _finish(self, cost: dict[str, float]) -> None:
        check_weights(self.accelerator, self.objective, self.step)
        steps = self._measure_steps() if self.config.num_inference_steps is None else None
        num_inference_steps = self.config.num_inference_steps if steps is None else steps.best
        pipeline = self._pipeline(num_inference_steps)
        if pipeline is not None:
            save_pipeline(pipeline, self.output_dir)
            health = self._measure_health(pipeline)
        with self._best_weights():
            pipeline = self._pipeline(num_inference_steps)
            if pipeline is not None:
                if self.average is not None:
                    save_pipeline(pipeline, self.output_dir, VARIANT)
                    health = self._measure_health(pipeline, VARIANT)
                self._tell_health(health)
                figures = make_figures(pipeline, self.shown, swap_grid=True)
                self._track(figures)
                save_figures(figures, self.output_dir)
                save_examples(self.shown, self.output_dir)
                write_record(self.config, self.accelerator, pipeline, self.model_id, cost, steps)
                write_model_card(self.output_dir)
        self.accelerator.wait_for_everyone()
        # After the last barrier: the others end, where NCCL would give up waiting for a slow upload.
        if pipeline is not None and self.model_id is not None:
            publish(self.output_dir, self.model_id, self.config.hub_dry_run_dir)
        self.accelerator.end_training()

    @cached_property
    def _unseen_images(self) -> tuple[torch.Tensor, bool]:
        """Images that the trained model is measured on, and whether its training has not seen them."""
        config = self.config
        num_seen = self.step * config.gradient_accumulation_steps * config.train_batch_size
        return pick_unseen_images(
            config, self.images, num_seen * self.accelerator.num_processes, NUM_IMAGES, config.seed
        )

    def _measure_health(self, pipeline: FDAEPipeline, variant: str | None = None) -> HealthReport | None:
        """Measure the health of the finished model and write it into its folder; a single image tells nothing."""
        images, held_out = self._unseen_images
        if len(images) < 2:
            return None
        # images in [0, 1]: those in [-1, 1] are told by their negative values, which a bright picture lacks
        health = measure_health(pipeline, (images + 1) / 2, held_out=held_out)
        health.save(self.output_dir / variant_name(HEALTH_FILE, variant))
        return health

    def _tell_health(self, health: HealthReport | None) -> None:
        if health is not None:
            self.accelerator.log({f"health/{name}": value for name, value in health.numbers.items()}, step=self.step)
            tqdm.write(str(health))

    def _measure_steps(self) -> StepsMeasurement | None:
        """Measure on the main process which number of steps fits the model; on the others, return ``None``."""
        config = self.config
        self.accelerator.wait_for_everyone()  # so that none of the others' patience is spent before the search starts
        with self._best_weights():
            pipeline = self._pipeline()
            if pipeline is None:
                return None
            images, held_out = self._unseen_images
            measured = measure_steps(pipeline, images, config.scheduler, held_out, batch_size=config.train_batch_size)
        values = {
            f"sampling/{name}_{item.num_inference_steps}_steps": getattr(item, name)
            for item in measured.results
            for name in ("psnr", "grain")
        }
        self.accelerator.log(values, step=self.step)
        tqdm.write(str(measured))
        return measured

    def _prepare_repository(self) -> str:
        """Create the repository for the model and return its full id."""
        config = self.config
        name = config.hub_model_id or self.output_dir.resolve().name
        return prepare_repository(name, config.hub_private_repo, config.hub_dry_run_dir)

    def _track(self, figures: Figures) -> None:
        for tracker in self.accelerator.trackers:
            for name, figure in figures.items():
                if tracker.name == "tensorboard":
                    tracker.log_images({name: np.asarray(figure)[None]}, step=self.step, dataformats="NHWC")
                elif tracker.name == "wandb":
                    tracker.log_images({name: [figure]}, step=self.step)


def _check_writable(folder: Path) -> None:
    with user_errors(f"cannot write to output_dir {folder}", OSError):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


def _is_due(step: int, interval: int) -> bool:
    return interval > 0 and step % interval == 0
