"""FDAEPipeline: encode images to codes, edit the codes, decode them with an EDM sampler.

    images -> pixel_values -> CMFNet -> codes -> masks -> condition -> U-Net + scheduler -> images

E and D_M run once per call; only the U-Net runs at every step of the sampler.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Self, overload

import numpy as np
import torch
from diffusers import DiffusionPipeline, EDMEulerScheduler
from PIL import Image

from .codes import Concepts, FDAECodes, check_codes
from .errors import FDAEError
from .image_processing import ImageInput, OutputType, check_output_type, to_output, to_pixel_values
from .models import CMFNet, FDAEUNet2DModel
from .models.compatibility import check_networks
from .pipeline_output import FDAEPipelineOutput, Images
from .schedulers.defaults import check_scheduler, choose_num_inference_steps, have_same_settings
from .schedulers.inversion import invert_sampler
from .schedulers.sampling import Generators, starting_noise
from .utils.hub import explain_loading_error

Condition = Mapping[str, torch.Tensor]  # what the U-Net is called with, by keyword
Callback = Callable[[Any, int, torch.Tensor, dict[str, torch.Tensor]], dict[str, torch.Tensor]]


class FDAEPipeline(DiffusionPipeline):
    """Factorized Diffusion Autoencoder (Wu and Zheng, AAAI 2024).

    Images may be PIL images, numpy arrays, tensors or lists of them, of any size and mode: they are converted to RGB
    (an alpha channel is composited over white), cropped to a centred square and resized to the model's size. Arrays
    and tensors are uint8 in 0..255 or float in [0, 1]; float with negative values is taken as already in [-1, 1].

    A subclass adds an optional component, a prior for example, as everywhere in diffusers: its ``__init__`` takes the
    component as a keyword with the default ``None``, calls ``super().__init__`` and ``register_modules(prior=prior)``,
    and the class lists it in ``_optional_components = ["prior"]``. The component is then saved to a folder of its
    name and loaded from it; models without it load as before. The module that defines the component's class needs
    diffusers' ``ModelMixin`` among its names, and to be imported before a model with the component is loaded; to load
    it from the Hub, its package registers itself in diffusers' ``LOADABLE_CLASSES`` as this one does.

    Args:
        unet: The U-Net.
        encoder: CMFNet, image encoder E and mask decoder D_M, in evaluation mode as `from_pretrained` loads it:
            otherwise its batch normalisation makes an image's codes depend on its neighbours. It may be a subclass
            that conditions another U-Net, see :meth:`CMFNet.condition`.
        scheduler: Any EDM scheduler; :class:`~fdae_diffusers.EDMHeunScheduler` is the paper's sampler,
            DPM-Solver++ the fastest.
        num_inference_steps: Steps that calls take unless told otherwise. The number is saved in ``model_index.json``.
            It belongs to this scheduler: with another one, that scheduler's own default holds.

    Raises:
        FDAEError: If the two networks do not belong together, the scheduler is no EDM scheduler, or it cannot take so
            few steps.
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
        check_scheduler(scheduler)
        if num_inference_steps is not None:
            num_inference_steps = choose_num_inference_steps(scheduler, num_inference_steps)
        self.register_modules(unet=unet, encoder=encoder, scheduler=scheduler)
        self.register_to_config(num_inference_steps=num_inference_steps)
        self._saved_sampler = (scheduler, num_inference_steps)
        self._num_timesteps = 0

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "scheduler" and "_saved_sampler" in self.__dict__:
            scheduler, steps = self._saved_sampler
            self.register_to_config(num_inference_steps=steps if have_same_settings(scheduler, value) else None)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any) -> Self:
        """Load a pipeline from a folder or the Hub; arguments as for `DiffusionPipeline.from_pretrained`.

        Raises:
            OSError: If the model, its revision, its variant or one of its components does not exist; the message says
                which.
        """
        try:
            return super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        except (OSError, ValueError) as error:
            needed = [name for name in ("unet", "encoder", "scheduler") if name not in kwargs]
            where = {name: kwargs[name] for name in ("revision", "cache_dir", "variant") if name in kwargs}
            explanation = explain_loading_error(error, pretrained_model_name_or_path, needed, **where)
            if explanation is None:
                raise
            raise OSError(explanation) from error

    @property
    def default_num_inference_steps(self) -> int:
        """Steps that calls take unless told otherwise: the number saved with the sampler, else the sampler's own."""
        return self._choose_num_inference_steps(None)

    @property
    def num_timesteps(self) -> int:
        """Calls of the U-Net in the latest run of the sampler, as callbacks count them."""
        return self._num_timesteps

    @torch.no_grad()
    def encode(self, images: ImageInput) -> FDAECodes:
        """Encode B images of any kind to codes: content (B, N, d_c) and mask (B, N, d_m).

        Raises:
            FDAEError: If the input is no image.
        """
        return self._encode(self._read_images(images))

    @torch.no_grad()
    def decode_masks(self, codes: FDAECodes) -> torch.Tensor:
        """Decode the masks (B, N, H, W) of codes, in float32; they sum to one over N.

        Raises:
            FDAEError: If these are no codes, or another model's.
        """
        return self.encoder.decode_masks(check_codes(codes).to(self._execution_device, self.encoder.dtype)).float()

    @overload
    def decode(
        self,
        codes: FDAECodes,
        num_inference_steps: int | None = None,
        generator: Generators = None,
        latents: torch.Tensor | None = None,
        output_type: Literal["pil"] = "pil",
        batch_size: int = 64,
    ) -> list[Image.Image]: ...
    @overload
    def decode(
        self,
        codes: FDAECodes,
        num_inference_steps: int | None = None,
        generator: Generators = None,
        latents: torch.Tensor | None = None,
        output_type: OutputType = "pil",
        batch_size: int = 64,
    ) -> Images: ...
    @torch.no_grad()
    def decode(
        self,
        codes: FDAECodes,
        num_inference_steps: int | None = None,
        generator: Generators = None,
        latents: torch.Tensor | None = None,
        output_type: OutputType = "pil",
        batch_size: int = 64,
    ) -> Images:
        """Decode the codes of any number of images.

        Args:
            codes: Codes of B images.
            num_inference_steps: Steps of the sampler, as for the pipeline call.
            generator: Source of the starting noise: one for all, or a list of one per image.
            latents: Starting noise (B, 3, H, W) or (1, 3, H, W), standard normal, instead of drawing it.
            output_type: As for the pipeline call.
            batch_size: Images decoded at a time: bounds the memory.

        Returns:
            The B images, as ``output_type`` says.

        Raises:
            FDAEError: As the pipeline call.
        """
        check_output_type(output_type)
        num_inference_steps = self._choose_num_inference_steps(num_inference_steps)
        if not len(check_codes(codes)) or batch_size < 1:
            raise FDAEError(f"cannot decode {len(codes)} codes with batch_size={batch_size}: both must be at least 1")
        latents = self.prepare_latents(len(codes), generator, latents)
        samples = []
        for start in range(0, len(codes), batch_size):
            rows = slice(start, start + batch_size)
            condition = self._prepare(codes[rows])[2]
            own = generator[rows] if isinstance(generator, Sequence) else generator
            samples.append(self._sample(condition, latents[rows], num_inference_steps, own))
        self.maybe_free_model_hooks()
        return to_output(torch.cat(samples), output_type)

    def prepare_latents(
        self, batch_size: int, generator: Generators = None, latents: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Draw starting noise, or check what is given.

        Args:
            batch_size: B.
            generator: Source of the noise: one for all, or a list of one per image; the global one by default.
            latents: The noise (B, C, H, W), or (1, C, H, W) for all images, instead of drawing it.

        Returns:
            Standard normal noise (B, C, H, W), float32, where the pipeline runs.

        Raises:
            FDAEError: If the generator is of another type, there is not one per image, or the latents do not fit.
        """
        size = self.unet.config.sample_size
        shape = (batch_size, self.unet.config.in_channels, size, size)
        return starting_noise(shape, self._execution_device, generator, latents)

    @overload
    def __call__(
        self,
        image: ImageInput | None = None,
        codes: FDAECodes | None = None,
        num_inference_steps: int | None = None,
        generator: Generators = None,
        latents: torch.Tensor | None = None,
        output_type: OutputType = "pil",
        return_dict: Literal[True] = True,
        callback_on_step_end: Callback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> FDAEPipelineOutput: ...
    @overload
    def __call__(
        self,
        image: ImageInput | None = None,
        codes: FDAECodes | None = None,
        num_inference_steps: int | None = None,
        generator: Generators = None,
        latents: torch.Tensor | None = None,
        output_type: OutputType = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> FDAEPipelineOutput | tuple[Images, torch.Tensor, FDAECodes]: ...
    @torch.no_grad()
    def __call__(
        self,
        image: ImageInput | None = None,
        codes: FDAECodes | None = None,
        num_inference_steps: int | None = None,
        generator: Generators = None,
        latents: torch.Tensor | None = None,
        output_type: OutputType = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> FDAEPipelineOutput | tuple[Images, torch.Tensor, FDAECodes]:
        """Reconstruct images, or decode codes.

        Args:
            image: What to reconstruct, B images of any kind.
            codes: What to decode, instead of ``image``.
            num_inference_steps: Steps of the sampler, by default the number saved with the model, else 10 for
                DPM-Solver++ and 40 for others; Heun calls the U-Net ``2 * num_inference_steps - 1`` times.
            generator: Source of the starting noise: one for the batch, or a list of one per image.
            latents: Starting noise (B, 3, H, W) or (1, 3, H, W), standard normal, instead of drawing it.
            output_type: ``"pil"``, ``"np"``, ``"pt"``, or ``"latent"`` for what the sampler ends with: pixel values
                (B, 3, H, W) in about [-1, 1], float32, not clipped.
            return_dict: Return an output object instead of the tuple (images, masks, codes).
            callback_on_step_end: Called after each step with (pipeline, step, timestep, tensors by name); returns the
                dictionary, in which it may replace them.
            callback_on_step_end_tensor_inputs: What it is given: ``"latents"`` and the names of the condition, for
                CMFNet ``"condition_map"``.

        Returns:
            :class:`FDAEPipelineOutput`.

        Raises:
            FDAEError: If not exactly one of ``image`` and ``codes`` is given, the codes are another model's, the
                latents or the number of steps do not fit, the scheduler is no EDM scheduler, or an output type or
                tensor input is unknown.
        """
        if (image is None) == (codes is None):
            raise FDAEError("give either images to reconstruct or codes to decode")
        check_output_type(output_type)
        num_inference_steps = self._choose_num_inference_steps(num_inference_steps)
        if image is not None:
            codes = self.encode(image)
        assert codes is not None
        codes, masks, condition = self._prepare(codes)
        names = tuple(callback_on_step_end_tensor_inputs)
        if not set(names) <= {"latents", *condition}:
            raise FDAEError(f"callback_on_step_end_tensor_inputs must be among {('latents', *condition)}, not {names}")
        latents = self.prepare_latents(len(codes), generator, latents)
        sample = self._sample(condition, latents, num_inference_steps, generator, callback_on_step_end, names)
        images = to_output(sample, output_type)
        self.maybe_free_model_hooks()
        return FDAEPipelineOutput(images, masks.float(), codes) if return_dict else (images, masks.float(), codes)

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
            FDAEError: If the input is no image, the codes are not those of B images, or the scheduler has churn.
        """
        num_inference_steps = self._choose_num_inference_steps(num_inference_steps)
        pixel_values = self._read_images(images)
        latents = self._invert(
            pixel_values, self._encode(pixel_values) if codes is None else codes, num_inference_steps
        )
        self.maybe_free_model_hooks()
        return latents

    @torch.no_grad()
    def swap(
        self,
        source: ImageInput,
        target: ImageInput,
        content: Concepts = (),
        mask: Concepts = (),
        keep_noise: bool = False,
        num_inference_steps: int | None = None,
        generator: Generators = None,
        latents: torch.Tensor | None = None,
        output_type: OutputType = "pil",
        batch_size: int = 64,
    ) -> Images:
        """Redraw source images with some codes of the target images.

        Args:
            source: B images to edit.
            target: B images, or one for all, that give the codes.
            content: Concepts whose content code (what) is taken, or ``"all"``.
            mask: Concepts whose mask code (where) is taken, or ``"all"``.
            keep_noise: Start from the source's own noise, by :meth:`invert`, which keeps what its codes do not hold.
            num_inference_steps: Steps of the sampler, as for the pipeline call.
            generator: As for :meth:`decode`.
            latents: As for :meth:`decode`.
            output_type: As for the pipeline call.
            batch_size: As for :meth:`decode`.

        Returns:
            The B edited images, as ``output_type`` says.

        Raises:
            FDAEError: As :meth:`FDAECodes.swap` and the pipeline call.
        """
        check_output_type(output_type)
        num_inference_steps = self._choose_num_inference_steps(num_inference_steps)
        if keep_noise and latents is not None:
            raise FDAEError("give latents or keep_noise, which finds them")
        pixel_values = self._read_images(source)
        codes = self._encode(pixel_values)
        swapped = codes.swap(self.encode(target), content=content, mask=mask)
        if keep_noise:
            latents = self._invert(pixel_values, codes, num_inference_steps)
        return self.decode(swapped, num_inference_steps, generator, latents, output_type, batch_size)

    @torch.no_grad()
    def swap_grid(
        self,
        images: ImageInput,
        num_inference_steps: int | None = None,
        generator: torch.Generator | None = None,
        output_type: OutputType = "pil",
        batch_size: int = 64,
    ) -> Images:
        """Combine the content of each of n images with the masks of each (FDAE paper, fig. 3; supplement, fig. 3-4).

        All start from the same noise, so that pictures differ by their codes alone.

        Args:
            images: n images of any kind.
            num_inference_steps: Steps of the sampler, as for the pipeline call.
            generator: Source of the starting noise.
            output_type: As for the pipeline call.
            batch_size: Pictures decoded at a time: bounds the memory.

        Returns:
            Rows give content, columns give masks: n lists of n PIL images, an array (n, n, H, W, 3) or a tensor
            (n, n, 3, H, W), these two in [0, 1], as ``output_type`` says.

        Raises:
            FDAEError: If the input is no image, or the model has a single concept and so no masks.
        """
        check_output_type(output_type)
        codes = self.encode(images)
        latents = self.prepare_latents(1, generator)
        grid = self.decode(codes.pairs(), num_inference_steps, generator, latents, "latent", batch_size)
        rows: list[Any] = [to_output(row, output_type) for row in grid.unflatten(0, (len(codes), len(codes)))]
        if output_type == "pil":
            return rows
        return np.stack(rows) if output_type == "np" else torch.stack(rows)

    def _choose_num_inference_steps(self, num_inference_steps: int | None) -> int:
        check_scheduler(self.scheduler)
        steps = self.config.get("num_inference_steps") if num_inference_steps is None else num_inference_steps
        return choose_num_inference_steps(self.scheduler, steps)

    def _read_images(self, images: ImageInput) -> torch.Tensor:
        """Pixel values (B, 3, H, W) in [-1, 1], float32, where the pipeline runs."""
        if isinstance(images, FDAECodes):
            raise FDAEError("these are codes, where images are expected: codes are given by name, pipe(codes=codes)")
        return to_pixel_values(images, self.encoder.config.sample_size).to(self._execution_device)

    def _encode(self, pixel_values: torch.Tensor) -> FDAECodes:
        return self.encoder.encode(pixel_values.to(self._execution_device, self.encoder.dtype))

    def _prepare(self, codes: FDAECodes) -> tuple[FDAECodes, torch.Tensor, Condition]:
        """Codes where the encoder is, their masks (B, N, H, W) and what the U-Net is conditioned on."""
        if not len(check_codes(codes)):
            raise FDAEError("no image given: the codes are empty")
        codes = codes.to(self._execution_device, self.encoder.dtype)
        masks = self.encoder.decode_masks(codes)
        return codes, masks, self.encoder.condition(codes, masks)

    def _invert(self, pixel_values: torch.Tensor, codes: FDAECodes, num_inference_steps: int) -> torch.Tensor:
        """Starting noise (B, 3, H, W) of pixel values, given their codes."""
        if len(check_codes(codes)) != len(pixel_values):
            raise FDAEError(f"got codes of {len(codes)} images for {len(pixel_values)} images")
        condition = self._prepare(codes)[2]
        return invert_sampler(
            self.scheduler,
            lambda sample, timestep: self._run_unet(sample, timestep, condition),
            pixel_values,
            num_inference_steps,
        )

    def _sample(
        self,
        condition: Condition,
        latents: torch.Tensor,
        num_inference_steps: int,
        generator: Generators,
        callback: Callback | None = None,
        callback_inputs: Sequence[str] = (),
    ) -> torch.Tensor:
        """Run the sampler from noise to pixel values, both (B, 3, H, W) in float32."""
        self.scheduler.set_timesteps(num_inference_steps, device=self._execution_device)
        self._num_timesteps = len(self.scheduler.timesteps)
        sample = latents * self.scheduler.init_noise_sigma
        with self.progress_bar(total=self._num_timesteps) as progress_bar:
            for i, timestep in enumerate(self.scheduler.timesteps):
                scaled = self.scheduler.scale_model_input(sample, timestep)
                output = self._run_unet(scaled, timestep, condition)
                sample = self.scheduler.step(output, timestep, sample, generator=generator).prev_sample
                if callback is not None:
                    tensors = {"latents": sample, **condition}
                    tensors |= callback(self, i, timestep, {name: tensors[name] for name in callback_inputs})
                    sample, condition = tensors["latents"], {name: tensors[name] for name in condition}
                progress_bar.update()
        return sample

    def _run_unet(self, sample: torch.Tensor, timestep: torch.Tensor, condition: Condition) -> torch.Tensor:
        """Output F (B, 3, H, W) in float32, as samplers work: with sigma up to 80, half precision would show."""
        dtype = self.unet.dtype
        cast = {name: x.to(dtype) if x.is_floating_point() else x for name, x in condition.items()}
        return self.unet(sample.to(dtype), timestep, **cast).sample.float()
