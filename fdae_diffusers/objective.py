"""The training objective, from pixel_values to the loss (FDAE paper, eq. 8-11; Karras et al. 2022, table 1).

    ln sigma ~ N(P_mean, P_std^2),  x_t = x + sigma * n,  D = c_skip * x_t + c_out * F(c_in * x_t, c_noise, C)
    L = L_rec + w_CD * L_CD + w_ME * L_ME

One module owns both networks, so that one distributed wrapper covers both.
"""

from typing import NamedTuple

import torch
from diffusers import EDMEulerScheduler
from diffusers.utils.torch_utils import randn_tensor
from torch import distributed, nn

from .codes import FDAECodes
from .losses import Reduction, content_decorrelation_loss, mask_entropy_loss, reconstruction_loss
from .models import CMFNet, FDAEUNet2DModel
from .utils.memory import in_micro_batches


class FDAEObjectiveOutput(NamedTuple):
    """The loss of a batch and its parts, all scalars; the parts are before their weights."""

    loss: torch.Tensor
    reconstruction_loss: torch.Tensor
    content_decorrelation_loss: torch.Tensor
    mask_entropy_loss: torch.Tensor


class FDAEObjective(nn.Module):
    """Denoising loss of a U-Net conditioned on CMFNet, plus the two regularisers.

    Args:
        unet: The generator.
        encoder: The content-mask factorization network.
        scheduler: Any EDM scheduler; only its preconditioning is used.
        p_mean: Mean P_mean of ln(sigma).
        p_std: Standard deviation P_std of ln(sigma).
        content_decorrelation_weight: w_CD; the default belongs to ``reduction="released"``.
        mask_entropy_weight: w_ME; likewise.
        reduction: ``"released"`` or ``"paper"``, see :mod:`fdae_diffusers.losses`.
        gather_batch_statistics: Take L_CD over the batches of all processes instead of each over its own.
        micro_batch_size: Images that pass D_M and the U-Net at a time, all by default. The loss and its gradient are
            those of the whole batch, but only the activations of so many images are held. Its parts then have no
            gradients, and gradients scaled for float16 come too late.

    Raises:
        ValueError: If ``micro_batch_size`` is below one.
    """

    def __init__(
        self,
        unet: FDAEUNet2DModel,
        encoder: CMFNet,
        scheduler: EDMEulerScheduler,
        p_mean: float = -1.2,
        p_std: float = 1.2,
        content_decorrelation_weight: float = 2.5e-5,
        mask_entropy_weight: float = 1e-4,
        reduction: Reduction = "released",
        gather_batch_statistics: bool = False,
        micro_batch_size: int | None = None,
    ):
        super().__init__()
        if micro_batch_size is not None and micro_batch_size < 1:
            raise ValueError(f"micro_batch_size must be at least 1, not {micro_batch_size}")
        self.unet = unet
        self.encoder = encoder
        self.scheduler = scheduler
        self.p_mean = p_mean
        self.p_std = p_std
        self.content_decorrelation_weight = content_decorrelation_weight
        self.mask_entropy_weight = mask_entropy_weight
        self.reduction = reduction
        self.gather_batch_statistics = gather_batch_statistics
        self.micro_batch_size = micro_batch_size

    def forward(self, pixel_values: torch.Tensor, generator: torch.Generator | None = None) -> FDAEObjectiveOutput:
        """Draw noise for images (B, 3, H, W) in [-1, 1] and return the loss.

        Args:
            pixel_values: The images.
            generator: Source of sigma and noise; the global one by default.
        """
        shape, device = pixel_values.shape, pixel_values.device
        log_sigma = self.p_mean + self.p_std * randn_tensor((shape[0], 1, 1, 1), generator=generator, device=device)
        noise = randn_tensor(shape, generator=generator, device=device, dtype=pixel_values.dtype)
        return self.loss(pixel_values, log_sigma.exp(), noise)

    def loss(self, pixel_values: torch.Tensor, sigma: torch.Tensor, noise: torch.Tensor) -> FDAEObjectiveOutput:
        """Loss at given noise levels (B, 1, 1, 1) and standard normal noise (B, 3, H, W)."""
        if self.micro_batch_size is None:
            factors = self.encoder(pixel_values)
            content_codes = factors.content_codes
            loss, l_rec, l_me = self._generator_losses(
                factors.masks, factors.condition_map, pixel_values, sigma, noise
            )
        else:
            codes = self.encoder.encode(pixel_values)  # whole: batch normalisation and L_CD look at all images
            content_codes = codes.content
            loss, l_rec, l_me = self._losses_in_micro_batches(codes, pixel_values, sigma, noise, self.micro_batch_size)

        with torch.autocast(pixel_values.device.type, enabled=False):  # the losses are taken in float32
            if self.gather_batch_statistics:
                content_codes = gather_codes(content_codes)
            l_cd = content_decorrelation_loss(content_codes, self.reduction)
        return FDAEObjectiveOutput(loss + self.content_decorrelation_weight * l_cd, l_rec, l_cd, l_me)

    def _generator_losses(
        self,
        masks: torch.Tensor,
        condition_map: torch.Tensor,
        pixel_values: torch.Tensor,
        sigma: torch.Tensor,
        noise: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """L_rec + w_ME L_ME and the two, means over the images."""
        denoised = self.denoise(pixel_values + sigma * noise, sigma, condition_map)  # (B, 3, H, W)
        with torch.autocast(pixel_values.device.type, enabled=False):
            l_rec = reconstruction_loss(denoised, pixel_values, sigma, self.scheduler.config.sigma_data).mean()
            l_me = mask_entropy_loss(masks, self.reduction)
        return l_rec + self.mask_entropy_weight * l_me, l_rec, l_me

    def _losses_in_micro_batches(
        self, codes: FDAECodes, pixel_values: torch.Tensor, sigma: torch.Tensor, noise: torch.Tensor, size: int
    ) -> tuple[torch.Tensor, ...]:
        """The same of the whole batch, but the first alone has gradients."""
        batch_size = len(pixel_values)

        def share(pixel_values: torch.Tensor, sigma: torch.Tensor, noise: torch.Tensor, *codes: torch.Tensor):
            masks = self.encoder.decode_masks(FDAECodes(*codes))
            condition_map = self.encoder.condition_map(codes[0], masks)
            losses = self._generator_losses(masks, condition_map, pixel_values, sigma, noise)
            return tuple(len(pixel_values) / batch_size * loss for loss in losses)

        inputs = [pixel_values, sigma, noise, codes.content, *([] if codes.mask is None else [codes.mask])]
        return in_micro_batches(share, inputs, self.parameters(), size)

    def denoise(self, noisy: torch.Tensor, sigma: torch.Tensor, condition_map: torch.Tensor) -> torch.Tensor:
        """D(x_t; sigma, C) for noisy images (B, 3, H, W), sigma (B, 1, 1, 1) and a condition map (B, d_F, H, W)."""
        scaled = self.scheduler.precondition_inputs(noisy, sigma)  # c_in * x_t
        c_noise = self.scheduler.precondition_noise(sigma).flatten()  # (B,)
        output = self.unet(scaled, c_noise, condition_map).sample  # F, (B, 3, H, W)
        return self.scheduler.precondition_outputs(noisy, output, sigma)  # c_skip * x_t + c_out * F


def gather_codes(codes: torch.Tensor) -> torch.Tensor:
    """Gather codes (B, N, d) of W processes to (W * B, N, d), for a loss that each process computes of all of them.

    Gradients that are averaged over the processes, as DDP and FSDP do, are then those of one process with all images.
    """
    if not distributed.is_available() or not distributed.is_initialized():
        return codes
    num_processes = distributed.get_world_size()
    gathered = [torch.empty_like(codes) for _ in range(num_processes)]
    distributed.all_gather(gathered, codes.detach().contiguous())
    own = codes.clone()
    if own.requires_grad:
        # All compute the same loss, but each sees the gradient of its own codes alone, which averaging divides by W.
        own.register_hook(lambda gradient: gradient * num_processes)
    gathered[distributed.get_rank()] = own
    return torch.cat(gathered)
