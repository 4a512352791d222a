"""The training objective, from pixel_values to the loss (FDAE paper, eq. 8-11; Karras et al. 2022, table 1).

    ln sigma ~ N(P_mean, P_std^2),  x_t = x + sigma * n,  D = c_skip * x_t + c_out * F(c_in * x_t, c_noise, C)
    L = L_rec + w_CD * L_CD + w_ME * L_ME

One module owns both networks, so that one distributed wrapper covers both. Further terms of the loss are added to
:data:`fdae_diffusers.losses.LOSS_TERMS`.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from diffusers import EDMEulerScheduler
from diffusers.utils.torch_utils import randn_tensor
from torch import distributed, nn

from .codes import FDAECodes
from .losses import LOSS_TERMS, RECONSTRUCTION, CodeBatch, ImageBatch, Reduction, complete_loss_weights
from .models import CMFNet, FDAEUNet2DModel
from .utils.memory import in_micro_batches

Condition = Mapping[str, torch.Tensor]


class FDAEObjectiveOutput(NamedTuple):
    """The loss of a batch and its terms by name, all scalars; the terms are before their weights."""

    loss: torch.Tensor
    terms: dict[str, torch.Tensor]


class FDAEObjective(nn.Module):
    """Denoising loss of a U-Net conditioned on CMFNet, plus regularisers.

    Args:
        unet: The U-Net.
        encoder: The content-mask factorization network, or a network whose `condition` gives the U-Net other keywords.
        scheduler: Any EDM scheduler; only its preconditioning is used.
        p_mean: Mean P_mean of ln(sigma).
        p_std: Standard deviation P_std of ln(sigma).
        loss_weights: Weights by name of the term, where they differ from the defaults in
            :data:`fdae_diffusers.losses.LOSS_TERMS`, which belong to ``reduction="released"``. Terms of weight zero
            are not computed, except for the reconstruction.
        reduction: ``"released"`` or ``"paper"``, see :mod:`fdae_diffusers.losses`.
        gather_batch_statistics: Compute the terms over codes, such as L_CD, on the codes of all processes instead of
            each process on its own.
        micro_batch_size: Images that pass D_M and the U-Net at a time, all by default. The loss and its gradient are
            those of the whole batch, but only the activations of this many images are held. Only the loss carries a
            gradient then, its terms do not; fp16 loss scaling is not supported.

    Raises:
        ValueError: If ``micro_batch_size`` is below one, or a loss weight is not a number or has an unknown name.
    """

    def __init__(
        self,
        unet: FDAEUNet2DModel,
        encoder: CMFNet,
        scheduler: EDMEulerScheduler,
        p_mean: float = -1.2,
        p_std: float = 1.2,
        loss_weights: Mapping[str, float] | None = None,
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
        self.loss_weights = complete_loss_weights(loss_weights)
        self.reduction = reduction
        self.gather_batch_statistics = gather_batch_statistics
        self.micro_batch_size = micro_batch_size

        used = {
            name: LOSS_TERMS[name] for name, weight in self.loss_weights.items() if weight or name == RECONSTRUCTION
        }
        self._image_terms = {name: term.function for name, term in used.items() if term.over == "images"}
        self._code_terms = {name: term.function for name, term in used.items() if term.over == "codes"}
        self._term_names = list(used)

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
        """Return the loss at given noise levels (B, 1, 1, 1) and standard normal noise (B, 3, H, W)."""
        if self.micro_batch_size is None:
            factors = self.encoder(pixel_values)
            content_codes, mask_codes = factors.content_codes, factors.mask_codes
            codes = FDAECodes(content_codes, mask_codes)
            loss, *values = self._image_losses(codes, factors.masks, factors.condition, pixel_values, sigma, noise)
        else:
            codes = self.encoder.encode(pixel_values)  # whole: batch normalisation and L_CD look at all images
            loss, *values = self._image_losses_in_micro_batches(
                codes, pixel_values, sigma, noise, self.micro_batch_size
            )
        terms = dict(zip(self._image_terms, values, strict=True))

        with torch.autocast(pixel_values.device.type, enabled=False):  # the losses are taken in float32
            if self._code_terms:
                batch = self._code_batch(codes)
                for name, function in self._code_terms.items():
                    terms[name] = function(batch)
                    loss = loss + self.loss_weights[name] * terms[name]
        return FDAEObjectiveOutput(loss, {name: terms[name] for name in self._term_names})

    def _code_batch(self, codes: FDAECodes) -> CodeBatch:
        content_codes, mask_codes = codes.content, codes.mask
        if self.gather_batch_statistics:
            content_codes = gather_codes(content_codes)
            mask_codes = None if mask_codes is None else gather_codes(mask_codes)
        return CodeBatch(content_codes=content_codes, mask_codes=mask_codes, reduction=self.reduction)

    def _image_losses(
        self,
        codes: FDAECodes,
        masks: torch.Tensor,
        condition: Condition,
        pixel_values: torch.Tensor,
        sigma: torch.Tensor,
        noise: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        """Weighted sum of the terms over images, then each of them; means over the images."""
        denoised = self.denoise(pixel_values + sigma * noise, sigma, **condition)  # (B, 3, H, W)
        with torch.autocast(pixel_values.device.type, enabled=False):
            batch = ImageBatch(
                content_codes=codes.content,
                mask_codes=codes.mask,
                reduction=self.reduction,
                masks=masks,
                condition=condition,
                pixel_values=pixel_values,
                sigma=sigma,
                noise=noise,
                denoised=denoised,
                sigma_data=self.scheduler.config.sigma_data,
            )
            terms = {name: function(batch) for name, function in self._image_terms.items()}
            loss = sum((self.loss_weights[name] * term for name, term in terms.items()), start=denoised.new_zeros(()))
        return loss, *terms.values()

    def _image_losses_in_micro_batches(
        self, codes: FDAECodes, pixel_values: torch.Tensor, sigma: torch.Tensor, noise: torch.Tensor, size: int
    ) -> tuple[torch.Tensor, ...]:
        """The same of the whole batch, but only the sum carries a gradient."""
        batch_size = len(pixel_values)

        def share(pixel_values: torch.Tensor, sigma: torch.Tensor, noise: torch.Tensor, *parts: torch.Tensor):
            codes = FDAECodes(*parts)
            masks = self.encoder.decode_masks(codes)
            condition = self.encoder.condition(codes, masks)
            losses = self._image_losses(codes, masks, condition, pixel_values, sigma, noise)
            return tuple(len(pixel_values) / batch_size * loss for loss in losses)

        inputs = [pixel_values, sigma, noise, codes.content, *([] if codes.mask is None else [codes.mask])]
        return in_micro_batches(share, inputs, self.parameters(), size)

    def denoise(self, noisy: torch.Tensor, sigma: torch.Tensor, **condition: torch.Tensor) -> torch.Tensor:
        """Return D(x_t; sigma, C) for noisy images (B, 3, H, W) and sigma (B, 1, 1, 1).

        Args:
            noisy: x_t.
            sigma: Noise level of each image.
            **condition: What the U-Net is conditioned on, as `CMFNet.condition` returns it: ``condition_map``
                (B, d_F, H, W).
        """
        scaled = self.scheduler.precondition_inputs(noisy, sigma)  # c_in * x_t
        c_noise = self.scheduler.precondition_noise(sigma).flatten()  # (B,)
        output = self.unet(scaled, c_noise, **condition).sample  # F, (B, 3, H, W)
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
