"""Processes and devices of a run: setting up accelerate, and gathering a model that is spread over processes."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import Accelerator, DataLoaderConfiguration, DistributedDataParallelKwargs, init_empty_weights
from accelerate.utils import DistributedType, GradientAccumulationPlugin, ProjectConfiguration, broadcast_object_list
from diffusers import ModelMixin
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy

from ..errors import FDAEError, user_errors
from ..objective import FDAEObjective
from ..pipeline_fdae import FDAEPipeline
from .config import TrainingConfig

ResultT = TypeVar("ResultT")


def make_accelerator(config: TrainingConfig) -> Accelerator:
    """Set up accelerate for the processes that a launcher started: one, several (DDP) or FSDP.

    Raises:
        FDAEError: If the launcher asked for something that the run would not get, or that cannot be had together.
    """
    if _is_asked_for("DEEPSPEED"):
        raise FDAEError(
            "DeepSpeed is not supported: use DDP (training/configs/accelerate/multi-gpu.yaml) or FSDP (fsdp.yaml)"
        )
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
        dataloader_config=DataLoaderConfiguration(
            use_seedable_sampler=True,
            data_seed=config.seed,
            non_blocking=True,  # the next batch is prepared while the device still works
        ),
        # The gradients live in the buckets that are sent; otherwise each process would hold them twice.
        kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)],
    )
    _check_engine(accelerator, config)
    _choose_kernels(accelerator.device, config.enable_tf32)
    if accelerator.distributed_type == DistributedType.FSDP:
        # Autocast chooses the precision of each operation, as in DDP, so weights are gathered in float32. In bfloat16,
        # batch normalisation would get weights of another type than its statistics, and images would be rounded.
        accelerator.state.fsdp_plugin.mixed_precision_policy = MixedPrecisionPolicy(
            reduce_dtype=torch.float32, cast_forward_inputs=False
        )
    return accelerator


def _choose_kernels(device: torch.device, enable_tf32: bool) -> None:
    """Set how convolutions and matrix products of float32 are computed on CUDA; both alike, unlike torch's default."""
    torch.set_float32_matmul_precision("high" if enable_tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = enable_tf32
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True  # the shapes of a training never change: find the fastest kernel once


def _is_asked_for(engine: str) -> bool:
    return os.environ.get(f"ACCELERATE_USE_{engine}", "false").lower() == "true"


def _check_engine(accelerator: Accelerator, config: TrainingConfig) -> None:
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started != accelerator.num_processes:
        raise FDAEError(f"{started} processes were started, but accelerate makes {accelerator.num_processes} of them")
    if _is_asked_for("FSDP") and accelerator.distributed_type != DistributedType.FSDP:
        raise FDAEError("FSDP was asked for, but needs several GPUs: choose another accelerate configuration")
    if config.report_to != "none" and not accelerator.log_with:  # accelerate silently leaves it out
        raise FDAEError(f"report_to={config.report_to} needs a package that is missing: install it, or take none")
    if accelerator.mixed_precision == "fp16" and accelerator.device.type == "cpu":  # and this
        raise FDAEError("mixed_precision=fp16 needs a GPU: use bf16 or no")
    if config.micro_batch_size is not None:
        if accelerator.distributed_type == DistributedType.FSDP:
            raise FDAEError("micro_batch_size needs whole weights in each process: use one process or DDP")
        if accelerator.mixed_precision == "fp16":  # whose scaling of the loss comes after the gradients
            raise FDAEError("micro_batch_size does not work with mixed_precision=fp16: use bf16 or no")


def synchronize_batch_norm(objective: FDAEObjective, device: torch.device) -> FDAEObjective:
    """Let batch normalisation take its statistics over all processes, where torch can: not on a CPU."""
    return objective if device.type == "cpu" else nn.SyncBatchNorm.convert_sync_batchnorm(objective)


def on_main_process(accelerator: Accelerator, function: Callable[[], ResultT]) -> ResultT:
    """Call a function on the main process alone and return its result, which can be pickled, on all of them.

    Raises:
        FDAEError: On all processes, if the function raises one.
    """
    told: list[Any] = [None, None]
    if accelerator.is_main_process:
        try:
            told[0] = function()
        except FDAEError as error:
            told[1] = str(error)
    result, message = broadcast_object_list(told)
    if message is not None:
        raise FDAEError(message)
    return result


def gathered_pipeline(
    accelerator: Accelerator,
    prepared: nn.Module,
    scheduler: SchedulerMixin | None = None,
    num_inference_steps: int | None = None,
) -> FDAEPipeline | None:
    """Return the networks in training as a pipeline in evaluation mode on the main process, ``None`` on the others.

    All processes have to call this. Weights that are spread over processes are gathered; others are shared with the
    model in training and not copied. Wrappers and compiled code are left out.

    Args:
        accelerator: The accelerator that prepared the model.
        prepared: The objective as it prepared it.
        scheduler: The pipeline's sampler, that of the objective by default.
        num_inference_steps: Steps that the pipeline takes unless told otherwise.
    """
    state = accelerator.get_state_dict(prepared)
    if not accelerator.is_main_process:
        return None
    objective = accelerator.unwrap_model(prepared, keep_torch_compile=False)
    pipeline = FDAEPipeline(
        unet=_copy_of(objective.unet, state, "unet."),
        encoder=_copy_of(objective.encoder, state, "encoder."),
        scheduler=scheduler or objective.scheduler,
        num_inference_steps=num_inference_steps,
    ).to(accelerator.device)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def check_configuration(network: ModelMixin) -> None:
    """Make sure that a network is rebuilt from its configuration, as it has to be when it is loaded.

    Raises:
        FDAEError: If it is not: the class does not register the arguments that it was made with.
    """
    with user_errors(f"{type(network).__name__} cannot be rebuilt from its configuration", TypeError, ValueError):
        copy = _empty_copy_of(network)
    shapes, others = ({name: value.shape for name, value in each.state_dict().items()} for each in (network, copy))
    if shapes != others:
        raise FDAEError(
            f"{type(network).__name__} cannot be rebuilt from its configuration: its __init__ has to name all "
            "arguments and be decorated with diffusers' register_to_config"
        )


def _copy_of(network: ModelMixin, state: dict[str, torch.Tensor], prefix: str) -> ModelMixin:
    """A network of the same class and configuration with weights out of a state dict."""
    copy = _empty_copy_of(network)
    tensors = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    copy.load_state_dict(tensors, assign=True)
    return copy.eval()


def _empty_copy_of(network: ModelMixin) -> ModelMixin:
    # FSDP replaces the class of a module by a subclass of its own.
    network_class: Any = next(kind for kind in type(network).__mro__ if not issubclass(kind, FSDPModule))
    with init_empty_weights():  # neither memory nor random numbers
        return network_class.from_config(network.config)
