"""Build what is trained: the networks of a preset, checks of networks from elsewhere, and the objective."""

from typing import TypeAlias

from ..errors import user_errors
from ..models import CMFNet, FDAEUNet2DModel, compatibility
from ..models.presets import build_models
from ..objective import FDAEObjective
from ..utils.memory import enable_full_checkpointing, enable_selective_checkpointing
from .config import NetworkConfig, TrainingConfig
from .distributed import check_configuration
from .steps import scheduler_for

Networks: TypeAlias = tuple[FDAEUNet2DModel, CMFNet]

CUSTOM_PRESET = "custom"  # what is recorded for networks that a preset did not build


def build_networks(config: NetworkConfig) -> Networks:
    """Build U-Net and encoder with random weights.

    Raises:
        FDAEError: If the preset or an argument does not exist, or the networks cannot be built as asked.
    """
    unet, encoder = build_models(config.preset, config.unet, config.encoder)
    if config.mask_init == "shared":
        encoder.start_with_shared_masks()
    return unet, encoder


def check_networks(unet: FDAEUNet2DModel, encoder: CMFNet) -> None:
    """Refuse, before training, networks that could not be saved or loaded after it.

    Raises:
        FDAEError: If they do not belong together, or their configurations do not rebuild them.
    """
    with user_errors("cannot train these networks", ValueError):
        compatibility.check_networks(unet, encoder)
    for network in (unet, encoder):
        check_configuration(network)


def build_objective(config: TrainingConfig, unet: FDAEUNet2DModel, encoder: CMFNet) -> FDAEObjective:
    """Build the training objective of two networks, which are put into training mode and set up to save memory."""
    for network in (unet, encoder):
        network.train()  # `from_pretrained` leaves it in evaluation mode
        if config.gradient_checkpointing == "selective":
            enable_selective_checkpointing(network)
        elif config.gradient_checkpointing == "full":
            enable_full_checkpointing(network)
    if config.torch_compile:  # in place: names of parameters stay
        unet.compile()
        encoder.compile()
    return FDAEObjective(
        unet,
        encoder,
        scheduler_for(config.scheduler),
        p_mean=config.p_mean,
        p_std=config.p_std,
        loss_weights=config.loss_weights,
        reduction=config.reduction,
        gather_batch_statistics=config.gather_batch_statistics,
        micro_batch_size=config.micro_batch_size,
    )
