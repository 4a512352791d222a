"""What the app does, apart from its layout: find a model and examples, show what each concept covers, blend codes."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import EDMEulerScheduler
from huggingface_hub import ModelCard
from PIL import Image

from fdae_diffusers import EDMHeunScheduler, FDAECodes, FDAEPipeline
from fdae_diffusers.data import Shapes3DRenderer
from fdae_diffusers.errors import FDAEError
from fdae_diffusers.health.foreign import ForeignImage
from fdae_diffusers.health.report import FOREIGN_MARGIN, HealthReport
from fdae_diffusers.hub.examples import load_examples
from fdae_diffusers.hub.files import HEALTH_FILE, INDEX_FILE
from fdae_diffusers.hub.loading import find_file
from fdae_diffusers.image_processing import read_image
from fdae_diffusers.metrics.pictures import psnr
from fdae_diffusers.schedulers import default_scheduler
from fdae_diffusers.visualization.figures import concept_colors, swap_grid_figure

HERE = Path(__file__).parent
MODEL_FOLDER = "model_cards/fdae-shapes3d-rendered-32"
OWN_SAMPLER = "The model's own"
SAMPLERS = {
    OWN_SAMPLER: None,
    "DPM-Solver++": default_scheduler(),
    "EDM Heun (paper)": EDMHeunScheduler(),
    "EDM Euler": EDMEulerScheduler(),
}
# What strangers may ask for: no format that runs a program to be read, no picture that fills the memory.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
MAX_PIXELS = 40_000_000
MIN_STEPS, MAX_STEPS = 2, 50
MAX_SEED = 2**31 - 1
MIN_WEIGHT, MAX_WEIGHT = -0.5, 1.5  # 0 is A, 1 is B; beyond, the line through both goes on

NUM_EXAMPLE_IMAGES = 8
PICTURE_SIZE = 320  # about what a small picture is enlarged to
FADED = 0.12  # how much is left of what a concept does not cover


@dataclass(frozen=True)
class Edit:
    """How far the codes of image A move to those of image B, and how the result is drawn.

    Args:
        content: Weight of B for the content code of each concept, `MIN_WEIGHT` to `MAX_WEIGHT`; 0 where none is given.
        mask: The same for mask codes.
        sampler: One of `SAMPLERS`.
        steps: Steps of the sampler, `MIN_STEPS` to `MAX_STEPS`; by default those of the model, or of the sampler.
        keep_noise: Start from image A's own noise, which keeps what its codes do not hold, instead of the seed's.
        seed: Of the noise, 0 to `MAX_SEED`.

    Raises:
        FDAEError: If the sampler is unknown, or a weight, the steps or the seed are out of range.
    """

    content: tuple[float, ...] = ()
    mask: tuple[float, ...] = ()
    sampler: str = OWN_SAMPLER
    steps: int | None = None
    keep_noise: bool = True
    seed: int = 0

    def __post_init__(self):
        for weight in (*self.content, *self.mask):
            if isinstance(weight, bool) or not isinstance(weight, int | float):
                raise FDAEError(f"weights must be numbers, one for each concept, not {weight!r}")
            if not MIN_WEIGHT <= weight <= MAX_WEIGHT:
                raise FDAEError(f"weights must be from {MIN_WEIGHT} to {MAX_WEIGHT}, not {weight}")
        if self.sampler not in SAMPLERS:
            raise FDAEError(f"there is no sampler {self.sampler!r}: choose from {', '.join(SAMPLERS)}")
        if self.steps is not None and not MIN_STEPS <= self.steps <= MAX_STEPS:
            raise FDAEError(f"steps must be from {MIN_STEPS} to {MAX_STEPS}, not {self.steps}")
        if not 0 <= self.seed <= MAX_SEED:
            raise FDAEError(f"the seed must be from 0 to {MAX_SEED}, not {self.seed}")


@dataclass(frozen=True)
class Source:
    """An image and what is computed of it once: codes, pictures of its concepts, noise for one sampler and its steps.

    Tensors are on the CPU, so that the source can go from one process to another.
    """

    image: Image.Image
    codes: FDAECodes
    concepts_map: Image.Image
    concepts: tuple[Image.Image, ...]
    noise: torch.Tensor | None = None
    noise_of: tuple[str, int] | None = None


@dataclass(frozen=True)
class Example:
    """Two images and an edit that shows something."""

    a: Image.Image
    b: Image.Image
    edit: Edit
    caption: str


def on_gpu(function: Callable[..., Any]) -> Callable[..., Any]:
    """Borrow a GPU for the time of a call, in a Space on ZeroGPU; elsewhere the function as it is."""
    if find_spec("spaces") is None:
        return function
    import spaces

    return spaces.GPU(function)


def find_model() -> str:
    """The model of ``FDAE_MODEL``, else the repository's if its folder is there, else the one that README.md names."""
    if model := os.environ.get("FDAE_MODEL"):
        return model
    for folder in (HERE, *HERE.parents[:2]):
        if (folder / MODEL_FOLDER / INDEX_FILE).is_file():
            return str(folder / MODEL_FOLDER)
    return ModelCard.load(HERE / "README.md").data.to_dict()["models"][0]


def read_upload(path: str, size: int) -> Image.Image:
    """Read an uploaded file as the model sees it.

    Raises:
        FDAEError: If it is no image of the `FORMATS`, is damaged or has too many pixels.
    """
    return read_image(path, size, max_pixels=MAX_PIXELS, formats=FORMATS, name=Path(path).name)


def example_images(size: int, model: str | None = None) -> list[Image.Image]:
    """The pictures of the folder `examples` beside the app, else the model's own, else rendered Shapes3D."""
    if (files := sorted((HERE / "examples").glob("[!.]*"))) and len(files) > 1:
        return [read_image(file, size) for file in files]
    with suppress(FDAEError):
        if model is not None and len(own := load_examples(model)) > 1:
            return own
    rows = np.random.default_rng(0).choice(480_000, NUM_EXAMPLE_IMAGES, replace=False)
    return [Image.fromarray(image) for image in Shapes3DRenderer(size).render(rows)]


def make_examples(pipeline: FDAEPipeline, images: Sequence[Image.Image]) -> list[Example]:
    """Swaps between pairs of images: the content code that changes most, another one per pair, and all masks."""
    num_concepts = pipeline.encoder.config.num_concepts
    pairs = list(zip(images[::2], images[1::2], strict=False))
    examples = []
    shown: set[int] = set()
    for a, b in pairs[: min(3, num_concepts)]:
        concept = next(n for n in _most_visible(pipeline, a, b) if n not in shown)
        shown.add(concept)
        examples.append(Example(a, b, Edit(content=_one_hot(concept, num_concepts)), f"content of concept {concept}"))
    if num_concepts > 1:
        examples.append(Example(*pairs[-1], Edit(mask=(1.0,) * num_concepts), "all masks"))
    return examples


@torch.no_grad()
def _most_visible(pipeline: FDAEPipeline, a: Image.Image, b: Image.Image) -> list[int]:
    """Concepts in the order of how much the condition map changes when their content code is swapped."""
    codes = pipeline.encode([a, b])
    swapped = [codes[0], *(codes[0].swap(codes[1], content=n) for n in range(codes.num_concepts))]
    both = FDAECodes.cat(swapped)
    maps = pipeline.encoder.condition_map(both.content, pipeline.encoder.decode_masks(both))  # (1 + N, d_F, H, W)
    return (maps[1:] - maps[:1]).abs().mean((1, 2, 3)).argsort(descending=True).tolist()


def concept_pictures(
    pipeline: FDAEPipeline, image: Image.Image, codes: FDAECodes
) -> tuple[Image.Image, tuple[Image.Image, ...]]:
    """Show what each concept covers in an image.

    Returns:
        Every pixel tinted in the colour of its strongest concept, and N pictures with all but one concept faded.
    """
    masks = pipeline.decode_masks(codes)[0].float().cpu().numpy()[..., None]  # (N, H, W, 1)
    pixels = np.asarray(image, np.float32) / 255
    colors = concept_colors(len(masks))[masks[..., 0].argmax(0)]
    grey = pixels.mean(-1, keepdims=True)
    faded = 1 - FADED + FADED * grey
    return _picture(0.7 * colors + 0.3 * grey), tuple(_picture(mask * pixels + (1 - mask) * faded) for mask in masks)


def encode(pipeline: FDAEPipeline, image: Image.Image) -> Source:
    """Encode an image and show its concepts, once for all edits."""
    codes = pipeline.encode(image).to("cpu")
    return Source(image, codes, *concept_pictures(pipeline, image, codes))


def find_noise(pipeline: FDAEPipeline, source: Source, edit: Edit) -> Source:
    """Return the source with its own noise, if the edit starts from it; found anew only for another sampler."""
    sampled, steps = _sampler_of(pipeline, edit)
    if not edit.keep_noise or source.noise_of == (edit.sampler, steps):
        return source
    noise = sampled.invert(source.image, source.codes, steps).cpu()
    return replace(source, noise=noise, noise_of=(edit.sampler, steps))


def draw(pipeline: FDAEPipeline, a: Source, b: Source, edit: Edit) -> tuple[Image.Image, Source]:
    """Draw image A with its codes moved to those of image B.

    Args:
        pipeline: The model; it is not changed, whatever the sampler, so several calls may share it.
        a: Picture to edit.
        b: Picture that gives the codes.
        edit: How far, and how to sample.

    Returns:
        The picture, as large as the model draws it, and A with its own noise if that was needed.

    Raises:
        FDAEError: If there is no such concept, or a single-concept model is asked for a mask.
    """
    sampled, steps = _sampler_of(pipeline, edit)
    a = find_noise(pipeline, a, edit)
    codes = blend(a.codes, b.codes, edit)
    return sampled.decode(codes, steps, latents=_noise(pipeline, a, edit))[0], a


def blend(a: FDAECodes, b: FDAECodes, edit: Edit) -> FDAECodes:
    """Move each code of A by its weight along the line to that of B.

    Raises:
        FDAEError: As :func:`draw`.
    """
    for kind, weights in (("content", edit.content), ("mask", edit.mask)):
        if len(weights) > a.num_concepts:
            raise FDAEError(f"{len(weights)} weights for {kind}: the model has {a.num_concepts} concepts")
        for concept, weight in enumerate(weights):
            if weight:
                a = a.interpolate(b, weight, **{kind: concept})
    return a


def draw_grid(pipeline: FDAEPipeline, a: Source, b: Source, edit: Edit) -> Image.Image:
    """Draw the swap grid of both images: content of the one with the masks of the other; weights are not used."""
    sampled, steps = _sampler_of(pipeline, edit)
    noise = torch.cat([_noise(pipeline, find_noise(pipeline, source, edit), edit) for source in (a, a, b, b)])
    codes = FDAECodes.cat([a.codes, b.codes]).pairs()
    drawn = sampled.decode(codes, steps, latents=noise)
    return swap_grid_figure([a.image, b.image], [drawn[:2], drawn[2:]])


def default_steps(pipeline: FDAEPipeline, sampler: str) -> int:
    """Steps that a sampler takes with a model unless told otherwise."""
    return _sampler_of(pipeline, Edit(sampler=sampler))[1]


def _sampler_of(pipeline: FDAEPipeline, edit: Edit) -> tuple[FDAEPipeline, int]:
    """The pipeline with a fresh scheduler of the edit's kind, and its number of steps."""
    chosen = SAMPLERS[edit.sampler]
    if chosen is None:
        scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
        steps = pipeline.default_num_inference_steps
    else:
        noise_levels = {key: chosen.config[key] for key in ("sigma_schedule", "sigma_min")}
        scheduler = type(chosen).from_config(pipeline.scheduler.config, **noise_levels)
        steps = None
    sampled = FDAEPipeline(pipeline.unet, pipeline.encoder, scheduler, steps)
    sampled.set_progress_bar_config(disable=True)
    return sampled, edit.steps or min(sampled.default_num_inference_steps, MAX_STEPS)


def _noise(pipeline: FDAEPipeline, source: Source, edit: Edit) -> torch.Tensor:
    """Starting noise (1, C, H, W) of an edit."""
    if edit.keep_noise:
        assert source.noise is not None
        return source.noise
    return pipeline.prepare_latents(1, torch.Generator().manual_seed(edit.seed))


class Familiarity:
    """Tells whether pictures are like those that a model knows, by how well it reconstructs them.

    Args:
        pipeline: The model.
        health: Its health on its own pictures, see `fdae check`.
        images: Pictures that it knows, where its health was not measured.
    """

    def __init__(self, pipeline: FDAEPipeline, health: HealthReport | None, images: Sequence[Image.Image]):
        self.pipeline = pipeline
        if health is None:
            known = [self.measure(encode(pipeline, image)) for image in images]
            self.typical, self.lowest = sum(known) / len(known), min(known) - FOREIGN_MARGIN
        else:
            self.typical, self.lowest = health.psnr, health.psnr_low - FOREIGN_MARGIN

    def measure(self, source: Source) -> float:
        """PSNR of the reconstruction, in dB."""
        again, _ = draw(self.pipeline, source, source, Edit(keep_noise=False))
        pictures = [np.asarray(picture, np.float32)[None] / 255 for picture in (again, source.image)]
        return float(psnr(*pictures)[0])

    def warning(self, source: Source, name: str) -> str | None:
        """A line about a picture that is foreign to the model; nothing about others."""
        if (value := self.measure(source)) >= self.lowest:
            return None
        return ForeignImage(0, value, self.typical).describe(name)


def load_health(model: str) -> HealthReport | None:
    """The measured health of a model, from its folder or the Hub, if there is any."""
    path = find_file(model, HEALTH_FILE)
    return None if path is None else HealthReport.load(path)


def describe(edit: Edit) -> str:
    """Say in a sentence what image A took from image B."""
    parts = [
        f"{kind} {concept}" + ("" if weight == 1 else f" at {weight:.0%}")
        for kind, weights in (("content", edit.content), ("mask", edit.mask))
        for concept, weight in enumerate(weights)
        if weight
    ]
    if len(parts) > 1:
        parts = [", ".join(parts[:-1]), parts[-1]]
    return f"A with {' and '.join(parts)} of B." if parts else "Nothing is taken from B: this is A, rebuilt."


def file_name(edit: Edit) -> str:
    """Name of the file that a visitor downloads."""
    parts = [
        f"{kind}{concept}" + ("" if weight == 1 else f"x{weight:g}")
        for kind, weights in (("content", edit.content), ("mask", edit.mask))
        for concept, weight in enumerate(weights)
        if weight
    ]
    return "-".join(["fdae", *(parts or ["rebuilt"])]) + ".png"


def _one_hot(concept: int, num_concepts: int) -> tuple[float, ...]:
    return tuple(float(n == concept) for n in range(num_concepts))


def enlarge(picture: Image.Image) -> Image.Image:
    """Enlarge a small picture by a whole factor, without smoothing."""
    factor = max(1, PICTURE_SIZE // max(picture.size))
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)


def _picture(values: np.ndarray) -> Image.Image:
    """(H, W, 3) in [0, 1] to a picture."""
    return Image.fromarray((values.clip(0, 1) * 255 + 0.5).astype(np.uint8))
