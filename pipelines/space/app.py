#!/usr/bin/env python
"""A web app to blend the codes of two images: slide any code of image A towards image B, and the picture follows.

    python pipelines/space/app.py --model FOLDER --port 7860

Without flags the model is that of the environment variable FDAE_MODEL, a Hub id or a folder. `swapping.py` does the
work, `pieces.py` has the HTML.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # before gradio is imported

import gradio as gr
from gradio.blocks import Block
from pieces import CSS, concept_html, pair_html, result_html
from PIL import Image
from swapping import (
    MAX_STEPS,
    MAX_WEIGHT,
    MIN_STEPS,
    MIN_WEIGHT,
    OWN_SAMPLER,
    SAMPLERS,
    Edit,
    Familiarity,
    Source,
    default_steps,
    describe,
    draw,
    draw_grid,
    encode,
    enlarge,
    example_images,
    file_name,
    find_model,
    load_health,
    make_examples,
    on_gpu,
    read_upload,
)

from fdae_diffusers import FDAEPipeline
from fdae_diffusers.errors import FDAEError
from fdae_diffusers.health.report import HealthReport
from fdae_diffusers.hub.loading import load_pipeline
from fdae_diffusers.utils.arguments import Parser, run_script

# These keep a crowd from taking the app down, with the limits on pixels and steps in swapping.py.
MAX_WAITING = 100
MAX_FILE_SIZE = "10mb"
DELETE_FILES = (600, 3600)  # look every so many seconds for files older than that
ON_MODEL: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1}

TITLE = "Blend the codes of two images"
EXPLANATION = """\
A **Factorized Diffusion Autoencoder** splits an image into *concepts*, without labels. Each has a **content** code
(*what*: colour, texture) and a **mask** code (*where*: place, shape). Slide a code of image A towards image B, or
beyond it, and see what changes. [Paper: Wu and Zheng, AAAI 2024](https://github.com/wuancong/FDAE) ·
[code](https://github.com/ORG/fdae-diffusers)"""
SINGLE_CONCEPT = """\
> This model has a **single concept and no masks**. Its one code stands for the whole image, so that it turns A into B;
> models with several concepts have something to choose from."""
LIMITS = "PNG, JPEG, WebP, BMP or GIF, up to 10 MB; the square in the middle is used"
GRID = "Content from the image on the left, masks from the image above."
API = "Redraw image A with codes moved to those of image B, by a weight per concept: 0 is A, 1 is B."


def main(argv: Sequence[str] = ()) -> None:
    """Load the model and serve the app."""
    parser = Parser(description="A web app to blend the codes of two images.")
    parser.add_argument("--model", help="folder, Hub id or name (default: FDAE_MODEL, else the shipped model)")
    parser.add_argument("--device", help="cuda, cpu, ...; an accelerator if there is one")
    parser.add_argument("--host", help="0.0.0.0 to be seen from other machines (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, help="(default: GRADIO_SERVER_PORT, else the first free one from 7860)")
    args = parser.parse_args(argv)
    model = args.model or find_model()
    borrows_gpu = bool(os.environ.get("SPACES_ZERO_GPU"))  # which there is none of while the app starts
    pipeline = load_pipeline(model, "cpu" if borrows_gpu else args.device)
    images = example_images(pipeline.encoder.config.sample_size, model)
    app = build(pipeline, images, model, load_health(model))
    if borrows_gpu:
        pipeline.to("cuda")
    app.queue(max_size=MAX_WAITING, default_concurrency_limit=1)
    # Fonts of the visitor's system: nothing is fetched from elsewhere.
    theme = gr.themes.Soft(primary_hue="orange", font=["system-ui", "sans-serif"], font_mono=["ui-monospace"])
    app.launch(
        theme=theme,
        css=CSS,
        max_file_size=MAX_FILE_SIZE,
        footer_links=["api"],
        server_name=args.host,
        server_port=args.port,
    )


@dataclass(frozen=True)
class Side:
    """What the app has for image A, and for image B."""

    source: gr.State  # a `Source`
    view: gr.HTML
    upload: gr.UploadButton
    gallery: gr.Gallery


@dataclass(frozen=True)
class Parts:
    """The parts of the app that do something, or show what was done."""

    sides: tuple[Side, Side]
    examples: gr.Gallery
    result: gr.HTML
    status: gr.Markdown
    presets: dict[str, gr.Button]
    cards: list[gr.HTML]  # what concept n covers
    content: list[gr.Slider]
    mask: list[gr.Slider]  # empty for a single concept
    sampler: gr.Radio
    steps: gr.Slider
    keep_noise: gr.Checkbox
    seed: gr.Number
    draw_grid: gr.Button
    grid: gr.HTML


class Handlers:
    """What happens on clicks, slides and uploads.

    Args:
        pipeline: The model.
        images: Pictures to choose from, two at least.
        health: How well the model does on its own pictures, to tell others; measured on ``images`` by default.
    """

    def __init__(self, pipeline: FDAEPipeline, images: list[Image.Image], health: HealthReport | None = None):
        self.images = images
        self.num_concepts: int = pipeline.encoder.config.num_concepts
        self.has_masks = self.num_concepts > 1
        self.size: int = pipeline.encoder.config.sample_size
        self.steps = {sampler: default_steps(pipeline, sampler) for sampler in SAMPLERS}
        self.examples = make_examples(pipeline, images)
        self._shown: dict[int, list[Any]] = {}
        familiarity = Familiarity(pipeline, health, images)

        # The model is no argument of what borrows a GPU: it may run in another process.
        def read(image: Image.Image, name: str | None) -> tuple[Source, str | None]:
            source = encode(pipeline, image)
            return source, name and familiarity.warning(source, name)

        self._read = on_gpu(read)
        self._draw = on_gpu(lambda a, b, edit: draw(pipeline, a, b, edit))
        self._draw_grid = on_gpu(lambda a, b, edit: draw_grid(pipeline, a, b, edit))

    def show(self, a: Image.Image | Source, b: Image.Image | Source, edit: Edit, name: str | None = None) -> list[Any]:
        """Both sources, both views, a card per concept and the result; an image is new, and foreign ones are told."""
        sources = []
        for image in (a, b):
            if isinstance(image, Image.Image):
                image, warning = self._read(image, name)
                if warning:
                    gr.Warning(warning)
            sources.append(image)
        views = [
            pair_html((source.image, f"image {letter}"), (source.concepts_map, f"concepts of {letter}"))
            for letter, source in zip("AB", sources, strict=True)
        ]
        covered = zip(*(source.concepts for source in sources), strict=True)
        cards = [concept_html(n, self.num_concepts, *of_both) for n, of_both in enumerate(covered)]
        source, result = self.redraw(sources[0], sources[1], edit)
        return [source, sources[1], *views, *cards, result]

    def redraw(self, a: Source, b: Source, edit: Edit) -> list[Any]:
        """Image A with the noise that was found, and the result."""
        with _told():
            picture, a = self._draw(a, b, edit)
        return [a, result_html(enlarge(picture), describe(edit), file_name(edit))]

    def upload(self, path: str) -> Image.Image:
        """Read an uploaded file."""
        with _told():
            return read_upload(path, self.size)

    def grid(self, a: Source, b: Source, edit: Edit) -> str:
        """The swap grid."""
        with _told():
            return result_html(self._draw_grid(a, b, edit), GRID, "fdae-swap-grid.png")

    def example(self, index: int) -> list[Any]:
        """What the app shows for an example, and its sliders; drawn for the first visitor who wants it."""
        if index not in self._shown:
            example = self.examples[index]
            self._shown[index] = [
                *self.show(example.a, example.b, example.edit),
                *self.sliders(example.edit),
            ]
        return self._shown[index]

    def sliders(self, edit: Edit) -> list[float]:
        """Positions of all sliders."""
        kinds = (edit.content, edit.mask) if self.has_masks else (edit.content,)
        return [weights[n] if n < len(weights) else 0 for weights in kinds for n in range(self.num_concepts)]

    def answer(self, image_a: str, image_b: str, content: list, mask: list) -> Image.Image:
        """A picture for a program."""
        for image in (image_a, image_b):
            if image is None:
                raise gr.Error("two images are needed", print_exception=False)
        with _told():
            for weights in (content, mask):
                if not isinstance(weights, list | None):
                    raise FDAEError(f"weights must be a list of numbers, not {weights!r}")
            edit = Edit(tuple(content or ()), tuple(mask or ()))
            a, b = (self._read(self.upload(image), None)[0] for image in (image_a, image_b))
            return enlarge(self._draw(a, b, edit)[0])


def build(
    pipeline: FDAEPipeline, images: list[Image.Image], model: str, health: HealthReport | None = None
) -> gr.Blocks:
    """Make the app for a model, with pictures to start from and, if it was measured, its health."""
    handlers = Handlers(pipeline, images, health)
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=DELETE_FILES) as app:
        parts = _lay_out(handlers)
        gr.Markdown(
            f"Model: `{os.path.basename(model)}`, N = {handlers.num_concepts}, {handlers.size} pixels square. "
            "It knows only pictures like those of the examples."
        )
        _connect(app, parts, handlers)
        _serve_programs(handlers)
    return app


def _lay_out(handlers: Handlers) -> Parts:
    num_concepts = handlers.num_concepts
    gr.Markdown(f"# {TITLE}\n{EXPLANATION}")
    if not handlers.has_masks:
        gr.Markdown(SINGLE_CONCEPT)
    gr.Markdown("### Examples: A, B, and what A takes from B")
    pairs = [(_side_by_side(example.a, example.b), example.caption) for example in handlers.examples]
    examples = _gallery(pairs, columns=len(pairs), elem_id="examples")
    with gr.Row(elem_id="desk"):
        with gr.Column(scale=3, min_width=480):
            with gr.Row(elem_id="sides"):
                sides = (
                    _side("A", "is edited", handlers.images),
                    _side("B", "gives the codes", handlers.images),
                )
            gr.Markdown("### How far each code of A goes to B: 0 is A, 1 is B")
            names = ["Reset to A", "All content of B", *(["All masks of B"] if handlers.has_masks else [])]
            with gr.Row():
                presets = {name: gr.Button(name, size="sm", min_width=100) for name in names}
            with gr.Row(elem_classes="concepts"):
                concepts = [_concept(n, handlers.has_masks) for n in range(num_concepts)]
            with gr.Accordion("Sampler", open=False):
                sampler = gr.Radio(list(SAMPLERS), value=OWN_SAMPLER, label="Sampler")
                steps = gr.Slider(MIN_STEPS, MAX_STEPS, handlers.steps[OWN_SAMPLER], step=1, label="Steps")
                keep_noise = gr.Checkbox(
                    True, label="Start from the own noise of image A: keeps what its codes do not hold"
                )
                seed = gr.Number(0, precision=0, label="Seed of other noise")
            with gr.Accordion("Swap grid", open=False, visible=handlers.has_masks):
                button = gr.Button("Draw the swap grid", size="sm", elem_id="draw-grid")
                grid = gr.HTML(elem_id="grid")
        with gr.Column(scale=1, min_width=260, elem_id="shown"):
            gr.Markdown("### Result", elem_classes="title")
            result = gr.HTML(elem_id="result")
            status = gr.Markdown(elem_id="status")
    cards, content, mask = zip(*concepts, strict=True)
    masks = [slider for slider in mask if slider is not None]
    shown = (sides, examples, result, status, presets, list(cards), list(content), masks)
    return Parts(*shown, sampler, steps, keep_noise, seed, button, grid)


def _connect(app: gr.Blocks, parts: Parts, handlers: Handlers) -> None:
    source_a, source_b = sources = [side.source for side in parts.sides]
    sliders = [*parts.content, *parts.mask]
    settings = [parts.sampler, parts.steps, parts.keep_noise, parts.seed]
    everything = [*sources, *(side.view for side in parts.sides), *parts.cards, parts.result]
    # The place in the queue and the time are told below the result; what was drawn stays in view until it is replaced.
    live: dict[str, Any] = {
        **ON_MODEL,
        "trigger_mode": "always_last",
        "show_progress": "minimal",
        "show_progress_on": parts.status,
        "api_visibility": "private",
    }

    def edit_of(values: dict, content: Sequence[float] | None = None, mask: Sequence[float] | None = None) -> Edit:
        with _told():
            return Edit(
                tuple(values[slider] for slider in parts.content) if content is None else tuple(content),
                tuple(values[slider] for slider in parts.mask) if mask is None else tuple(mask),
                values[parts.sampler],
                int(values[parts.steps]),
                values[parts.keep_noise],
                int(values[parts.seed] or 0),
            )

    def redraw(values: dict) -> list[Any]:
        return handlers.redraw(values[source_a], values[source_b], edit_of(values))

    inputs: set[Block] = {*sources, *sliders, *settings}
    app.load(lambda: handlers.example(0), None, [*everything, *sliders], **live)
    changes = [slider.input for slider in sliders] + [slider.release for slider in sliders]
    changes += [parts.steps.input, parts.keep_noise.input, parts.seed.submit, parts.seed.blur]
    gr.on(changes, redraw, inputs, [source_a, parts.result], **live)

    def choose_sampler(values: dict) -> list[Any]:
        values[parts.steps] = handlers.steps[values[parts.sampler]]
        return [values[parts.steps], *redraw(values)]

    parts.sampler.input(choose_sampler, inputs, [parts.steps, source_a, parts.result], **live)

    def choose_example(event: gr.SelectData) -> list[Any]:
        return handlers.example(event.index)

    parts.examples.select(choose_example, None, [*everything, *sliders], **live)

    def preset(name: str, button: gr.Button) -> None:
        one, zero = (1.0,) * handlers.num_concepts, (0.0,) * handlers.num_concepts
        content = one if "content" in name else zero if "Reset" in name else None
        mask = one if "masks" in name else zero if "Reset" in name else None

        def choose(values: dict) -> list[Any]:
            edit = edit_of(values, content, mask if handlers.has_masks else ())
            return [*handlers.sliders(edit), *handlers.redraw(values[source_a], values[source_b], edit)]

        button.click(choose, inputs, [*sliders, source_a, parts.result], **live)

    for name, button in parts.presets.items():
        preset(name, button)

    def listen(side: Side) -> None:
        def replace(values: dict, image: Image.Image, name: str | None = None) -> list[Any]:
            a, b = (image if source is side.source else values[source] for source in sources)
            return handlers.show(a, b, edit_of(values), name)

        def pick(values: dict, event: gr.SelectData) -> list[Any]:
            return replace(values, handlers.images[event.index])

        def upload(values: dict) -> list[Any]:
            path = values[side.upload]
            return replace(values, handlers.upload(path), os.path.basename(path))

        side.gallery.select(pick, inputs, everything, **live)
        side.upload.upload(upload, inputs | {side.upload}, everything, **live)

    for side in parts.sides:
        listen(side)
    parts.draw_grid.click(
        lambda values: handlers.grid(values[source_a], values[source_b], edit_of(values)), inputs, parts.grid, **live
    )


def _serve_programs(handlers: Handlers) -> None:
    """The endpoint `/swap`: two images and a list of weights for content and for mask codes -> a picture."""
    images = [gr.File(label=f"image {letter}", type="filepath", visible=False) for letter in "AB"]
    weights = [gr.JSON(label=f"weights of the {kind} codes", visible=False) for kind in ("content", "mask")]
    picture = gr.Image(format="png", label="picture", visible=False)
    gr.Button(visible=False).click(
        handlers.answer, [*images, *weights], picture, api_name="swap", api_description=API, **ON_MODEL
    )


def _side(name: str, role: str, images: list[Image.Image]) -> Side:
    with gr.Column(min_width=220):
        gr.Markdown(f"### Image {name} {role}")
        view = gr.HTML(elem_id=f"view-{name}")
        upload = gr.UploadButton(f"Upload image {name}", file_types=["image"], size="sm", elem_id=f"upload-{name}")
        gr.Markdown(LIMITS, elem_classes="hint")
        pictures = [(enlarge(image), f"picture {number}") for number, image in enumerate(images, 1)]
        gallery = _gallery(pictures, columns=len(images), elem_id=f"gallery-{name}", nameless=True)
    return Side(gr.State(), view, upload, gallery)


def _gallery(pictures: list, columns: int, elem_id: str, nameless: bool = False) -> gr.Gallery:
    """Pictures to click on."""
    return gr.Gallery(
        pictures,
        columns=columns,
        elem_id=elem_id,
        elem_classes=["thumbnails", "nameless"] if nameless else ["thumbnails"],
        show_label=False,
        allow_preview=False,
        interactive=False,
        buttons=[],
    )


def _concept(number: int, has_masks: bool) -> tuple[gr.HTML, gr.Slider, gr.Slider | None]:
    with gr.Column(min_width=160, elem_classes="concept"):
        picture = gr.HTML()
        content = _weight("content", number)
        mask = _weight("mask", number) if has_masks else None
    return picture, content, mask


def _weight(kind: str, number: int) -> gr.Slider:
    return gr.Slider(MIN_WEIGHT, MAX_WEIGHT, 0, step=0.05, label=f"{kind} {number}", elem_id=f"{kind}-{number}")


def _side_by_side(a: Image.Image, b: Image.Image) -> Image.Image:
    a, b = enlarge(a), enlarge(b)
    both = Image.new("RGB", (a.width + b.width + a.width // 16, a.height), "white")
    both.paste(a, (0, 0))
    both.paste(b, (both.width - b.width, 0))
    return both


@contextmanager
def _told() -> Iterator[None]:
    """Show a visitor's mistake as a message."""
    try:
        yield
    except FDAEError as error:
        raise gr.Error(str(error), print_exception=False) from error


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
