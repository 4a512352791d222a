import configparser
import gc
import os
import shutil
import socket
import subprocess
import sys
import time
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
from fdae_diffusers.health import measure_health
from fdae_diffusers.visualization.figures import CELL_SIZE, GAP, concept_colors

sys.path.insert(0, str(ROOT / "pipelines" / "space"))

import swapping
from pieces import concept_html
from swapping import SAMPLERS, Choice, concept_pictures, describe, find_model, make_examples, read_upload, swap

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
    tinted, concepts = concept_pictures(pipeline, pictures[0])
    image, first, unused = (np.asarray(picture, int) for picture in (pictures[0], concepts[0], concepts[1]))
    np.testing.assert_array_equal(first[:8], image[:8])
    assert first[8:].min() >= 255 * (1 - swapping.FADED) - 1
    assert unused.min() >= 255 * (1 - swapping.FADED) - 1
    lower = np.asarray(tinted, float)[8:] / 255 - 0.7 * concept_colors(3)[2]  # what is left is grey
    assert lower.std(-1).max() < 0.01


def test_swap_of_all_codes_gives_image_b(pipeline, pictures):
    a, b, _, _ = pictures
    every = Choice(content=(0, 1, 2), mask=(0, 1, 2), steps=2, keep_noise=False)
    np.testing.assert_array_equal(*(np.asarray(swap(pipeline, *pair, every)[0]) for pair in ((a, b), (b, b))))


def test_own_noise_brings_both_images_back(pipeline, pictures):
    a, b, _, _ = pictures
    result, grid = swap(pipeline, a, b, Choice(steps=40))
    pitch = CELL_SIZE + GAP
    again_b = grid.crop((GAP + 2 * pitch, GAP + 2 * pitch, 3 * pitch, 3 * pitch))
    for image, again in ((a, result), (b, again_b)):
        small = np.asarray(again.resize((16, 16), Image.Resampling.NEAREST), int)
        assert np.abs(small - np.asarray(image)).mean() < 3


def test_swap_grid_has_the_result_of_swapping_all_masks_beside_the_sources(pipeline, pictures):
    result, grid = swap(pipeline, *pictures[:2], Choice(mask=(0, 1, 2), steps=2))
    pitch = CELL_SIZE + GAP
    assert grid.size == (3 * pitch + GAP, 3 * pitch + GAP)
    cell = grid.crop((GAP + 2 * pitch, GAP + pitch, GAP + 2 * pitch + CELL_SIZE, GAP + pitch + CELL_SIZE))
    small = [np.asarray(picture.resize((16, 16), Image.Resampling.NEAREST)) for picture in (result, cell)]
    np.testing.assert_array_equal(*small)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_reports_its_steps_and_leaves_the_model_alone(pipeline, pictures, sampler):
    scheduler, reported = pipeline.scheduler, []
    result, _ = swap(
        pipeline, *pictures[:2], Choice(sampler=sampler, steps=3), lambda done, total: reported.append((done, total))
    )
    assert result.size == (320, 320)
    assert reported == [(done, len(reported)) for done in range(1, len(reported) + 1)]
    assert len(reported) >= 3
    assert pipeline.scheduler is scheduler


@pytest.mark.parametrize(("num_concepts", "captions"), [(1, 1), (2, 3), (6, 3)])
def test_examples_of_models_with_any_number_of_concepts_can_be_swapped(pictures, num_concepts, captions):
    pipeline = micro_pipeline(num_concepts=num_concepts)
    examples = make_examples(pipeline, pictures)
    assert len(examples) == captions
    for example in examples:
        _, grid = swap(pipeline, example.a, example.b, Choice(example.choice.content, example.choice.mask, steps=2))
        assert (grid is None) == (num_concepts == 1)


def test_what_was_done_is_said_in_words():
    assert (
        describe(Choice(content=(1,), mask=(0, 2)))
        == "A with the content of concept 1 and the mask of concepts 0, 2 of B."
    )
    assert "No code" in describe(Choice())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps must be from 2 to 50"),
        ({"steps": 10_000}, "steps must be from 2 to 50"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**40}, "seed"),
        ({"sampler": "Langevin"}, "no sampler 'Langevin'"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(FDAEError, match=message):
        Choice(**settings)


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


@pytest.mark.parametrize("num_concepts", [1, 2, 6])
def test_layout_has_a_choice_per_concept_and_explains_a_single_one(app, pictures, num_concepts):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # gradio leaves event loops open
        blocks = list(app.build(micro_pipeline(num_concepts=num_concepts), pictures, "micro").blocks.values())
        gc.collect()
    groups = [block for block in blocks if block.elem_id and block.elem_id.startswith("concept-")]
    assert [len(group.choices) for group in groups] == [1 if num_concepts == 1 else 2] * num_concepts
    assert any("single concept" in str(getattr(block, "value", "")) for block in blocks) == (num_concepts == 1)


def test_examples_are_sampled_once(app, pictures, monkeypatch):
    handlers = app.Handlers(micro_pipeline(), pictures)
    swaps = []
    monkeypatch.setattr(app, "swap", lambda *arguments: swaps.append(arguments) or (pictures[0], None))
    first, second = (handlers.example(0, None) for _ in range(2))
    assert len(swaps) == 1
    assert first == second


@pytest.mark.parametrize("psnr_low", [0, 90])
def test_an_upload_unlike_the_models_own_pictures_is_told(app, pipeline, pictures, tmp_path, monkeypatch, psnr_low):
    health = replace(measure_health(pipeline, pictures, num_inference_steps=1), psnr_low=psnr_low)
    told = []
    monkeypatch.setattr(app.gr, "Warning", told.append)
    pictures[0].save(tmp_path / "a.png")
    for known in (None, health):
        handlers = app.Handlers(pipeline, pictures, known)
        np.testing.assert_array_equal(handlers.upload(str(tmp_path / "a.png"))[0], pictures[0])
    assert [message.split()[0] for message in told] == (["a.png"] if psnr_low else [])


@pytest.fixture(scope="module")
def server(app, tmp_path_factory):
    """The address of a running app with a micro model."""
    folder = tmp_path_factory.mktemp("space")
    micro_pipeline().save_pretrained(folder / "micro")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "FDAE_MODEL": str(folder / "micro"),
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_TEMP_DIR": str(folder / "files"),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    address = f"http://127.0.0.1:{port}"
    with (
        open(folder / "log", "w") as log,
        subprocess.Popen(
            [sys.executable, str(SPACE / "app.py")], env=environment, cwd=folder, stdout=log, stderr=log
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


def test_a_visitor_uploads_two_images_and_swaps(page, pictures, tmp_path):
    example = page.get_attribute("#result img", "src")
    for name, picture in zip("AB", pictures, strict=False):
        picture.save(tmp_path / f"{name}.png")
        before = page.inner_html(f"#view-{name}")
        upload(page, name, tmp_path / f"{name}.png")
        page.wait_for_function(
            "([name, old]) => document.querySelector(`#view-${name}`).innerHTML != old", arg=[name, before]
        )
    assert page.query_selector("#result img") is None  # the result of the example belongs to other images
    page.check("#concept-1 input[name=mask]")
    page.click("#swap")
    page.wait_for_selector("#result img")
    assert page.get_attribute("#result img", "src") != example
    assert page.is_visible("#grid img")
    assert "the mask of concept 1 of B" in page.inner_text("body")
    assert not page.elsewhere


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
    page.wait_for_function("old => document.querySelector('#result img')?.src != old", arg=example)
    assert all(page.is_checked(f"#concept-{n} input[name=mask]") for n in range(3))
