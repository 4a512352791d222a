#!/usr/bin/env python
"""A web app to swap codes between two images: concept by concept, choose what image A takes from image B.

    python pipelines/space/app.py

The model is that of the environment variable FDAE_MODEL, a Hub id or a folder. `swapping.py` does the work,
`pieces.py` has the HTML.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # before gradio is imported

import gradio as gr
from pieces import CSS, concept_html, pair_html
from PIL import Image
from swapping import (
    MAX_SEED,
    MAX_STEPS,
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
from fdae_diffusers.arguments import run_script
from fdae_diffusers.errors import FDAEError
from fdae_diffusers.loading import load_pipeline

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
GRID = "### Swap grid\nContent from the image on the left, masks from the image above"


def main() -> None:
    """Load the model and serve the app."""
    model = find_model()
    pipeline = load_pipeline(model)
    app = build(pipeline, example_images(pipeline.encoder.config.sample_size), model)
    app.queue(max_size=MAX_WAITING, default_concurrency_limit=1)
    # Fonts of the visitor's system: nothing is fetched from elsewhere.
    theme = gr.themes.Soft(primary_hue="orange", font=["system-ui", "sans-serif"], font_mono=["ui-monospace"])
    app.launch(theme=theme, css=CSS, max_file_size=MAX_FILE_SIZE, footer_links=[])


class Handlers:
    """What happens on clicks and uploads. Images A and B are kept for each visitor, as the model sees them.

    Args:
        pipeline: The model.
        images: Pictures to choose from, two at least.
    """

    def __init__(self, pipeline: FDAEPipeline, images: list[Image.Image]):
        self.pipeline = pipeline
        self.images = images
        self.num_concepts: int = pipeline.encoder.config.num_concepts
        self.examples = make_examples(pipeline, images)
        self._example_results: dict[int, tuple] = {}

    def replace(self, picture: Image.Image) -> list[Any]:
        """A picture to use from now on, instead of the result of the one before."""
        return [picture, None, None, "Press **Swap**."]

    def upload(self, path: str) -> list[Any]:
        """The same, for an uploaded file."""
        with _told():
            return self.replace(read_upload(path, self.pipeline.encoder.config.sample_size))

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
            return [*swap(self.pipeline, a, b, choice, _reporter(progress)), describe(choice)]

    def example(self, index: int, progress: gr.Progress) -> list[Any]:
        """All that the app shows, for an example; it is sampled for the first visitor who wants it."""
        example = self.examples[index]
        if index not in self._example_results:
            self._example_results[index] = tuple(self.swap(example.a, example.b, example.choice, progress))
        kinds = {"content": example.choice.content, "mask": example.choice.mask}
        chosen = [[kind for kind in kinds if n in kinds[kind]] for n in range(self.num_concepts)]
        return [example.a, example.b, *self.show(example.a, example.b), *chosen, *self._example_results[index]]


def build(pipeline: FDAEPipeline, images: list[Image.Image], model: str) -> gr.Blocks:
    """Lay the app out and connect it."""
    handlers = Handlers(pipeline, images)
    size = pipeline.encoder.config.sample_size
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=DELETE_FILES) as app:
        gr.Markdown(f"# {TITLE}\n{EXPLANATION}")
        if handlers.num_concepts == 1:
            gr.Markdown(SINGLE_CONCEPT)
        a, b = gr.State(images[0]), gr.State(images[1])
        with gr.Row():
            view_a, upload_a, gallery_a = _image_column("A", "is edited", images)
            view_b, upload_b, gallery_b = _image_column("B", "gives the codes", images)
            with gr.Column(min_width=260):
                gr.Markdown("### Result")
                result = _picture("result")
                description = gr.Markdown()
        gr.Markdown("### What A takes from B")
        with gr.Row(elem_classes="concepts"):
            concepts = [_concept_card(n, handlers.num_concepts) for n in range(handlers.num_concepts)]
        cards, chosen = [card for card, _ in concepts], [group for _, group in concepts]
        swap_button = gr.Button("Swap", variant="primary", elem_id="swap")
        with gr.Accordion("Sampler", open=False):
            sampler = gr.Radio(list(SAMPLERS), value=Choice.sampler, label="Sampler")
            steps = gr.Slider(1, MAX_STEPS, value=Choice.steps, step=1, label="Steps")
            seed = gr.Number(Choice.seed, minimum=0, maximum=MAX_SEED, precision=0, label="Seed of the starting noise")
        with gr.Row():
            with gr.Column(min_width=260):
                gr.Markdown(EXAMPLES)
                pairs = [(_side_by_side(example.a, example.b), example.caption) for example in handlers.examples]
                examples = _gallery(pairs, columns=2, elem_id="examples")
            with gr.Column(min_width=260):
                gr.Markdown(GRID, visible=handlers.num_concepts > 1)
                grid = _picture("grid", visible=handlers.num_concepts > 1)
        gr.Markdown(f"Model: `{os.path.basename(model)}`, {handlers.num_concepts} concepts, {size} x {size} pixels.")

        shown = [view_a, view_b, *cards]
        everything = [a, b, *shown, *chosen, result, grid, description]

        def choose_picture(event: gr.SelectData):
            return handlers.replace(images[event.index])

        def choose_example(event: gr.SelectData, progress=gr.Progress()):  # noqa: B008
            return handlers.example(event.index, progress)

        def start(progress=gr.Progress()):  # noqa: B008
            return handlers.example(0, progress)

        def swap_chosen(values: dict, progress=gr.Progress()):  # noqa: B008
            content, mask = (
                tuple(n for n, group in enumerate(chosen) if kind in values[group]) for kind in ("content", "mask")
            )
            with _told():
                choice = Choice(content, mask, values[sampler], int(values[steps]), int(values[seed]))
            return handlers.swap(values[a], values[b], choice, progress)

        app.load(start, None, everything, **ON_MODEL)
        examples.select(choose_example, None, everything, **ON_MODEL)
        swap_button.click(swap_chosen, {a, b, sampler, steps, seed, *chosen}, [result, grid, description], **ON_MODEL)
        for state, upload, gallery in ((a, upload_a, gallery_a), (b, upload_b, gallery_b)):
            new_picture = [state, result, grid, description]
            for event in (
                upload.upload(handlers.upload, upload, new_picture, **ON_MODEL),
                gallery.select(choose_picture, None, new_picture, **ON_MODEL),
            ):
                event.success(handlers.show, [a, b], shown, show_progress="hidden", **ON_MODEL)
    return app


def _image_column(name: str, role: str, images: list[Image.Image]) -> tuple[gr.HTML, gr.UploadButton, gr.Gallery]:
    with gr.Column(min_width=260):
        gr.Markdown(f"### Image {name} {role}")
        view = gr.HTML(elem_id=f"view-{name}")
        upload = gr.UploadButton(f"Upload image {name}", file_types=["image"], size="sm", elem_id=f"upload-{name}")
        gallery = _gallery([enlarge(image) for image in images], columns=len(images), elem_id=f"gallery-{name}")
    return view, upload, gallery


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


def _concept_card(number: int, num_concepts: int) -> tuple[gr.HTML, gr.CheckboxGroup]:
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


def _reporter(progress: gr.Progress) -> Callable[[int, int], None]:
    return lambda done, total: progress((done, total), desc="Sampling", unit="steps")


@contextmanager
def _told() -> Iterator[None]:
    """Show a visitor's mistake as a message."""
    try:
        yield
    except FDAEError as error:
        raise gr.Error(str(error), print_exception=False) from error


if __name__ == "__main__":
    run_script(main)
