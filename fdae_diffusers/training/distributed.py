"""Processes and devices of a run: how accelerate is set up, and how a model spread over processes comes together."""

import os
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import Accelerator, DataLoaderConfiguration, init_empty_weights
from accelerate.utils import DistributedType, GradientAccumulationPlugin, ProjectConfiguration
from torch import nn

from ..errors import FDAEError
from ..models import CMFNet, FDAEUNet2DModel
from ..objective import FDAEObjective
from ..pipeline_fdae import FDAEPipeline
from .config import TrainingConfig

NetworkT = TypeVar("NetworkT", CMFNet, FDAEUNet2DModel)


def make_accelerator(config: TrainingConfig) -> Accelerator:
    """Set up accelerate for the processes that a launcher started: one, several (DDP), FSDP or DeepSpeed.

    Raises:
        FDAEError: If the launcher asked for something that the run would not get, or that cannot be had together.
    """
    accelerator = Accelerator(
        # Without this, processes on a machine without GPUs would not see each other.
        cpu=not torch.accelerator.is_available(),
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
    _check_engine(accelerator, config)
    if config.enable_tf32:
        torch.set_float32_matmul_precision("high")
    return accelerator


def _check_engine(accelerator: Accelerator, config: TrainingConfig) -> None:
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started != accelerator.num_processes:
        raise FDAEError(f"{started} processes were started, but accelerate makes {accelerator.num_processes} of them")
    for engine, variable in (("FSDP", "ACCELERATE_USE_FSDP"), ("DEEPSPEED", "ACCELERATE_USE_DEEPSPEED")):
        if os.environ.get(variable, "false").lower() == "true" and accelerator.distributed_type.value != engine:
            raise FDAEError(f"{engine} was asked for, but needs several GPUs: choose another accelerate configuration")
    if config.report_to != "none" and not accelerator.log_with:  # accelerate leaves it out without a word
        raise FDAEError(f"report_to={config.report_to} needs a package that is missing: install it, or take none")
    if accelerator.mixed_precision == "fp16" and accelerator.device.type == "cpu":  # and this
        raise FDAEError("mixed_precision=fp16 needs a GPU: use bf16 or no")
    if config.use_ema and accelerator.distributed_type == DistributedType.DEEPSPEED:
        raise FDAEError("use_ema does not work with DeepSpeed, which keeps the weights to itself: use DDP or FSDP")
    if config.micro_batch_size is not None:
        if accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
            raise FDAEError("micro_batch_size needs whole weights in each process: use one process or DDP")
        if accelerator.mixed_precision == "fp16":  # whose scaling of the loss comes after the gradients
            raise FDAEError("micro_batch_size does not work with mixed_precision=fp16: use bf16 or no")


def synchronize_batch_norm(objective: FDAEObjective, device: torch.device) -> FDAEObjective:
    """Let batch normalisation take its statistics over all processes, where torch can: not on a CPU."""
    return objective if device.type == "cpu" else nn.SyncBatchNorm.convert_sync_batchnorm(objective)


def gathered_pipeline(accelerator: Accelerator, prepared: nn.Module) -> FDAEPipeline | None:
    """The networks in training as a pipeline, in evaluation mode; on the main process alone, ``None`` elsewhere.

    All processes have to call this. Weights that are spread over processes are gathered; others are shared with the
    model in training and not copied. Wrappers and compiled code stay behind.

    Args:
        accelerator: The accelerator that prepared the model.
        prepared: The objective as it prepared it.
    """
    state = accelerator.get_state_dict(prepared)
    if not accelerator.is_main_process:
        return None
    objective = accelerator.unwrap_model(prepared, keep_torch_compile=False)
    pipeline = FDAEPipeline(
        unet=_network(FDAEUNet2DModel, objective.unet.config, state, "unet."),
        encoder=_network(CMFNet, objective.encoder.config, state, "encoder."),
        scheduler=objective.scheduler,
    ).to(accelerator.device)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _network(model_class: type[NetworkT], config: Any, state: dict[str, torch.Tensor], prefix: str) -> NetworkT:
    with init_empty_weights():  # neither memory nor random numbers
        network = model_class.from_config(config)
    tensors = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    network.load_state_dict(tensors, assign=True)
    return network.eval()
