#!/usr/bin/env python
"""A web app to swap codes between two images: concept by concept, choose what image A takes from image B.

    python pipelines/space/app.py

The model is that of the environment variable FDAE_MODEL, a Hub id or a folder. `swapping.py` does the work,
`pieces.py` has the HTML.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # before gradio is imported

import gradio as gr
from pieces import CSS, concept_html, pair_html
from PIL import Image
from swapping import (
    MAX_SEED,
    MAX_STEPS,
    MIN_STEPS,
    SAMPLERS,
    Choice,
    concept_pictures,
    describe,
    enlarge,
    example_images,
    find_model,
    make_examples,
    read_upload,
    swap,
)

from fdae_diffusers import FDAEPipeline
from fdae_diffusers.errors import FDAEError
from fdae_diffusers.health import HealthReport, find_foreign_images
from fdae_diffusers.hub.files import HEALTH_FILE
from fdae_diffusers.hub.loading import find_file, load_pipeline
from fdae_diffusers.utils.arguments import run_script

# These keep a crowd from taking the app down, with the limits on pixels and steps in swapping.py.
MAX_WAITING = 30
MAX_FILE_SIZE = "10mb"
DELETE_FILES = (600, 3600)  # look every so many seconds for files older than that
ON_MODEL: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1, "api_visibility": "private"}

TITLE = "Swap the codes of two images"
EXPLANATION = """\
A **Factorized Diffusion Autoencoder** splits an image into *concepts*, without labels. Each has a **content** code
(*what*: colour, texture) and a **mask** code (*where*: place, shape). Give image A some codes of image B and see what
changes."""
SINGLE_CONCEPT = """\
> This model has a **single concept and no masks**. Its one code stands for the whole image, so that a swap turns A
> into B; models with several concepts have something to choose from."""
EXAMPLES = "### Examples\nA and B, and what A takes from B"
PRESS = "Press **Swap**."
GRID = "### Swap grid\nContent from the image on the left, masks from the image above"


def main() -> None:
    """Load the model and serve the app."""
    model = find_model()
    pipeline = load_pipeline(model)
    path = find_file(model, HEALTH_FILE)
    health = None if path is None else HealthReport.load(path)
    app = build(pipeline, example_images(pipeline.encoder.config.sample_size), model, health)
    app.queue(max_size=MAX_WAITING, default_concurrency_limit=1)
    # Fonts of the visitor's system: nothing is fetched from elsewhere.
    theme = gr.themes.Soft(primary_hue="orange", font=["system-ui", "sans-serif"], font_mono=["ui-monospace"])
    app.launch(theme=theme, css=CSS, max_file_size=MAX_FILE_SIZE, footer_links=[])


@dataclass(frozen=True)
class Side:
    """What the app has for image A, and for image B."""

    picture: gr.State  # as the model sees it
    view: gr.HTML
    upload: gr.UploadButton
    gallery: gr.Gallery


@dataclass(frozen=True)
class Parts:
    """The parts of the app that do something, or show what was done."""

    sides: tuple[Side, Side]
    result: gr.Image
    description: gr.Markdown
    cards: list[gr.HTML]  # what concept n covers
    chosen: list[gr.CheckboxGroup]  # what A takes of concept n
    swap: gr.Button
    sampler: gr.Radio
    steps: gr.Slider
    keep_noise: gr.Checkbox
    seed: gr.Number
    examples: gr.Gallery
    grid: gr.Image


class Handlers:
    """What happens on clicks and uploads.

    Args:
        pipeline: The model.
        images: Pictures to choose from, two at least.
        health: How well the model does on its own pictures, to tell others; no picture is told without it.
    """

    def __init__(self, pipeline: FDAEPipeline, images: list[Image.Image], health: HealthReport | None = None):
        self.pipeline = pipeline
        self.health = health
        self.images = images
        self.num_concepts: int = pipeline.encoder.config.num_concepts
        self.size: int = pipeline.encoder.config.sample_size
        self.examples = make_examples(pipeline, images)
        self._example_results: dict[int, list] = {}

    def pick(self, event: gr.SelectData) -> list[Any]:
        """A picture to use from now on; the result of the one before goes."""
        return [self.images[event.index], None, None, PRESS]

    def upload(self, path: str) -> list[Any]:
        """The same, for an uploaded file."""
        with _told():
            image = read_upload(path, self.size)
            if self.health is not None:
                for foreign in find_foreign_images(self.pipeline, image, self.health):
                    gr.Warning(foreign.describe(os.path.basename(path)))
            return [image, None, None, PRESS]

    def show(self, a: Image.Image, b: Image.Image) -> list[str]:
        """HTML of both images, and of what each of the N concepts covers in them."""
        (map_a, concepts_a), (map_b, concepts_b) = (concept_pictures(self.pipeline, image) for image in (a, b))
        cards = [
            concept_html(n, self.num_concepts, *of_both)
            for n, of_both in enumerate(zip(concepts_a, concepts_b, strict=True))
        ]
        return [pair_html((a, "image A"), (map_a, "concepts")), pair_html((b, "image B"), (map_b, "concepts")), *cards]

    def swap(self, a: Image.Image, b: Image.Image, choice: Choice, progress: gr.Progress) -> list[Any]:
        """Result, swap grid and what was done."""
        with _told():
            result, grid = swap(
                self.pipeline, a, b, choice, lambda done, total: progress((done, total), desc="Sampling", unit="steps")
            )
        return [result, grid, describe(choice)]

    def example(self, index: int, progress: gr.Progress) -> list[Any]:
        """All that the app shows, for an example; it is sampled for the first visitor who wants it."""
        example = self.examples[index]
        if index not in self._example_results:
            self._example_results[index] = self.swap(example.a, example.b, example.choice, progress)
        kinds = {"content": example.choice.content, "mask": example.choice.mask}
        chosen = [[kind for kind in kinds if n in kinds[kind]] for n in range(self.num_concepts)]
        return [example.a, example.b, *self.show(example.a, example.b), *chosen, *self._example_results[index]]


def build(
    pipeline: FDAEPipeline, images: list[Image.Image], model: str, health: HealthReport | None = None
) -> gr.Blocks:
    """Make the app for a model, with pictures to start from and, if it was measured, its health."""
    handlers = Handlers(pipeline, images, health)
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=DELETE_FILES) as app:
        parts = _lay_out(handlers)
        gr.Markdown(f"Model: `{os.path.basename(model)}`, N = {handlers.num_concepts}, {handlers.size} pixels square.")
        _connect(app, parts, handlers)
    return app


def _lay_out(handlers: Handlers) -> Parts:
    num_concepts = handlers.num_concepts
    gr.Markdown(f"# {TITLE}\n{EXPLANATION}")
    if num_concepts == 1:
        gr.Markdown(SINGLE_CONCEPT)
    with gr.Row():
        sides = (_side("A", "is edited", 0, handlers.images), _side("B", "gives the codes", 1, handlers.images))
        with gr.Column(min_width=260):
            gr.Markdown("### Result")
            result = _picture("result")
            description = gr.Markdown()
    gr.Markdown("### What A takes from B")
    with gr.Row(elem_classes="concepts"):
        concepts = [_concept(n, num_concepts) for n in range(num_concepts)]
    button = gr.Button("Swap", variant="primary", elem_id="swap")
    with gr.Accordion("Sampler", open=False):
        sampler = gr.Radio(list(SAMPLERS), value=Choice.sampler, label="Sampler")
        steps = gr.Slider(MIN_STEPS, MAX_STEPS, value=Choice.steps, step=1, label="Steps")
        keep_noise = gr.Checkbox(
            Choice.keep_noise, label="Start from each image's own noise: keeps what its codes do not hold"
        )
        seed = gr.Number(Choice.seed, minimum=0, maximum=MAX_SEED, precision=0, label="Seed of other noise")
    with gr.Row():
        with gr.Column(min_width=260):
            gr.Markdown(EXAMPLES)
            pairs = [(_side_by_side(example.a, example.b), example.caption) for example in handlers.examples]
            examples = _gallery(pairs, columns=2, elem_id="examples")
        with gr.Column(min_width=260):
            gr.Markdown(GRID, visible=num_concepts > 1)
            grid = _picture("grid", visible=num_concepts > 1)
    cards, chosen = [card for card, _ in concepts], [group for _, group in concepts]
    return Parts(sides, result, description, cards, chosen, button, sampler, steps, keep_noise, seed, examples, grid)


def _connect(app: gr.Blocks, parts: Parts, handlers: Handlers) -> None:
    picture_a, picture_b = pictures = [side.picture for side in parts.sides]
    shown = [*(side.view for side in parts.sides), *parts.cards]
    results = [parts.result, parts.grid, parts.description]
    everything = [*pictures, *shown, *parts.chosen, *results]

    def start(progress=gr.Progress()):  # noqa: B008
        return handlers.example(0, progress)

    def choose_example(event: gr.SelectData, progress=gr.Progress()):  # noqa: B008
        return handlers.example(event.index, progress)

    def swap_chosen(values: dict, progress=gr.Progress()):  # noqa: B008
        content, mask = (
            tuple(n for n, group in enumerate(parts.chosen) if kind in values[group]) for kind in ("content", "mask")
        )
        sampler, steps, seed = values[parts.sampler], int(values[parts.steps]), int(values[parts.seed] or 0)
        with _told():
            choice = Choice(content, mask, sampler, steps, values[parts.keep_noise], seed)
        return handlers.swap(values[picture_a], values[picture_b], choice, progress)

    app.load(start, None, everything, **ON_MODEL)
    parts.examples.select(choose_example, None, everything, **ON_MODEL)
    settings = {parts.sampler, parts.steps, parts.keep_noise, parts.seed}
    parts.swap.click(swap_chosen, {*pictures, *parts.chosen, *settings}, results, **ON_MODEL)
    quiet = {**ON_MODEL, "show_progress": "hidden"}  # an upload that is refused leaves the old result in view
    for side in parts.sides:
        for event in (
            side.upload.upload(handlers.upload, side.upload, [side.picture, *results], **quiet),
            side.gallery.select(handlers.pick, None, [side.picture, *results], **quiet),
        ):
            event.success(handlers.show, pictures, shown, **quiet)


def _side(name: str, role: str, index: int, images: list[Image.Image]) -> Side:
    with gr.Column(min_width=260):
        gr.Markdown(f"### Image {name} {role}")
        view = gr.HTML(elem_id=f"view-{name}")
        upload = gr.UploadButton(f"Upload image {name}", file_types=["image"], size="sm", elem_id=f"upload-{name}")
        gallery = _gallery([enlarge(image) for image in images], columns=len(images), elem_id=f"gallery-{name}")
    return Side(gr.State(images[index]), view, upload, gallery)


def _gallery(pictures: list, columns: int, elem_id: str) -> gr.Gallery:
    """Pictures to click on."""
    return gr.Gallery(
        pictures,
        columns=columns,
        elem_id=elem_id,
        elem_classes="thumbnails",
        show_label=False,
        allow_preview=False,
        interactive=False,
        buttons=[],
    )


def _picture(elem_id: str, visible: bool = True) -> gr.Image:
    """A place for a result."""
    return gr.Image(
        elem_id=elem_id, visible=visible, show_label=False, format="png", interactive=False, buttons=["download"]
    )


def _concept(number: int, num_concepts: int) -> tuple[gr.HTML, gr.CheckboxGroup]:
    with gr.Column(min_width=160, elem_classes="concept"):
        picture = gr.HTML()
        choices = ["content", "mask"] if num_concepts > 1 else ["content"]
        group = gr.CheckboxGroup(choices, show_label=False, elem_id=f"concept-{number}")
    return picture, group


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
    run_script(main)
