"""FDAEPipeline: encode images to codes, edit the codes, decode them with an EDM sampler.

    images -> pixel_values -> CMFNet -> codes -> masks -> condition map -> U-Net + scheduler -> images

E and D_M run once per call; only the U-Net runs at every step of the sampler.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline, EDMEulerScheduler
from diffusers.utils.torch_utils import randn_tensor

from .codes import Concepts, FDAECodes
from .errors import FDAEError
from .image_processing import ImageInput, to_output, to_pixel_values
from .models import CMFNet, FDAEUNet2DModel
from .models.compatibility import check_networks
from .pipeline_output import FDAEPipelineOutput, Images
from .schedulers.defaults import choose_num_inference_steps
from .schedulers.inversion import invert_sampler
from .utils.hub import explain_loading_error

Generators = torch.Generator | list[torch.Generator] | None


class FDAEPipeline(DiffusionPipeline):
    """Factorized Diffusion Autoencoder (Wu and Zheng, AAAI 2024).

    Images may be PIL images, numpy arrays, tensors or lists of them, of any size and mode: they are converted to RGB
    (an alpha channel is composited over white), cropped to a centred square and resized to the model's size. Arrays
    and tensors are uint8 in 0..255 or float in [0, 1]; float with negative values is taken as already in [-1, 1].

    Args:
        unet: The generator.
        encoder: CMFNet, image encoder E and mask decoder D_M, in evaluation mode as `from_pretrained` loads it:
            otherwise its batch normalisation makes an image's codes depend on its neighbours.
        scheduler: Any EDM scheduler; :class:`~fdae_diffusers.EDMHeunScheduler` is the paper's sampler,
            DPM-Solver++ the fastest.
        num_inference_steps: Steps that the scheduler takes unless told otherwise; its own default if not given.

    Raises:
        ValueError: If the two networks do not belong together.
    """

    model_cpu_offload_seq = "encoder->unet"
    _callback_tensor_inputs = ("latents", "condition_map")

    unet: FDAEUNet2DModel
    encoder: CMFNet
    scheduler: EDMEulerScheduler

    def __init__(
        self,
        unet: FDAEUNet2DModel,
        encoder: CMFNet,
        scheduler: EDMEulerScheduler,
        num_inference_steps: int | None = None,
    ):
        super().__init__()
        check_networks(unet, encoder)
        self.register_modules(unet=unet, encoder=encoder, scheduler=scheduler)
        self.register_to_config(num_inference_steps=num_inference_steps)
        self._saved_scheduler = scheduler

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs) -> Any:
        """Load a pipeline from a folder or the Hub; arguments as for `DiffusionPipeline.from_pretrained`.

        Raises:
            OSError: If the model, its revision or one of its components does not exist; the message says which.
        """
        try:
            return super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        except (OSError, ValueError) as error:
            needed = [name for name in ("unet", "encoder", "scheduler") if name not in kwargs]
            where = {name: kwargs[name] for name in ("revision", "cache_dir") if name in kwargs}
            explanation = explain_loading_error(error, pretrained_model_name_or_path, needed, **where)
            if explanation is None:
                raise
            raise OSError(explanation) from error

    @torch.no_grad()
    def encode(self, images: ImageInput) -> FDAECodes:
        """Encode B images of any kind to codes: content (B, N, d_c) and mask (B, N, d_m).

        Raises:
            ValueError: If the input is no image.
        """
        pixel_values = to_pixel_values(images, self.encoder.config.sample_size)  # (B, 3, H, W)
        return self.encoder.encode(pixel_values.to(self._execution_device, self.encoder.dtype))

    @torch.no_grad()
    def decode_masks(self, codes: FDAECodes) -> torch.Tensor:
        """Decode the masks (B, N, H, W) of codes; they sum to one over N."""
        return self.encoder.decode_masks(codes.to(self._execution_device, self.encoder.dtype))

    @torch.no_grad()
    def __call__(
        self,
        image: ImageInput | None = None,
        codes: FDAECodes | None = None,
        num_inference_steps: int | None = None,
        generator: Generators = None,
        latents: torch.Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[[Any, int, torch.Tensor, dict], dict] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> Any:
        """Reconstruct images, or decode codes.

        Args:
            image: What to reconstruct, B images of any kind.
            codes: What to decode, instead of ``image``.
            num_inference_steps: Steps of the sampler, by default 10 for DPM-Solver++ and 40 for others; Heun calls the
                U-Net ``2 * num_inference_steps - 1`` times.
            generator: Source of the starting noise: one for the batch, or a list of one per image.
            latents: Starting noise (B, 3, H, W) or (1, 3, H, W), standard normal, instead of drawing it.
            output_type: ``"pil"``, ``"np"`` or ``"pt"``.
            return_dict: Return an output object instead of the tuple (images, masks, codes).
            callback_on_step_end: Called after each step with (pipeline, step, timestep, tensors by name); returns the
                dictionary, in which it may replace them.
            callback_on_step_end_tensor_inputs: What it is given: ``"latents"``, ``"condition_map"``.

        Returns:
            :class:`FDAEPipelineOutput`.

        Raises:
            ValueError: If not exactly one of ``image`` and ``codes`` is given, the codes are another model's, the
                latents do not fit, or an output type or tensor input is unknown.
        """
        if (image is None) == (codes is None):
            raise ValueError("give either images to reconstruct or codes to decode")
        if output_type not in ("pil", "np", "pt"):
            raise ValueError(f'output_type must be "pil", "np" or "pt", not {output_type!r}')
        if not set(callback_on_step_end_tensor_inputs) <= set(self._callback_tensor_inputs):
            raise ValueError(
                f"callback_on_step_end_tensor_inputs must be among {self._callback_tensor_inputs}, "
                f"not {tuple(callback_on_step_end_tensor_inputs)}"
            )
        if image is not None:
            codes = self.encode(image)
        assert codes is not None
        codes, masks, condition = self._condition(codes)

        if num_inference_steps is None and self.scheduler is self._saved_scheduler:
            num_inference_steps = self.config.num_inference_steps
        num_inference_steps = choose_num_inference_steps(self.scheduler, num_inference_steps)
        self.scheduler.set_timesteps(num_inference_steps, device=self._execution_device)
        sample = self._starting_noise(len(codes), generator, latents) * self.scheduler.init_noise_sigma
        with self.progress_bar(total=len(self.scheduler.timesteps)) as progress_bar:
            for i, timestep in enumerate(self.scheduler.timesteps):
                scaled = self.scheduler.scale_model_input(sample, timestep)
                output = self._run_unet(scaled, timestep, condition)
                sample = self.scheduler.step(output, timestep, sample, generator=generator).prev_sample
                if callback_on_step_end is not None:
                    tensors = {"latents": sample, **condition}
                    given = {name: tensors[name] for name in callback_on_step_end_tensor_inputs}
                    tensors.update(callback_on_step_end(self, i, timestep, given))
                    sample = tensors["latents"]
                    condition = {name: tensors[name] for name in condition}
                progress_bar.update()

        images = to_output(sample, output_type)
        self.maybe_free_model_hooks()
        return FDAEPipelineOutput(images, masks, codes) if return_dict else (images, masks, codes)

    @torch.no_grad()
    def invert(
        self, images: ImageInput, codes: FDAECodes | None = None, num_inference_steps: int | None = None
    ) -> torch.Tensor:
        """Find the starting noise that images come from, given their codes: what the codes do not hold of them.

            latents = pipe.invert(image)
            pipe(image, latents=latents)  # the image itself
            pipe(codes=edited, latents=latents)  # changed in what was edited alone

        Args:
            images: B images of any kind.
            codes: Their codes, if they are at hand.
            num_inference_steps: Steps of the sampler, the same as for the pipeline call that goes back.

        Returns:
            Latents (B, 3, H, W) for the pipeline call; for pictures without noise, they are less than standard normal.

        Raises:
            ValueError: If the input is no image, the codes are not those of B images, or the scheduler has churn.
        """
        pixel_values = to_pixel_values(images, self.unet.config.sample_size).to(self._execution_device)
        codes = self.encode(images) if codes is None else codes
        if len(codes) != len(pixel_values):
            raise ValueError(f"got codes of {len(codes)} images for {len(pixel_values)} images")
        condition = self._condition(codes)[2]
        latents = invert_sampler(
            self.scheduler,
            lambda sample, timestep: self._run_unet(sample, timestep, condition),
            pixel_values,
            choose_num_inference_steps(self.scheduler, num_inference_steps),
        )
        self.maybe_free_model_hooks()
        return latents

    def swap(
        self,
        source: ImageInput,
        target: ImageInput,
        content: Concepts = (),
        mask: Concepts = (),
        keep_noise: bool = False,
        num_inference_steps: int | None = None,
        **kwargs,
    ) -> Images:
        """Redraw source images with some codes of the target images.

        Args:
            source: B images to edit.
            target: B images, or one for all, that give the codes.
            content: Concepts whose content code (what) is taken, or ``"all"``.
            mask: Concepts whose mask code (where) is taken, or ``"all"``.
            keep_noise: Start from the source's own noise, by :meth:`invert`, which keeps what its codes do not hold.
            num_inference_steps: Steps of the sampler, as for the pipeline call.
            kwargs: As for the pipeline call, ``generator`` or ``output_type`` for example.

        Returns:
            The B edited images.

        Raises:
            ValueError: As :meth:`FDAECodes.swap` and the pipeline call.
        """
        codes = self.encode(source)
        if keep_noise:
            if "latents" in kwargs:
                raise FDAEError("give latents or keep_noise, which finds them")
            kwargs["latents"] = self.invert(source, codes, num_inference_steps)
        swapped = codes.swap(self.encode(target), content=content, mask=mask)
        return self(codes=swapped, num_inference_steps=num_inference_steps, **kwargs)[0]

    @torch.no_grad()
    def swap_grid(
        self,
        images: ImageInput,
        num_inference_steps: int | None = None,
        generator: torch.Generator | None = None,
        output_type: str = "pil",
        batch_size: int = 64,
    ) -> Images:
        """Combine the content of each of n images with the masks of each (FDAE paper, fig. 3; supplement, fig. 3-4).

        All start from the same noise, so that pictures differ by their codes alone.

        Args:
            images: n images of any kind.
            num_inference_steps: Steps of the sampler, as for the pipeline call.
            generator: Source of the starting noise.
            output_type: ``"pil"``, ``"np"`` or ``"pt"``.
            batch_size: Pictures decoded at a time: bounds the memory.

        Returns:
            Rows give content, columns give masks: n lists of n PIL images, an array (n, n, H, W, 3) or a tensor
            (n, n, 3, H, W), both in [0, 1].

        Raises:
            ValueError: If the input is no image, or the model has a single concept and so no masks.
        """
        codes = self.encode(images)
        num_images, grid_codes = len(codes), codes.pairs()
        latents = self._starting_noise(1, generator, None)
        pictures = torch.cat(
            [
                self(
                    codes=grid_codes[start : start + batch_size],
                    num_inference_steps=num_inference_steps,
                    generator=generator,
                    latents=latents,
                    output_type="pt",
                ).images
                for start in range(0, len(grid_codes), batch_size)
            ]
        ).unflatten(0, (num_images, num_images))  # (n, n, 3, H, W) in [0, 1]
        if output_type == "pt":
            return pictures
        rows = [to_output(row * 2 - 1, output_type) for row in pictures]
        return rows if output_type == "pil" else np.stack(rows)

    def _condition(self, codes: FDAECodes) -> tuple[FDAECodes, torch.Tensor, dict[str, torch.Tensor]]:
        """Codes where the encoder is, their masks (B, N, H, W) and what they condition the U-Net on, by keyword."""
        if not len(codes):
            raise FDAEError("no image given: the codes are empty")
        codes = codes.to(self._execution_device, self.encoder.dtype)
        masks = self.encoder.decode_masks(codes)
        return codes, masks, self.encoder.condition(codes, masks)

    def _run_unet(
        self, sample: torch.Tensor, timestep: torch.Tensor, condition: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        """Output F (B, 3, H, W) in float32, as samplers work: with sigma up to 80, half precision would show."""
        condition = {name: value.to(self.unet.dtype) for name, value in condition.items()}
        return self.unet(sample.to(self.unet.dtype), timestep, **condition).sample.float()

    def _starting_noise(self, batch_size: int, generator: Generators, latents: torch.Tensor | None) -> torch.Tensor:
        """Standard normal noise (B, C, H, W) in float32, drawn or checked."""
        size = self.unet.config.sample_size
        shape = (batch_size, self.unet.config.in_channels, size, size)
        if latents is None:
            if isinstance(generator, list) and len(generator) != batch_size:
                raise ValueError(
                    f"got {len(generator)} generators for {batch_size} images: give one each, or a single one"
                )
            return randn_tensor(shape, generator=generator, device=self._execution_device, dtype=torch.float32)
        if latents.shape not in (shape, (1, *shape[1:])):
            raise ValueError(f"latents must have shape {shape} or {(1, *shape[1:])}, not {tuple(latents.shape)}")
        return latents.to(self._execution_device, torch.float32).expand(shape)
