"""TrainingConfig: every setting of a training run, and so every flag and YAML key of ``training/train_fdae.py``.

The settings are grouped in sections, one dataclass each. Functions take the section they use; flags and keys are flat.
"""

from collections.abc import Callable
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any, Literal

from ..errors import FDAEError
from ..losses import LOSS_TERMS, complete_loss_weights
from ..schedulers import DEFAULT_SAMPLER, SAMPLERS
from ..utils.arguments import JSONMapping, check_at_least_one


def _setting(default: Any, help: str | Callable[[], str]) -> Any:
    return field(default=default, metadata={"help": help})


def _mapping(help: str | Callable[[], str]) -> Any:
    return field(default_factory=JSONMapping, metadata={"help": help})


def _loss_weights_help() -> str:
    defaults = ", ".join(f"{name} {term.weight:g} ({term.symbol})" for name, term in LOSS_TERMS.items())
    return f"Weights of the loss terms, in JSON as a flag; the rest keep their defaults: {defaults}. 0: not computed."


@dataclass
class NetworkConfig:
    """Section of the networks: U-Net and CMFNet."""

    preset: str = _setting("shapes3d", "Networks: shapes3d, mpi3d, cars3d (paper), tiny-32, tiny-64 (CPU).")
    num_concepts: int | None = _setting(None, "N, instead of the preset's; 1 is the DiffAE baseline without masks.")
    unet: JSONMapping = _mapping("FDAEUNet2DModel arguments to override, in JSON as a flag.")
    encoder: JSONMapping = _mapping("CMFNet arguments to override, in JSON as a flag.")
    mask_init: Literal["released", "shared"] = _setting(
        "released", "Initial masks: different for each image, as in the released code, or shared by all images."
    )

    def __post_init__(self):
        if self.num_concepts is not None:
            self.encoder = JSONMapping({**self.encoder, "num_concepts": self.num_concepts})


@dataclass
class DataConfig:
    """Section of the data: which images, and how they are read."""

    dataset_name: str | None = _setting(
        None, 'Hub id, a local folder laid out like a Hub repository, or "shapes3d-rendered" (built in).'
    )
    dataset_config_name: str | None = _setting(None, "Configuration of the data set, if it has several.")
    train_data_dir: str | None = _setting(None, "Folder of image files, instead of a data set name.")
    split: str = _setting("train", "Split of the data set.")
    image_column: str | None = _setting(None, "Column with the images; detected if there is only one.")
    cache_dir: str | None = _setting(None, "Where datasets keeps downloads.")
    max_train_samples: int | None = _setting(
        None, "Use only this many images: a random sample; of a stream, the first."
    )
    streaming: bool = _setting(False, "Read the data set as a stream: nothing is downloaded before it is needed.")
    shuffle_buffer_size: int = _setting(1000, "Images of a stream among which the order is random.")
    cache_images: bool = _setting(False, "Read every image once, before training, and keep it in memory as bytes.")
    on_bad_image: Literal["raise", "skip"] = _setting("raise", "Stop at an unreadable image and name it, or skip it.")
    dataloader_num_workers: int = _setting(0, "Processes that read images; 0: the training process.")
    train_batch_size: int = _setting(32, "Images per process and step.")

    # Two names for the data: a flag for one replaces the other in the YAML file; see `parse_config`.
    alternatives = (("dataset_name", "train_data_dir"),)

    def __post_init__(self):
        if (self.dataset_name is None) == (self.train_data_dir is None):
            raise FDAEError("name the data: either dataset_name or train_data_dir")
        if self.streaming and self.cache_images:
            raise FDAEError("give streaming or cache_images: a stream is not kept in memory")
        check_at_least_one(self, ("max_train_samples", "shuffle_buffer_size", "train_batch_size"))


@dataclass
class ObjectiveConfig:
    """Section of the objective: noise levels and loss terms."""

    p_mean: float = _setting(-1.2, "Mean of ln(sigma).")
    p_std: float = _setting(1.2, "Standard deviation of ln(sigma).")
    loss_weights: JSONMapping = _mapping(_loss_weights_help)
    p_mean_end: float | None = _setting(None, "Move p_mean to this value during training.")
    p_std_end: float | None = _setting(None, "Move p_std to this value.")
    loss_weights_end: JSONMapping = _mapping("Move these weights to these values, on a logarithmic scale; JSON.")
    move_start: float = _setting(0.5, "Share of the steps after which these settings begin to move.")
    move_end: float = _setting(0.8, "Share of the steps after which they have arrived.")
    reduction: Literal["released", "paper"] = _setting(
        "released", "Reduction of L_CD and L_ME; the default loss weights belong to released."
    )
    gather_batch_statistics: bool = _setting(
        False,
        "Compute L_CD, and on GPUs batch normalisation, over the batches of all processes instead of each its own.",
    )
    micro_batch_size: int | None = _setting(
        None, "Images that pass D_M and U-Net at a time: less memory, same gradients as the whole batch."
    )

    def __post_init__(self):
        self.loss_weights = JSONMapping(complete_loss_weights(self.loss_weights))
        self.loss_weights_end = JSONMapping(self.loss_weights_end)
        complete_loss_weights(self.loss_weights_end)  # their names and types
        for name, weight in self.loss_weights_end.items():
            if min(weight, self.loss_weights[name]) <= 0:
                raise FDAEError(f"the weight of {name} must be positive at both ends to move on a logarithmic scale")
        check_at_least_one(self, ("micro_batch_size",))
        _check_positive(self, "p_std")
        if self.p_std_end is not None:
            _check_positive(self, "p_std_end")
        if not 0 <= self.move_start < self.move_end <= 1:
            raise FDAEError(
                "move_start and move_end are shares of the steps with 0 <= move_start < move_end <= 1, "
                f"not {self.move_start} and {self.move_end}"
            )


@dataclass
class OptimizationConfig:
    """Section of the optimisation: steps, learning rate, averaging, precision and memory."""

    max_train_steps: int = _setting(100_000, "Optimizer steps.")
    gradient_accumulation_steps: int = _setting(1, "Batches per optimizer step.")
    learning_rate: float = _setting(1e-4, "Learning rate of RAdam.")
    lr_scheduler: Literal["constant", "constant_with_warmup", "cosine", "linear", "polynomial"] = _setting(
        "constant_with_warmup", "A schedule of diffusers.optimization.get_scheduler."
    )
    lr_warmup_steps: int = _setting(0, "Steps of linear warm-up.")
    max_grad_norm: float | None = _setting(None, "Clip gradients to this norm.")
    use_ema: bool = _setting(
        False, 'Average the weights; they are saved as the variant "ema" and used for the pictures.'
    )
    ema_decay: float = _setting(0.9999, "Decay of that average, approached from below.")
    gradient_checkpointing: Literal["none", "selective", "full"] = _setting(
        "none",
        "Recompute activations of U-Net and D_M in the backward pass to save memory; selective: only cheap ones.",
    )
    mixed_precision: Literal["no", "fp16", "bf16"] | None = _setting(None, "Instead of accelerate's configuration.")
    enable_tf32: bool = _setting(
        True,
        "Convolve and multiply float32 in TF32 on GPUs that can; False: exact, and several times slower.",
    )
    allow_slow_cpu: bool = _setting(
        False, "Train networks of over 50 M parameters on a CPU too, which takes months instead of hours."
    )
    torch_compile: bool = _setting(False, "Compile both networks with torch.compile: minutes of start, faster steps.")
    seed: int = _setting(0, "Seed of weights, noise and data order.")

    def __post_init__(self):
        check_at_least_one(self, ("max_train_steps", "gradient_accumulation_steps"))
        _check_positive(self, "learning_rate")
        if not 0 <= self.ema_decay < 1:
            raise FDAEError(f"ema_decay must be at least 0 and below 1, not {self.ema_decay}")


@dataclass
class OutputConfig:
    """Section of the output: pipeline, pictures, logs and checkpoints."""

    output_dir: str = _setting("outputs/fdae", "Folder of the pipeline, its figures, logs and checkpoints.")
    scheduler: str = _setting(DEFAULT_SAMPLER, lambda: f"Sampler saved with the model: {', '.join(SAMPLERS)}.")
    num_inference_steps: int | None = _setting(
        None,
        "Steps of the sampler, for the pictures and saved with the model; by default, the number that reconstructs "
        "images best is measured at the end.",
    )
    report_to: Literal["tensorboard", "wandb", "comet_ml", "mlflow", "none"] = _setting(
        "tensorboard", "Tracker of accelerate."
    )
    logging_steps: int = _setting(50, "Steps between logged losses (means over the interval and the processes).")
    validation_steps: int = _setting(5_000, "Steps between pictures of masks and reconstructions; 0: only at the end.")
    num_validation_images: int = _setting(6, "Images in those pictures and the final ones, spread over the data set.")
    checkpointing_steps: int = _setting(10_000, "Steps between checkpoints; 0: none.")
    checkpoints_total_limit: int | None = _setting(None, "Keep only the newest checkpoints.")
    resume_from_checkpoint: str | None = _setting(None, 'A checkpoint folder, or "latest" in the output folder.')

    def __post_init__(self):
        check_at_least_one(
            self, ("logging_steps", "num_validation_images", "num_inference_steps", "checkpoints_total_limit")
        )
        if self.scheduler not in SAMPLERS:
            raise FDAEError(f"unknown scheduler {self.scheduler!r}: use one of {', '.join(SAMPLERS)}")


@dataclass
class HubConfig:
    """Section of the Hub: where the model is published."""

    push_to_hub: bool = _setting(False, "Upload pipeline, card and pictures at the end; needs a login.")
    hub_model_id: str | None = _setting(None, "Repository on the Hub; the name of the output folder by default.")
    hub_private_repo: bool = _setting(False, "Create the repository as a private one.")
    hub_dry_run_dir: str | None = _setting(None, "Copy what would be uploaded to this folder instead.")
    license: str = _setting("apache-2.0", "Licence of the weights, named in the model card.")


# What a resumed run may change; all else decides what is learned, and in which order the images come.
FREE_ON_RESUME = {item.name for section in (OutputConfig, HubConfig) for item in fields(section)} | {
    "cache_dir",
    "cache_images",
    "dataloader_num_workers",
    "enable_tf32",
    "allow_slow_cpu",
    "torch_compile",
    "gradient_checkpointing",
    "micro_batch_size",
    "max_train_steps",
}


# Dataclasses list the fields of their last base first: --help shows the networks first, the Hub last.
@dataclass
class TrainingConfig(HubConfig, OutputConfig, OptimizationConfig, ObjectiveConfig, DataConfig, NetworkConfig):
    """Settings of a training run; the defaults are the paper's for Shapes3D, on one GPU.

    Raises:
        FDAEError: If values contradict each other or are out of range.
    """

    def __post_init__(self):
        NetworkConfig.__post_init__(self)
        DataConfig.__post_init__(self)
        ObjectiveConfig.__post_init__(self)
        OptimizationConfig.__post_init__(self)
        OutputConfig.__post_init__(self)

    def check_resumes(self, saved: dict[str, Any]) -> None:
        """Make sure that a run with the saved settings can be resumed with these.

        Raises:
            FDAEError: If a setting differs that decides what is learned.
        """
        # Settings that are newer than the checkpoint had the effect of their defaults.
        saved = {item.name: item.default for item in fields(self) if item.default is not MISSING} | saved
        saved["loss_weights"] = complete_loss_weights(saved.get("loss_weights"))
        current = asdict(self)
        changed = [name for name in sorted(current.keys() - FREE_ON_RESUME) if current[name] != saved.get(name)]
        if changed:
            differences = ", ".join(f"{name}={saved.get(name)!r}" for name in changed)
            raise FDAEError(f"cannot resume with other settings; the checkpoint was made with {differences}")


def _check_positive(config: Any, name: str) -> None:
    if getattr(config, name) <= 0:
        raise FDAEError(f"{name} must be positive, not {getattr(config, name)}")
