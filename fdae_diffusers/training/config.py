"""TrainingConfig: every setting of a training run, and so every flag and YAML key of ``training/train_fdae.py``."""

from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any, Literal

from ..arguments import JSONMapping, check_at_least_one
from ..errors import FDAEError
from ..schedulers import choose_num_inference_steps, default_scheduler


def _setting(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


AT_LEAST_ONE = (
    "max_train_samples",
    "shuffle_buffer_size",
    "max_train_steps",
    "train_batch_size",
    "gradient_accumulation_steps",
    "micro_batch_size",
    "logging_steps",
    "num_validation_images",
    "checkpoints_total_limit",
)
# What a resumed run may change; all else decides what is learned, and in which order the images come.
FREE_ON_RESUME = {
    "cache_dir",
    "cache_images",
    "dataloader_num_workers",
    "enable_tf32",
    "torch_compile",
    "gradient_checkpointing",
    "micro_batch_size",
    "max_train_steps",
    "output_dir",
    "report_to",
    "logging_steps",
    "validation_steps",
    "num_validation_images",
    "num_inference_steps",
    "checkpointing_steps",
    "checkpoints_total_limit",
    "resume_from_checkpoint",
    "push_to_hub",
    "hub_model_id",
    "hub_private_repo",
    "hub_dry_run_dir",
    "license",
}


@dataclass
class TrainingConfig:
    """Settings of a training run; the defaults are the paper's for Shapes3D, on one GPU.

    Raises:
        FDAEError: If values contradict each other or are out of range.
    """

    # --- Networks
    preset: str = _setting("shapes3d", "Networks: shapes3d, mpi3d, cars3d (paper), tiny-32, tiny-64, patch-64 (CPU).")
    num_concepts: int | None = _setting(None, "N, instead of the preset's; 1 is the DiffAE baseline without masks.")
    unet: JSONMapping = field(
        default_factory=JSONMapping, metadata={"help": "FDAEUNet2DModel arguments to override, in JSON as a flag."}
    )
    encoder: JSONMapping = field(
        default_factory=JSONMapping, metadata={"help": "CMFNet arguments to override, in JSON as a flag."}
    )

    mask_init: Literal["released", "shared"] = _setting(
        "released", "Masks before training: of each image's own, as in the released code, or the same for all images."
    )

    # --- Data
    dataset_name: str | None = _setting(
        None, 'Hub id, a local folder laid out like a Hub repository, or "shapes3d-rendered" (built in).'
    )
    dataset_config_name: str | None = _setting(None, "Configuration of the data set, if it has several.")
    train_data_dir: str | None = _setting(None, "Folder of image files, instead of a data set name.")
    split: str = _setting("train", "Split of the data set.")
    image_column: str | None = _setting(None, "Column with the images; found by itself if there is one.")
    cache_dir: str | None = _setting(None, "Where datasets keeps downloads.")
    max_train_samples: int | None = _setting(None, "Use only so many images: drawn at random; of a stream, the first.")
    streaming: bool = _setting(False, "Read the data set as a stream: nothing is downloaded before it is needed.")
    shuffle_buffer_size: int = _setting(1000, "Images of a stream among which the order is random.")
    cache_images: bool = _setting(False, "Read every image once, before training, and keep it in memory as bytes.")
    on_bad_image: Literal["raise", "skip"] = _setting("raise", "Refuse an unreadable image by name, or skip it.")
    dataloader_num_workers: int = _setting(0, "Processes that read images; 0 reads in the training process.")

    # --- Objective
    p_mean: float = _setting(-1.2, "Mean of ln(sigma).")
    p_std: float = _setting(1.2, "Standard deviation of ln(sigma).")
    content_decorrelation_weight: float = _setting(2.5e-5, "w_CD.")
    mask_entropy_weight: float = _setting(1e-4, "w_ME.")
    p_mean_end: float | None = _setting(None, "Move p_mean to this during training.")
    p_std_end: float | None = _setting(None, "Move p_std to this.")
    mask_entropy_weight_end: float | None = _setting(None, "Move w_ME to this, on a logarithmic scale.")
    move_start: float = _setting(0.5, "Fraction of the steps at which these settings begin to move.")
    move_end: float = _setting(0.8, "Fraction of the steps at which they have arrived.")
    reduction: Literal["released", "paper"] = _setting("released", "Of L_CD and L_ME; the weights go with it.")

    # --- Optimisation
    max_train_steps: int = _setting(100_000, "Optimizer steps.")
    train_batch_size: int = _setting(32, "Images per process and step.")
    gradient_accumulation_steps: int = _setting(1, "Batches per optimizer step.")
    learning_rate: float = _setting(1e-4, "Learning rate of RAdam.")
    lr_scheduler: Literal["constant", "constant_with_warmup", "cosine", "linear", "polynomial"] = _setting(
        "constant_with_warmup", "A schedule of diffusers.optimization.get_scheduler."
    )
    lr_warmup_steps: int = _setting(0, "Steps of linear warm-up.")
    max_grad_norm: float | None = _setting(None, "Clip gradients to this norm.")
    use_ema: bool = _setting(False, 'Average the weights; saved as the variant "ema", and drawn in the pictures.')
    ema_decay: float = _setting(0.9999, "Weight of the past in that average; it starts lower.")
    micro_batch_size: int | None = _setting(
        None, "Images that pass D_M and U-Net at a time: the gradients of the whole batch, with less memory."
    )
    gradient_checkpointing: Literal["none", "selective", "full"] = _setting(
        "none", "Activations of U-Net and D_M to compute twice, to save memory: selective leaves out the costly ones."
    )
    mixed_precision: Literal["no", "fp16", "bf16"] | None = _setting(None, "Instead of accelerate's configuration.")
    enable_tf32: bool = _setting(False, "Multiply float32 matrices in TF32 on GPUs that can: faster, less exact.")
    torch_compile: bool = _setting(False, "Compile both networks with torch.compile: minutes of start, faster steps.")
    gather_batch_statistics: bool = _setting(
        False, "Take L_CD, and on GPUs batch normalisation, over the batches of all processes; else each over its own."
    )
    seed: int = _setting(0, "Seed of weights, noise and data order.")

    # --- Output
    output_dir: str = _setting("outputs/fdae", "Folder of the pipeline, its figures, logs and checkpoints.")
    report_to: Literal["tensorboard", "wandb", "comet_ml", "mlflow", "none"] = _setting(
        "tensorboard", "Tracker of accelerate."
    )
    logging_steps: int = _setting(50, "Steps between logged losses (means over the interval and the processes).")
    validation_steps: int = _setting(5_000, "Steps between pictures of masks and reconstructions; 0: only at the end.")
    num_validation_images: int = _setting(6, "Images in those pictures and the final ones, spread over the data set.")
    num_inference_steps: int | None = _setting(None, "Steps of the sampler for those pictures.")
    checkpointing_steps: int = _setting(10_000, "Steps between checkpoints; 0: none.")
    checkpoints_total_limit: int | None = _setting(None, "Keep only the newest checkpoints.")
    resume_from_checkpoint: str | None = _setting(None, 'A checkpoint folder, or "latest" in the output folder.')

    # --- Hub
    push_to_hub: bool = _setting(False, "Upload pipeline, card and pictures at the end; needs a login.")
    hub_model_id: str | None = _setting(None, "Repository on the Hub; the name of the output folder by default.")
    hub_private_repo: bool = _setting(False, "Create the repository as a private one.")
    hub_dry_run_dir: str | None = _setting(None, "Copy what would be uploaded to this folder instead.")
    license: str = _setting("apache-2.0", "Licence of the weights, named in the model card.")

    def __post_init__(self):
        if self.num_concepts is not None:
            self.encoder = JSONMapping({**self.encoder, "num_concepts": self.num_concepts})
        if (self.dataset_name is None) == (self.train_data_dir is None):
            raise FDAEError("name the data: either dataset_name or train_data_dir")
        if self.streaming and self.cache_images:
            raise FDAEError("give streaming or cache_images: a stream is not kept in memory")
        check_at_least_one(self, AT_LEAST_ONE)
        choose_num_inference_steps(default_scheduler(), self.num_inference_steps)  # the sampler's own bounds
        for name in ("learning_rate", "p_std"):
            if getattr(self, name) <= 0:
                raise FDAEError(f"{name} must be positive, not {getattr(self, name)}")
        if self.p_std_end is not None and self.p_std_end <= 0:
            raise FDAEError(f"p_std_end must be positive, not {self.p_std_end}")
        if (
            self.mask_entropy_weight_end is not None
            and min(self.mask_entropy_weight, self.mask_entropy_weight_end) <= 0
        ):
            raise FDAEError("mask_entropy_weight must be positive to move to mask_entropy_weight_end, and that too")
        if not 0 <= self.move_start < self.move_end <= 1:
            raise FDAEError(
                f"0 <= move_start < move_end <= 1 is needed, not {self.move_start} and {self.move_end}: "
                "they are fractions of the steps"
            )
        if not 0 <= self.ema_decay < 1:
            raise FDAEError(f"ema_decay must be at least 0 and below 1, not {self.ema_decay}")

    def check_resumes(self, saved: dict[str, Any]) -> None:
        """Make sure that a run with the saved settings can go on with these.

        Raises:
            FDAEError: If a setting differs that decides what is learned.
        """
        # A setting that the checkpoint's version did not know had its default's effect.
        saved = {item.name: item.default for item in fields(self) if item.default is not MISSING} | saved
        current = asdict(self)
        changed = [name for name in sorted(current.keys() - FREE_ON_RESUME) if current[name] != saved.get(name)]
        if changed:
            differences = ", ".join(f"{name}={saved.get(name)!r}" for name in changed)
            raise FDAEError(f"cannot resume with other settings; the checkpoint was made with {differences}")
