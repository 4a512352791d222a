"""What the app does, apart from its layout: find a model and examples, show what each concept covers, swap codes."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import EDMEulerScheduler
from huggingface_hub import ModelCard
from PIL import Image

from fdae_diffusers import EDMHeunScheduler, FDAECodes, FDAEPipeline
from fdae_diffusers.data import Shapes3DRenderer
from fdae_diffusers.errors import FDAEError
from fdae_diffusers.hub.examples import load_examples
from fdae_diffusers.hub.files import INDEX_FILE
from fdae_diffusers.image_processing import read_image
from fdae_diffusers.schedulers import choose_num_inference_steps, default_scheduler
from fdae_diffusers.visualization.figures import concept_colors, swap_grid_figure

HERE = Path(__file__).parent
MODEL_FOLDER = "model_cards/fdae-shapes3d-rendered-32"
# The fastest to good pictures first.
SAMPLERS = {
    "DPM-Solver++": default_scheduler(),
    "EDM Heun (paper)": EDMHeunScheduler(),
    "EDM Euler": EDMEulerScheduler(),
}
# What strangers may ask for: no format that runs a program to be read, no picture that fills the memory.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
MAX_PIXELS = 40_000_000
MIN_STEPS, MAX_STEPS = 2, 50
MAX_SEED = 2**31 - 1

NUM_EXAMPLE_IMAGES = 8
PICTURE_SIZE = 320  # about what a small picture is enlarged to
FADED = 0.12  # how much is left of what a concept does not cover


@dataclass(frozen=True)
class Choice:
    """Which codes image A takes from image B, and how the result is drawn.

    Args:
        content: Concepts whose content code is taken.
        mask: Concepts whose mask code is taken.
        sampler: One of `SAMPLERS`.
        steps: Steps of the sampler, `MIN_STEPS` to `MAX_STEPS`.
        keep_noise: Start from each image's own noise, which keeps what its codes do not hold, instead of the seed's.
        seed: Of the noise, 0 to `MAX_SEED`.

    Raises:
        FDAEError: If the sampler is unknown, or steps or seed are out of range.
    """

    content: tuple[int, ...] = ()
    mask: tuple[int, ...] = ()
    sampler: str = next(iter(SAMPLERS))
    steps: int = choose_num_inference_steps(SAMPLERS[sampler])
    keep_noise: bool = True
    seed: int = 0

    def __post_init__(self):
        if self.sampler not in SAMPLERS:
            raise FDAEError(f"there is no sampler {self.sampler!r}: choose from {', '.join(SAMPLERS)}")
        if not MIN_STEPS <= self.steps <= MAX_STEPS:
            raise FDAEError(f"steps must be from {MIN_STEPS} to {MAX_STEPS}, not {self.steps}")
        if not 0 <= self.seed <= MAX_SEED:
            raise FDAEError(f"the seed must be from 0 to {MAX_SEED}, not {self.seed}")


@dataclass(frozen=True)
class Example:
    """Two images and a swap that shows something."""

    a: Image.Image
    b: Image.Image
    choice: Choice
    caption: str


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
    """Swaps between pairs of images: the content codes that change most, one per pair, and all masks."""
    pairs = list(zip(images[::2], images[1::2], strict=False))
    examples = []
    for rank, (a, b) in enumerate(pairs[: min(3, pipeline.encoder.config.num_concepts)]):
        concept = _most_visible(pipeline, a, b)[rank]
        examples.append(Example(a, b, Choice(content=(concept,)), f"content of concept {concept}"))
    if pipeline.encoder.config.num_concepts > 1:
        every = tuple(range(pipeline.encoder.config.num_concepts))
        examples.append(Example(*pairs[-1], Choice(mask=every), "all masks"))
    return examples


@torch.no_grad()
def _most_visible(pipeline: FDAEPipeline, a: Image.Image, b: Image.Image) -> list[int]:
    """Concepts in the order of how much the condition map changes when their content code is swapped."""
    codes = pipeline.encode([a, b])
    swapped = [codes[0], *(codes[0].swap(codes[1], content=n) for n in range(codes.num_concepts))]
    both = FDAECodes.cat(swapped)
    maps = pipeline.encoder.condition_map(both.content, pipeline.encoder.decode_masks(both))  # (1 + N, d_F, H, W)
    return (maps[1:] - maps[:1]).abs().mean((1, 2, 3)).argsort(descending=True).tolist()


def concept_pictures(pipeline: FDAEPipeline, image: Image.Image) -> tuple[Image.Image, list[Image.Image]]:
    """Show what each concept covers in an image.

    Returns:
        Every pixel tinted in the colour of its strongest concept, and N pictures with all but one concept faded.
    """
    masks = pipeline.decode_masks(pipeline.encode(image))[0].float().cpu().numpy()[..., None]  # (N, H, W, 1)
    pixels = np.asarray(image, np.float32) / 255
    colors = concept_colors(len(masks))[masks[..., 0].argmax(0)]
    grey = pixels.mean(-1, keepdims=True)
    faded = 1 - FADED + FADED * grey
    return _picture(0.7 * colors + 0.3 * grey), [_picture(mask * pixels + (1 - mask) * faded) for mask in masks]


def swap(
    pipeline: FDAEPipeline,
    a: Image.Image,
    b: Image.Image,
    choice: Choice,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Image.Image, Image.Image | None]:
    """Redraw image A with codes of image B.

    Args:
        pipeline: The model; it is not changed, whatever the sampler, so several calls may share it.
        a: Picture to edit.
        b: Picture that gives the codes.
        choice: Which codes, and how to sample.
        on_step: Called after each step of the sampler with the number of steps that are done and of all.

    Returns:
        The result, enlarged, and the swap grid of both images; none for a single-concept model.

    Raises:
        FDAEError: If there is no such concept, or a single-concept model is asked for a mask.
    """
    chosen = SAMPLERS[choice.sampler]
    noise_levels = {key: chosen.config[key] for key in ("sigma_schedule", "sigma_min")}
    scheduler = type(chosen).from_config(pipeline.scheduler.config, **noise_levels)
    sampled = FDAEPipeline(pipeline.unet, pipeline.encoder, scheduler)
    sampled.set_progress_bar_config(disable=True)

    codes = pipeline.encode([a, b])
    edited = codes[0]
    if choice.content or choice.mask:
        edited = edited.swap(codes[1], content=choice.content, mask=choice.mask)
    wanted = edited if codes.mask is None else FDAECodes.cat([edited, codes.pairs()])
    if choice.keep_noise:
        noise = sampled.invert([a, b], codes, choice.steps)[[0, 0, 0, 1, 1][: len(wanted)]]  # rows of the grid: A, B
    else:
        config = pipeline.unet.config
        shape = (1, config.in_channels, config.sample_size, config.sample_size)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(choice.seed))

    def count(pipe: FDAEPipeline, step: int, timestep: torch.Tensor, tensors: dict) -> dict:
        on_step(step + 1, len(scheduler.timesteps))
        return tensors

    result, *grid = sampled(
        codes=wanted, num_inference_steps=choice.steps, latents=noise, callback_on_step_end=count
    ).images
    return enlarge(result), swap_grid_figure([a, b], [grid[:2], grid[2:]]) if grid else None


def describe(choice: Choice) -> str:
    """Say in a sentence what image A took from image B."""
    parts = [
        f"the {kind} of concept{'s' if len(concepts) > 1 else ''} {', '.join(map(str, concepts))}"
        for kind, concepts in (("content", choice.content), ("mask", choice.mask))
        if concepts
    ]
    return f"A with {' and '.join(parts)} of B." if parts else "No code is taken from B: this is A, rebuilt."


def enlarge(picture: Image.Image) -> Image.Image:
    """Enlarge a small picture by a whole factor, without smoothing."""
    factor = max(1, PICTURE_SIZE // max(picture.size))
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)


def _picture(values: np.ndarray) -> Image.Image:
    """(H, W, 3) in [0, 1] to a picture."""
    return Image.fromarray((values.clip(0, 1) * 255 + 0.5).astype(np.uint8))
