import configparser
import gc
import importlib.machinery
import os
import shutil
import socket
import subprocess
import sys
import time
import types
import urllib.error
import urllib.request
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.models import micro_pipeline
from helpers.paths import ROOT
from huggingface_hub import ModelCard
from PIL import Image

from fdae_diffusers.errors import FDAEError
from fdae_diffusers.visualization.figures import CELL_SIZE, GAP, concept_colors

sys.path.insert(0, str(ROOT / "pipelines" / "space"))

import swapping
from pieces import concept_html
from swapping import (
    SAMPLERS,
    Edit,
    Familiarity,
    concept_pictures,
    describe,
    draw,
    draw_grid,
    encode,
    file_name,
    find_model,
    make_examples,
    read_upload,
)

SPACE = ROOT / "pipelines" / "space"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture
def pictures():
    return [Image.fromarray(image) for image in np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)]


# --- Work


def test_concept_pictures_keep_what_a_concept_covers_and_fade_the_rest(pipeline, pictures, monkeypatch):
    masks = torch.zeros(1, 3, 16, 16)
    masks[:, 0, :8], masks[:, 2, 8:] = 1, 1
    monkeypatch.setattr(pipeline, "decode_masks", lambda codes: masks)
    tinted, concepts = concept_pictures(pipeline, pictures[0], pipeline.encode(pictures[0]))
    image, first, unused = (np.asarray(picture, int) for picture in (pictures[0], concepts[0], concepts[1]))
    np.testing.assert_array_equal(first[:8], image[:8])
    assert first[8:].min() >= 255 * (1 - swapping.FADED) - 1
    assert unused.min() >= 255 * (1 - swapping.FADED) - 1
    lower = np.asarray(tinted, float)[8:] / 255 - 0.7 * concept_colors(3)[2]  # what is left is grey
    assert lower.std(-1).max() < 0.01


def quick_pipeline(**settings):
    """A micro model that draws in two steps."""
    slow = micro_pipeline(**settings)
    return type(slow)(slow.unet, slow.encoder, slow.scheduler, num_inference_steps=2)


@pytest.fixture
def sources(pipeline, pictures):
    return [encode(pipeline, picture) for picture in pictures[:2]]


def pixels(picture):
    return np.asarray(picture.resize((16, 16), Image.Resampling.NEAREST), int)


def test_moving_all_codes_to_b_gives_image_b(pipeline, sources):
    a, b = sources
    every = Edit(content=(1, 1, 1), mask=(1, 1, 1), steps=2, keep_noise=False)
    np.testing.assert_array_equal(*(pixels(draw(pipeline, *pair, every)[0]) for pair in ((a, b), (b, b))))


def test_a_weight_moves_one_code_along_the_line_and_beyond(sources):
    a, b = sources
    for weight in (-0.5, 0.25, 1.5):
        codes = swapping.blend(a.codes, b.codes, Edit(mask=(0, weight)))
        assert codes == a.codes.interpolate(b.codes, weight, mask=1)
        assert torch.equal(codes.content, a.codes.content)
        assert not torch.equal(codes.mask, a.codes.mask)


def test_own_noise_brings_the_image_back_and_is_found_once(pipeline, sources, monkeypatch):
    edit = Edit(steps=40)
    result, a = draw(pipeline, *sources, edit)
    assert np.abs(pixels(result) - pixels(a.image)).mean() < 3
    monkeypatch.setattr(type(pipeline), "invert", None)
    again, same = draw(pipeline, a, sources[1], edit)
    assert same is a
    np.testing.assert_array_equal(pixels(result), pixels(again))


def test_other_steps_find_the_noise_anew(pipeline, sources):
    _, a = draw(pipeline, *sources, Edit(steps=2))
    _, other = draw(pipeline, a, sources[1], Edit(steps=3))
    assert not torch.equal(a.noise, other.noise)


def test_swap_grid_has_the_result_of_all_masks_beside_the_sources(pipeline, sources):
    edit = Edit(mask=(1, 1, 1), steps=2)
    grid = draw_grid(pipeline, *sources, edit)
    pitch = CELL_SIZE + GAP
    assert grid.size == (3 * pitch + GAP, 3 * pitch + GAP)
    cell = grid.crop((GAP + 2 * pitch, GAP + pitch, GAP + 2 * pitch + CELL_SIZE, GAP + pitch + CELL_SIZE))
    assert np.abs(pixels(draw(pipeline, *sources, edit)[0]) - pixels(cell)).max() <= 1  # drawn alone and among four


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_draws_and_leaves_the_model_alone(pipeline, sources, sampler):
    scheduler = pipeline.scheduler
    result, a = draw(pipeline, *sources, Edit(sampler=sampler, steps=3))
    assert result.size == (16, 16)
    assert a.noise_of == (sampler, 3)
    assert pipeline.scheduler is scheduler


def test_the_models_own_number_of_steps_is_taken():
    pipeline = micro_pipeline()
    pipeline = type(pipeline)(pipeline.unet, pipeline.encoder, pipeline.scheduler, num_inference_steps=3)
    assert swapping.default_steps(pipeline, swapping.OWN_SAMPLER) == 3
    assert swapping.default_steps(pipeline, "EDM Euler") == 40


def test_pictures_that_are_rebuilt_far_worse_than_known_ones_are_foreign(pipeline, pictures, monkeypatch):
    source = encode(pipeline, pictures[0])
    familiarity = Familiarity(quick_pipeline(), None, pictures)
    assert familiarity.warning(source, "a.png") is None
    monkeypatch.setattr(familiarity, "measure", lambda source: familiarity.typical - 30)
    assert familiarity.warning(source, "a.png").startswith("a.png is unlike")


def test_a_gpu_is_borrowed_where_spaces_can_be_imported(monkeypatch):
    assert swapping.on_gpu(len) is len
    module = types.ModuleType("spaces")
    module.__spec__ = importlib.machinery.ModuleSpec("spaces", None)
    module.GPU = lambda function: lambda *arguments: ("on a GPU", function(*arguments))
    monkeypatch.setitem(sys.modules, "spaces", module)
    assert swapping.on_gpu(len)("abc") == ("on a GPU", 3)


@pytest.mark.parametrize(("num_concepts", "captions"), [(1, 1), (2, 3), (6, 3)])
def test_examples_of_models_with_any_number_of_concepts_can_be_swapped(pictures, num_concepts, captions):
    pipeline = quick_pipeline(num_concepts=num_concepts)
    examples = make_examples(pipeline, pictures)
    assert len(examples) == captions
    for example in examples:
        assert sum(example.edit.content + example.edit.mask) >= 1
        draw(pipeline, encode(pipeline, example.a), encode(pipeline, example.b), replace(example.edit, steps=2))


def test_what_was_done_is_said_in_words_and_in_the_name_of_the_file():
    edit = Edit(content=(0, 1), mask=(0.5, 0, -0.2))
    assert describe(edit) == "A with content 1, mask 0 at 50% and mask 2 at -20% of B."
    assert file_name(edit) == "fdae-content1-mask0x0.5-mask2x-0.2.png"
    assert "Nothing" in describe(Edit())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps must be from 2 to 50"),
        ({"steps": 10_000}, "steps must be from 2 to 50"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**40}, "seed"),
        ({"content": (0, 2)}, "weights must be from -0.5 to 1.5, not 2"),
        ({"mask": ("much",)}, "weights must be numbers"),
        ({"content": (float("nan"),)}, "nan"),
        ({"sampler": "Langevin"}, "no sampler 'Langevin'"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(FDAEError, match=message):
        Edit(**settings)


def test_uploads_that_are_too_large_or_of_other_formats_are_refused(tmp_path):
    Image.new("1", (8_000, 6_000)).save(tmp_path / "huge.png")
    with pytest.raises(FDAEError, match=r"huge\.png has 8000 x 6000 pixels, more than 40 million"):
        read_upload(tmp_path / "huge.png", 16)
    Image.new("RGB", (8, 8)).save(tmp_path / "program.eps")
    with pytest.raises(FDAEError, match=r"program\.eps is no image of a known format"):
        read_upload(tmp_path / "program.eps", 16)


def test_the_model_is_that_of_the_environment_or_the_repositorys_or_the_readmes(monkeypatch, tmp_path):
    monkeypatch.setenv("FDAE_MODEL", "someone/model")
    assert find_model() == "someone/model"
    monkeypatch.delenv("FDAE_MODEL")
    assert Path(find_model()) == ROOT / "model_cards" / "fdae-shapes3d-rendered-32"
    shutil.copy(SPACE / "README.md", tmp_path)
    monkeypatch.setattr(swapping, "HERE", tmp_path)
    assert find_model() == "ORG/fdae-shapes3d-rendered-32"


def test_a_folder_of_examples_replaces_the_rendered_ones(monkeypatch, tmp_path, pictures):
    assert {picture.size for picture in swapping.example_images(16)} == {(16, 16)}
    monkeypatch.setattr(swapping, "HERE", tmp_path)
    (tmp_path / "examples").mkdir()
    for name, picture in zip("ab", pictures, strict=False):
        picture.save(tmp_path / "examples" / f"{name}.png")
    np.testing.assert_array_equal(*(np.asarray(image) for image in (swapping.example_images(16)[1], pictures[1])))


def test_a_concept_has_its_colour(pictures):
    assert "background:#ff7f0e" in concept_html(1, 3, *pictures[:2])  # the second of tab10


def test_the_space_requires_what_the_package_does():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    needed = setup["options"]["install_requires"] + setup["options.extras_require"]["space"]
    assert (SPACE / "requirements.txt").read_text().split("\n") == [*needed.strip().split("\n"), ""]
    metadata = ModelCard.load(SPACE / "README.md").data.to_dict()
    assert metadata["sdk"] == "gradio"
    assert (SPACE / metadata["app_file"]).exists()


# --- App


@pytest.fixture(scope="module")
def app():
    """The module of the app; what gradio warns of when it is imported is its own business."""
    pytest.importorskip("gradio", reason="needs gradio: pip install .[space]")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import app

        return app


@pytest.mark.parametrize("num_concepts", [1, 6])
def test_layout_has_sliders_per_concept_and_explains_a_single_one(app, pictures, num_concepts):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # gradio leaves event loops open
        blocks = list(app.build(quick_pipeline(num_concepts=num_concepts), pictures, "micro").blocks.values())
        gc.collect()
    names = {block.elem_id for block in blocks if block.elem_id}
    kinds = ["content"] if num_concepts == 1 else ["content", "mask"]
    sliders = {name for name in names if name.startswith(("content-", "mask-"))}
    assert sliders == {f"{kind}-{n}" for kind in kinds for n in range(num_concepts)}
    assert any("single concept" in str(getattr(block, "value", "")) for block in blocks) == (num_concepts == 1)


def test_examples_are_drawn_once_and_images_read_once(app, pipeline, pictures, monkeypatch):
    handlers = app.Handlers(quick_pipeline(), pictures)
    source = encode(pipeline, pictures[1])
    encoded, drawn = [], []
    monkeypatch.setattr(app, "encode", lambda pipeline, image: encoded.append(image) or encode(pipeline, image))
    monkeypatch.setattr(app, "draw", lambda pipeline, *edit: drawn.append(edit) or draw(pipeline, *edit))
    first, second = (handlers.example(0) for _ in range(2))
    assert first == second
    assert len(encoded) == 2
    assert len(drawn) == 1
    handlers.show(pictures[0], source, Edit())
    assert len(encoded) == 3


def test_an_upload_unlike_the_examples_is_told(app, pipeline, pictures, monkeypatch):
    told = []
    monkeypatch.setattr(app.gr, "Warning", told.append)
    monkeypatch.setattr(Familiarity, "warning", lambda self, source, name: f"{name} is foreign")
    handlers = app.Handlers(quick_pipeline(), pictures)
    source = encode(pipeline, pictures[1])
    handlers.show(pictures[0], source, Edit(), "a.png")
    assert told == ["a.png is foreign"]
    handlers.show(pictures[0], source, Edit())  # a picture of the app's own
    assert told == ["a.png is foreign"]


@pytest.fixture(scope="module")
def server(app, tmp_path_factory):
    """The address of a running app with a micro model."""
    folder = tmp_path_factory.mktemp("space")
    quick_pipeline().save_pretrained(folder / "micro")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "FDAE_MODEL": str(folder / "micro"),
        "GRADIO_TEMP_DIR": str(folder / "files"),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    address = f"http://127.0.0.1:{port}"
    with (
        open(folder / "log", "w") as log,
        subprocess.Popen(
            [sys.executable, str(SPACE / "app.py"), "--port", str(port)],
            env=environment,
            cwd=folder,
            stdout=log,
            stderr=log,
        ) as process,
    ):
        try:
            while not _answers(address):
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.2)
            yield address
        finally:
            process.terminate()


def _answers(address):
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except (urllib.error.URLError, TimeoutError):
        return False


@pytest.fixture
def page(server):
    """The app in a browser, with the address of every request that leaves this machine."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install .[browser]")
    if CHROMIUM is None:
        pytest.skip("needs chromium")
    with playwright.sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=CHROMIUM)
        page = browser.new_page()
        page.elsewhere = []
        page.on(
            "request", lambda request: request.url.startswith((server, "data:")) or page.elsewhere.append(request.url)
        )
        page.set_default_timeout(60_000)
        page.goto(server)
        page.wait_for_selector("#result img")
        yield page
        browser.close()


def upload(page, name, path):
    with page.expect_file_chooser() as chooser:
        page.click(f"#upload-{name}")
    chooser.value.set_files(path)


def slide(page, name, value):
    """Move a slider as a pointer does, and wait for another picture."""
    before = page.get_attribute("#result img", "src")
    page.locator(f"#{name} input[type=range]").evaluate(
        "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input', {bubbles: true})) }", value
    )
    wait_for_another(page, before)


def wait_for_another(page, before):
    page.wait_for_function("old => document.querySelector('#result img').src != old", arg=before)


def test_a_visitor_uploads_two_images_and_the_picture_follows(page, pictures, tmp_path):
    for name, picture in zip("AB", pictures, strict=False):
        picture.save(tmp_path / f"{name}.png")
        before = page.inner_html(f"#view-{name}")
        upload(page, name, tmp_path / f"{name}.png")
        page.wait_for_function(
            "([name, old]) => document.querySelector(`#view-${name}`).innerHTML != old", arg=[name, before]
        )
        assert page.is_visible("#result img")  # never emptied
    for value in (0.3, 0.7, 1.5):
        slide(page, "mask-1", value)
    page.wait_for_selector("text=mask 1 at 150%")
    assert page.get_attribute("#result a", "download").endswith("mask1x1.5.png")
    before = page.get_attribute("#result img", "src")
    page.click("text=Reset to A")
    wait_for_another(page, before)
    assert page.input_value("#mask-1 input[type=range]") == "0"
    page.click("text=Swap grid")
    page.click("#draw-grid")
    page.wait_for_selector("#grid img")
    assert page.evaluate("[...document.images].every(image => image.alt)")
    assert not page.elsewhere


def test_the_result_stays_in_view_on_a_phone(page):
    page.set_viewport_size({"width": 390, "height": 844})
    page.locator("#mask-2").scroll_into_view_if_needed()
    slide(page, "mask-2", 0.8)
    for place in ("#result img", "#mask-2"):
        box = page.locator(place).bounding_box()
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= 844
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_seed_out_of_range_is_refused_and_the_picture_stays(page):
    before = page.get_attribute("#result img", "src")
    page.click("text=Sampler")
    page.fill("input[aria-label='Seed of other noise']", "-5")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=the seed must be from 0")
    assert page.get_attribute("#result img", "src") == before


def test_a_program_swaps_codes(server, pipeline, pictures, tmp_path):
    client_of = pytest.importorskip("gradio_client", reason="needs gradio: pip install .[space]")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = client_of.Client(server, verbose=False, download_files=str(tmp_path))
        files = []
        for name, picture in zip("ab", pictures, strict=False):
            picture.save(tmp_path / f"{name}.png")
            files.append(client_of.handle_file(str(tmp_path / f"{name}.png")))
        assert list(client.view_api(return_format="dict")["named_endpoints"]) == ["/swap"]
        drawn = [
            client.predict(*files, content, mask, api_name="/swap") for content, mask in (([], []), ([1], [0, 1]))
        ]
        with pytest.raises(Exception, match="4 weights for content"):
            client.predict(*files, [1, 1, 1, 1], [], api_name="/swap")
    rebuilt, swapped = (np.asarray(Image.open(path), int) for path in drawn)
    assert rebuilt.shape == swapped.shape == (320, 320, 3)
    assert not np.array_equal(rebuilt, swapped)


def test_a_visitor_is_told_what_is_wrong_with_a_file(page, tmp_path):
    (tmp_path / "text.png").write_text("text")
    upload(page, "A", tmp_path / "text.png")
    page.wait_for_selector("text=text.png is no image of a known format")
    (tmp_path / "large.png").write_bytes(bytes(11_000_000))
    upload(page, "A", tmp_path / "large.png")
    page.wait_for_selector("text=exceed the maximum allowed size")


def test_a_visitor_picks_an_example(page):
    example = page.get_attribute("#result img", "src")
    page.click("#examples button >> nth=3")
    wait_for_another(page, example)
    assert [page.input_value(f"#mask-{n} input[type=range]") for n in range(3)] == ["1"] * 3


def test_the_command_line_has_help_and_refuses_unknown_flags():
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(SPACE / "app.py")]
    shown = subprocess.run([*command, "--help"], env=environment, capture_output=True, text=True, check=True).stdout
    assert all(flag in shown for flag in ("--model", "--port", "--host", "--device"))
    refused = subprocess.run([*command, "--colour"], env=environment, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].startswith("error: ")
