"""Run an exported model with numpy and onnxruntime alone: without torch, diffusers or the rest of this package.

This file stands by itself. `export_onnx` copies it beside the model, so that a machine needs nothing else:

    # pip install numpy onnxruntime pillow; in the exported folder
    from fdae_onnx import OnnxPipeline

    pipe = OnnxPipeline(".")
    codes = pipe.encode([image_a, image_b])
    pictures = pipe(codes=codes[:1].swap(codes[1:], content=[0]))

Sampling follows Karras et al. 2022 (https://arxiv.org/abs/2206.00364) and DPM-Solver++(2M)
(https://arxiv.org/abs/2211.01095, algorithm 2); every sampler gives what its counterpart in torch gives.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime

FORMAT = "fdae-onnx"
FORMAT_VERSION = 1
MODEL_FILE = "model.json"
PARTS = ("encoder", "decoder", "unet")

Concepts = int | Sequence[int] | Literal["all"]
Denoiser = Callable[[np.ndarray, float], np.ndarray]  # (noisy images x, sigma) -> denoised images D


@dataclass(frozen=True)
class OnnxCodes:
    """Content codes (B, N, d_c) and mask codes (B, N, d_m), which a single-concept model has not, in float32."""

    content: np.ndarray
    mask: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.content)

    def __getitem__(self, index: int | slice) -> "OnnxCodes":
        """Codes of some images; an integer keeps a batch of one."""
        if isinstance(index, int):
            index = slice(index, index + 1 or None)
        return OnnxCodes(self.content[index], None if self.mask is None else self.mask[index])

    def swap(self, other: "OnnxCodes", content: Concepts = (), mask: Concepts = ()) -> "OnnxCodes":
        """Take the content or mask codes of some concepts from another batch, or from its single image.

        Raises:
            ValueError: If a concept does not exist, or a single-concept model is asked for masks.
        """
        if self.mask is None and len(self._indices(mask)):
            raise ValueError("these codes have no mask codes to swap: the model has a single concept")
        swapped = OnnxCodes(self.content.copy(), None if self.mask is None else self.mask.copy())
        swapped.content[:, self._indices(content)] = other.content[:, self._indices(content)]
        if swapped.mask is not None and other.mask is not None:
            swapped.mask[:, self._indices(mask)] = other.mask[:, self._indices(mask)]
        return swapped

    def _indices(self, concepts: Concepts) -> list[int]:
        num_concepts = self.content.shape[1]
        if concepts == "all":
            return list(range(num_concepts))
        indices = [concepts] if isinstance(concepts, int) else [int(concept) for concept in concepts]
        if wrong := [index for index in indices if not 0 <= index < num_concepts]:
            raise ValueError(f"there is no concept {wrong[0]}: this model has concepts 0 to {num_concepts - 1}")
        return indices


class OnnxPipeline:
    """An exported model, used like `FDAEPipeline`.

    Args:
        folder: What `export_onnx` wrote.
        providers: Of onnxruntime, for example ``["CUDAExecutionProvider"]``; the CPU by default.
        num_threads: Threads of a network call; as onnxruntime thinks best by default.

    Raises:
        ValueError: If the folder holds no exported model, or one of another version, or a file is missing or damaged.
    """

    def __init__(
        self, folder: str | os.PathLike, providers: Sequence[str] | None = None, num_threads: int | None = None
    ):
        self.description = read_description(folder)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors
        if num_threads is not None:
            options.intra_op_num_threads = num_threads
        self._sessions = {}
        for part in PARTS:
            path = Path(folder) / self.description["files"][part]["name"]
            try:
                self._sessions[part] = onnxruntime.InferenceSession(
                    str(path), options, providers=list(providers or ["CPUExecutionProvider"])
                )
            except Exception as error:  # onnxruntime raises classes of its own, derived from nothing else
                reason = str(error).splitlines()[0]
                raise ValueError(f"cannot load {path}, export the model again: {reason}") from error

    @property
    def sample_size(self) -> int:
        """Height and width of images."""
        return self.description["sample_size"]

    def encode(self, images: Any) -> OnnxCodes:
        """Encode images: PIL images of any size, or arrays (B, H, W, 3) of the model's size, uint8 or in [0, 1]."""
        outputs = self._sessions["encoder"].run(None, {"pixel_values": self._pixel_values(images)})
        return OnnxCodes(*outputs)

    def decode_masks(self, codes: OnnxCodes) -> np.ndarray:
        """Decode the masks (B, N, H, W) of codes; they sum to one over N."""
        return self._condition(codes)[0]

    def __call__(
        self,
        images: Any = None,
        codes: OnnxCodes | None = None,
        num_inference_steps: int | None = None,
        seed: int = 0,
        latents: np.ndarray | None = None,
        output_type: Literal["pil", "np"] = "pil",
    ) -> Any:
        """Reconstruct images, or decode codes.

        Args:
            images: What to reconstruct, see :meth:`encode`.
            codes: What to decode, instead of images.
            num_inference_steps: Steps of the sampler, by default those that the model was saved with.
            seed: Of the starting noise, which is the same for all images of the batch.
            latents: Starting noise (B or 1, 3, H, W), standard normal, instead of drawing it.
            output_type: ``"pil"`` for a list of PIL images, ``"np"`` for an array (B, H, W, 3) in [0, 1].

        Raises:
            ValueError: If not exactly one of images and codes is given, or they do not fit the model.
        """
        if (images is None) == (codes is None):
            raise ValueError("give either images to reconstruct or codes to decode")
        codes = self.encode(images) if codes is None else codes
        sampler = dict(self.description["sampler"])
        levels = noise_levels(sampler, num_inference_steps or sampler["num_inference_steps"])
        x = self._latents(len(codes), seed, latents) * np.float32(sampler["init_noise_sigma"])
        for step in sample_steps(self._denoiser(codes), x, levels, sampler):
            x = step
        return self._output(x, output_type)

    def preview(
        self, codes: OnnxCodes, seed: int = 0, latents: np.ndarray | None = None, output_type: str = "pil"
    ) -> Any:
        """Decode codes with a single call of the U-Net, an Euler step from the highest noise level to none."""
        sigma = self.description["sampler"]["sigma_max"]
        x = self._latents(len(codes), seed, latents) * np.float32(sigma)
        return self._output(self._denoiser(codes)(x, sigma), output_type)

    def swap(self, source: Any, target: Any, content: Concepts = (), mask: Concepts = (), **kwargs: Any) -> Any:
        """Redraw source images with some codes of the target images; ``kwargs`` as for the call."""
        return self(codes=self.encode(source).swap(self.encode(target), content, mask), **kwargs)

    def _denoiser(self, codes: OnnxCodes) -> Denoiser:
        """D(x, sigma) of EDM's preconditioning (Karras et al. 2022, eq. 7), given the codes."""
        condition = self._condition(codes)[1]
        sigma_data = self.description["sigma_data"]

        def denoise(x: np.ndarray, sigma: float) -> np.ndarray:
            variance = sigma**2 + sigma_data**2
            c_skip, c_out, c_in = sigma_data**2 / variance, sigma * sigma_data / variance**0.5, variance**-0.5
            c_noise = np.full(len(x), np.log(sigma) / 4, np.float32)
            inputs = {"sample": (c_in * x).astype(np.float32), "c_noise": c_noise, **condition}
            (output,) = self._sessions["unet"].run(None, inputs)
            return (c_skip * x + c_out * output).astype(np.float32)

        return denoise

    def _condition(self, codes: OnnxCodes) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Masks (B, N, H, W), and what the U-Net is conditioned on by the names of its inputs."""
        decoder = self._sessions["decoder"]
        inputs = {"content": codes.content} | ({} if codes.mask is None else {"mask": codes.mask})
        expected = {node.name: tuple(node.shape[1:]) for node in decoder.get_inputs()}
        if {name: values.shape[1:] for name, values in inputs.items()} != expected:
            raise ValueError("these codes are another model's")
        masks, *tensors = decoder.run(None, inputs)
        return masks, dict(zip([node.name for node in decoder.get_outputs()[1:]], tensors, strict=True))

    def _latents(self, batch_size: int, seed: int, latents: np.ndarray | None) -> np.ndarray:
        shape = (batch_size, self.description["in_channels"], self.sample_size, self.sample_size)
        if latents is None:
            latents = np.random.default_rng(seed).standard_normal((1, *shape[1:]))
        if latents.shape not in (shape, (1, *shape[1:])):
            raise ValueError(f"latents must have shape {shape} or {(1, *shape[1:])}, not {latents.shape}")
        return np.broadcast_to(latents, shape).astype(np.float32)

    def _pixel_values(self, images: Any) -> np.ndarray:
        """Images as (B, 3, H, W) in [-1, 1], float32."""
        if not isinstance(images, np.ndarray):
            images = np.stack([self._pixels(image) for image in (images if isinstance(images, list) else [images])])
        images = images[None] if images.ndim == 3 else images
        if images.shape[1:] != (self.sample_size, self.sample_size, 3):
            size = self.sample_size
            raise ValueError(f"arrays of images must have shape (B, {size}, {size}, 3), not {images.shape}")
        values = images / np.float32(127.5) - 1 if images.dtype == np.uint8 else 2 * images - 1
        return np.ascontiguousarray(values.transpose(0, 3, 1, 2), np.float32)

    def _pixels(self, image: Any) -> np.ndarray:
        """A PIL image, cropped to the square at its centre and resized, as `FDAEPipeline` does."""
        from PIL import Image, ImageOps  # only who has pictures needs it

        image = ImageOps.exif_transpose(image)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert("RGB")
        return np.asarray(ImageOps.fit(image, (self.sample_size,) * 2, Image.Resampling.LANCZOS))

    def _output(self, x: np.ndarray, output_type: str) -> Any:
        images = (x.transpose(0, 2, 3, 1) / 2 + 0.5).clip(0, 1)  # (B, H, W, 3)
        if output_type == "np":
            return images
        from PIL import Image

        return [Image.fromarray(image) for image in (images * 255).round().astype(np.uint8)]


def read_description(folder: str | os.PathLike) -> dict[str, Any]:
    """Read and check the ``model.json`` of an exported model.

    Raises:
        ValueError: If it is missing, damaged or of another version, or the sizes of the model's files differ from it.
    """
    path = Path(folder) / MODEL_FILE
    try:
        description = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder} holds no exported model: cannot read {MODEL_FILE} ({error})") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise ValueError(f"{path} describes no exported model")
    if description.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{path} is of format version {description.get('format_version')}, this program reads version "
            f"{FORMAT_VERSION}: export the model again"
        )
    for part in PARTS:
        file = Path(folder) / description["files"][part]["name"]
        size = file.stat().st_size if file.is_file() else None
        if size != description["files"][part]["bytes"]:
            raise ValueError(f"{file} is {'missing' if size is None else 'damaged'}: export the model again")
    return description


def noise_levels(sampler: Mapping[str, Any], num_inference_steps: int) -> np.ndarray:
    """Noise levels sigma_0 > ... > sigma_n of n steps of a sampler, in float64; the last is mostly zero.

    Args:
        sampler: As in ``model.json``: sigma_min, sigma_max, sigma_schedule, rho, final_sigma.
        num_inference_steps: n.

    Raises:
        ValueError: If there is no step, or a schedule of a single step does not start at the highest level.
    """
    low, high = sampler["sigma_min"], sampler["sigma_max"]
    exponential = sampler["sigma_schedule"] == "exponential"
    if num_inference_steps < (2 if exponential else 1):
        raise ValueError(f"{num_inference_steps} steps are too few for this sampler")
    ramp = np.linspace(0, 1, num_inference_steps)
    if exponential:
        levels = high ** (1 - ramp) * low**ramp
    else:
        inverse = 1 / sampler["rho"]
        levels = (high**inverse + ramp * (low**inverse - high**inverse)) ** sampler["rho"]
    return np.append(levels, sampler["final_sigma"])


def sample_steps(
    denoise: Denoiser, x: np.ndarray, levels: np.ndarray, sampler: Mapping[str, Any]
) -> Iterator[np.ndarray]:
    """Yield the sample after each step of a sampler.

    Args:
        denoise: The network, preconditioned.
        x: Noise (B, C, H, W) of the first level.
        levels: From :func:`noise_levels`.
        sampler: As in ``model.json``: algorithm ``"euler"``, ``"heun"`` or ``"dpmsolver++"``; clip_sample.
    """
    previous = None  # the denoised images of the step before, and its h
    for i, (sigma, sigma_next) in enumerate(pairwise(levels)):
        denoised = _clip(denoise(x, sigma), sampler)
        ratio = sigma_next / sigma
        target = denoised
        h = np.log(sigma / sigma_next) if sigma_next > 0 else np.inf
        if sampler["algorithm"] == "dpmsolver++" and previous is not None:
            is_last = i == len(levels) - 2
            below = sampler["first_order_end_below"]  # None: always
            if not is_last or (below is not None and len(levels) - 1 >= below):
                target = denoised + 0.5 * (h / previous[1]) * (denoised - previous[0])
        proposal = ratio * x + (1 - ratio) * target  # Euler, and DPM-Solver++ on its extrapolated target
        if sampler["algorithm"] == "heun" and sigma_next > 0:
            slope = (x - denoised) / sigma
            slope_next = (proposal - _clip(denoise(proposal, sigma_next), sampler)) / sigma_next
            proposal = x + (sigma_next - sigma) * (slope + slope_next) / 2
        previous = (denoised, h)
        x = proposal.astype(np.float32)
        yield x


def _clip(images: np.ndarray, sampler: Mapping[str, Any]) -> np.ndarray:
    return images.clip(-1, 1) if sampler["clip_sample"] else images
