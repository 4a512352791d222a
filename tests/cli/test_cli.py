import argparse
import json
import re
import shutil
from dataclasses import fields, is_dataclass

import numpy as np
import PIL.Image
import pytest
import torch
from helpers.models import micro_pipeline
from safetensors import safe_open

from fdae_diffusers import FDAECodes, __version__
from fdae_diffusers.basis import BASIS_FILE, CodeBasis
from fdae_diffusers.cli.main import load, main, run
from fdae_diffusers.cli.parser import model_flags
from fdae_diffusers.cli.table import COMMANDS
from fdae_diffusers.errors import FDAEError
from fdae_diffusers.evaluation import disentanglement as evaluation
from fdae_diffusers.hub.examples import save_examples
from fdae_diffusers.hub.loading import ModelConfig
from fdae_diffusers.image_processing import read_image
from fdae_diffusers.visualization.figures import CELL_SIZE, GAP, HEADER_HEIGHT, LABEL_WIDTH

PITCH = CELL_SIZE + GAP


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "micro"
    pipeline = micro_pipeline()
    pipeline.save_pretrained(folder)
    codes = FDAECodes(torch.randn(30, 3, 6), torch.randn(30, 3, 6))
    CodeBasis.fit(codes, num_components=2, num_clusters=3).save_pretrained(folder)
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch, model):
    """A folder of two images, which is the current one, and the model in the environment."""
    generator = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        PIL.Image.fromarray(generator.integers(0, 256, (20, 24, 3), np.uint8)).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FDAE_MODEL", str(model))
    return tmp_path


def figure(name):
    with PIL.Image.open(name) as image:
        return image.copy()


def cell(picture, row, column, left=0, top=HEADER_HEIGHT):
    x, y = left + GAP + column * PITCH, top + GAP + row * PITCH
    return np.asarray(picture.crop((x, y, x + CELL_SIZE, y + CELL_SIZE)))


def test_codes_of_a_file_are_those_of_the_images_and_decode_again(here, model):
    run(["encode", "b.png", "a.png"])
    codes = FDAECodes.load("codes.safetensors")
    names = json.loads(FDAECodes.read_metadata("codes.safetensors")["images"])
    assert names == ["b.png", "a.png"]
    expected = micro_pipeline().encode([read_image(name, 16) for name in names])
    torch.testing.assert_close(codes.content, expected.content)
    torch.testing.assert_close(codes.mask, expected.mask)

    run(["reconstruct", "codes.safetensors", "--num_inference_steps", "2", "--output", "codes.png"])
    run(["reconstruct", "b.png", "a.png", "--num_inference_steps", "2"])
    from_codes, from_images = figure("codes.png"), figure("reconstruct.png")
    np.testing.assert_array_equal(cell(from_codes, 0, 1, top=0), cell(from_images, 1, 1, top=0))


def test_masks_have_a_column_per_concept(here):
    run(["masks", "a.png", "b.png"])
    assert figure("masks.png").size == (5 * PITCH + GAP, HEADER_HEIGHT + 2 * PITCH + GAP)


def test_swap_takes_the_named_codes(here):
    for name, arguments in {
        "none": ["--content", "0"],
        "all": ["--content", "all", "--mask", "0,1", "--mask", "2"],
    }.items():
        run(["swap", "a.png", "b.png", "--num_inference_steps", "2", "--output", f"{name}.png", *arguments])
    run(["reconstruct", "a.png", "b.png", "--num_inference_steps", "2"])
    of_b = cell(figure("reconstruct.png"), 1, 1, top=0)
    np.testing.assert_array_equal(cell(figure("all.png"), 0, 2), of_b)
    assert (cell(figure("none.png"), 0, 2) != of_b).any()


def test_swap_without_codes_shows_each_alone(here):
    run(["swap", "a.png", "b.png", "--num_inference_steps", "2"])
    run(["swap", "a.png", "b.png", "--num_inference_steps", "2", "--mask", "1", "--output", "mask.png"])
    each = figure("swap.png")
    assert each.size == (LABEL_WIDTH + 5 * PITCH + GAP, HEADER_HEIGHT + 2 * PITCH + GAP)
    np.testing.assert_array_equal(cell(each, 1, 3, LABEL_WIDTH), cell(figure("mask.png"), 0, 2))


def test_swap_from_the_images_own_noise_keeps_it_where_no_code_changes(here):
    errors = []
    for name, flags in (("drawn", []), ("own", ["--keep_noise"])):
        (here / "c.png").write_bytes((here / "a.png").read_bytes())
        run(["swap", "a.png", "c.png", "--content", "0", "--output", f"{name}.png", *flags])
        picture = figure(f"{name}.png")
        errors.append(np.abs(cell(picture, 0, 2).astype(int) - cell(picture, 0, 0)).mean())
    assert errors[1] < 0.2 * errors[0]


def test_grid_has_a_row_and_a_column_per_image(here):
    run(["grid", "a.png", "b.png", "--num_inference_steps", "1"])
    assert figure("grid.png").size == (3 * PITCH + GAP, 3 * PITCH + GAP)


def test_traverse_has_a_row_per_component_or_the_named_one(here):
    arguments = ["traverse", "a.png", "--num_inference_steps", "1", "--values", "-1,0,1"]
    run([*arguments, "--content", "1"])
    run([*arguments, "--mask", "1", "--component", "1", "--output", "one.png"])
    assert figure("traverse.png").size == (LABEL_WIDTH + 3 * PITCH + GAP, HEADER_HEIGHT + 2 * PITCH + GAP)
    assert figure("one.png").height == HEADER_HEIGHT + PITCH + GAP


def test_evaluate_takes_the_model_of_the_environment_and_the_flags_of_the_script(here, model, monkeypatch):
    asked = []
    monkeypatch.setattr(evaluation, "evaluate", asked.append)
    run(["evaluate", "--dataset", "shapes3d-rendered", "--seed", "3"])
    run(["evaluate", "--dataset", "cars3d", "--model", "other"])
    assert [(config.model, config.dataset, config.seed) for config in asked] == [
        (str(model), "shapes3d-rendered", 3),
        ("other", "cars3d", 0),
    ]


def test_an_existing_file_is_replaced_only_when_asked(here):
    (here / "masks.png").write_text("precious")
    with pytest.raises(FDAEError, match=r"masks\.png exists already"):
        run(["masks", "a.png"])
    assert (here / "masks.png").read_text() == "precious"
    run(["masks", "a.png", "--overwrite"])
    assert figure("masks.png").width


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["masks", "absent.png"], "there is no file absent.png"),
        (["masks", "../{here}/text.png"], r"error: \.\./\w+/text.png is no image"),
        (["masks", "text.HEIC"], "text.HEIC is no image.*convert HEIC"),
        (["masks", "half.png"], "cannot read the image half.png"),
        (["masks", "empty"], "empty holds no pictures"),
        (["masks", "*.jpg"], r"no file fits \*\.jpg"),
        (["swap", ".", "b.png"], r"\. is a folder"),
        (["masks", "-"], "has no example pictures"),
        (["masks", "a.png", "--model", "./absent"], "there is no model folder ./absent"),
        (["masks", "a.png", "--device", "abacus"], "cannot use the device 'abacus'"),
        (["masks", "a.png", "--output", "text.png/masks.png"], "cannot write text.png/masks.png"),
        (["masks", "a.png", "--output", "masks.txt"], "must end in .png"),
        (["encode", "a.png", "--output", "codes.png"], "must end in .safetensors"),
        (["train", "absent"], "no folder absent"),
        (["train", "--minutes", "0"], "--minutes: '0' is no number"),
        (["train", "--minutes", "3"], "fdae train FOLDER"),
        (["train", "--config", "fast"], "no file fast.*quickstart"),
        (["masks", "a.png", "--frob"], "unknown argument --frob"),
        (["masks"], "required: IMAGE"),
        (["swap", "a.png", "b.png", "--content", "3"], "concepts 0 to 2"),
        (["swap", "a.png", "b.png", "--content", "one"], "--content: 'one' names no concepts"),
        (["swap", "a.png", "b.png", "--mask", "0,,1"], "--mask: '0,,1' names no concepts"),
        (["swap", "a.png"], "required: DONOR"),
        (["swap", "a.png", "absent/b.png"], "there is no file absent/b.png"),
        (["grid", "a.png", "--num_inference_steps", "0"], "--num_inference_steps.*at least 1"),
        (["grid", "a.png", "--num_inference_steps", "2.5"], "'2.5' is no whole number"),
        (["grid", "a.png", "--seed", "-1"], "--seed.*between 0 and"),
        (["traverse", "a.png", "--content", "-1"], "--content: must be at least 0"),
        (["traverse", "a.png", "--content", "0", "--values", "1,x"], "'1,x' is no list of numbers"),
        (["traverse", "a.png", "--content", "0", "--values", "0,nan"], "is no list of numbers"),
        (["reconstruct", "absent.safetensors"], "there is no file absent.safetensors"),
        (["reconstruct", "micro.safetensors"], "holds no codes"),
        (["reconstruct", "micro.safetensors", "a.png"], "one file of codes"),
        (["reconstruct", "other.safetensors"], "codes of another model"),
        (["traverse", "a.png", "--content", "0", "--component", "2"], "no component 2"),
        (["traverse", "a.png"], "--content --mask is required"),
        (["swop"], "invalid choice: 'swop'"),
        (["--frob"], "unknown argument --frob"),
    ],
)
def test_mistakes_are_one_line_and_leave_no_file(here, model, capsys, arguments, message):
    arguments = [argument.format(here=here.name) for argument in arguments]
    (here / "text.png").write_text("text")
    (here / "text.HEIC").write_text("text")
    (here / "half.png").write_bytes((here / "a.png").read_bytes()[:600])
    (here / "micro.safetensors").write_bytes((model / BASIS_FILE).read_bytes())
    FDAECodes(torch.ones(1, 2, 6), torch.ones(1, 2, 6)).save(here / "other.safetensors")
    (here / "empty").mkdir()
    before = set(here.iterdir())
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert re.search(message, error)
    assert set(here.iterdir()) == before


@pytest.mark.parametrize("flag", ["--num_inference_steps", "--num-inference-steps"])
def test_flags_may_stand_before_the_images_and_be_spelled_with_hyphens(here, flag):
    run(["swap", flag, "2", "--content", "0,1", "a.png", "b.png", "--keep-noise", "--output=first.png"])
    run(["swap", "a.png", "b.png", "--content", "1", "--content=0", "--keep_noise", flag, "2"])
    assert figure("first.png") == figure("swap.png")


def test_values_may_begin_with_a_minus(here):
    run(["traverse", "--values", "-3,-1.5e0,0", "a.png", "--content", "1", "--num_inference_steps", "1"])
    assert figure("traverse.png").width == LABEL_WIDTH + 3 * PITCH + GAP


def test_a_variant_of_the_weights_is_used(tmp_path, here):
    for seed, variant in ((0, None), (1, "ema")):
        micro_pipeline(seed).save_pretrained(tmp_path / "both", variant=variant)
    run(["encode", "a.png", "--model", "both", "--variant", "ema"])
    codes = FDAECodes.load("codes.safetensors")
    torch.testing.assert_close(codes.content, micro_pipeline(1).encode([read_image("a.png", 16)]).content)


def test_version_and_no_arguments_at_all(capsys):
    run([])
    shown = capsys.readouterr().out
    assert all(f"    {command.name}" in shown for command in COMMANDS)
    with pytest.raises(SystemExit) as stop:
        run(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"fdae {__version__}\n"


def test_every_command_names_what_exists():
    for command in COMMANDS:
        assert callable(load(command.function))
        assert command.config is None or is_dataclass(load(command.config))


def test_commands_and_scripts_name_a_model_by_the_same_flags():
    parser = argparse.ArgumentParser()
    model_flags(parser)
    flags = set(vars(parser.parse_args([])))
    assert flags == {field.name for field in fields(ModelConfig)}


def test_a_model_must_be_named(here, monkeypatch):
    monkeypatch.delenv("FDAE_MODEL")
    with pytest.raises(FDAEError, match=r"name a model.*FDAE_MODEL"):
        run(["masks", "a.png"])


def test_a_single_concept_has_no_grid(here, tmp_path):
    micro_pipeline(num_concepts=1).save_pretrained(tmp_path / "single")
    with pytest.raises(FDAEError, match="no swap grid"):
        run(["grid", "a.png", "--model", "single"])


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_help_of_every_command_has_examples(capsys, command):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"  fdae {command} " in capsys.readouterr().out


def test_metadata_of_codes_names_model_and_images(here, model):
    run(["encode", "a.png"])
    with safe_open("codes.safetensors", "pt") as file:
        assert file.metadata() == {"images": json.dumps(["a.png"]), "model": str(model)}


def test_images_are_refused_by_size_before_they_are_decoded_and_by_format(tmp_path):
    PIL.Image.new("1", (2_000, 1_500)).save(tmp_path / "large.png")
    with pytest.raises(FDAEError, match=r"large\.png has 2000 x 1500 pixels, more than 1 million"):
        read_image(tmp_path / "large.png", 16, max_pixels=1_000_000)
    with pytest.raises(FDAEError, match="no image of a known format"):
        read_image(tmp_path / "large.png", 16, formats=("JPEG",))
    assert read_image(tmp_path / "large.png", 16).size == (16, 16)


def test_results_are_single_pictures_in_the_format_of_their_suffix(here):
    swap = ["swap", "a.png", "b.png", "--num_inference_steps", "1"]
    run([*swap, "--content", "1", "--output_format", "images", "--output", "one.webp"])
    run([*swap, "--content", "1", "--output", "sheet.jpg"])
    run([*swap, "--output_format", "images", "--output", "each.png"])
    with PIL.Image.open("one.webp") as one, PIL.Image.open("sheet.jpg") as sheet:
        assert (one.format, one.size, sheet.format) == ("WEBP", (16, 16), "JPEG")
        np.testing.assert_array_equal(np.asarray(one), np.asarray(figure("each-1.png")))  # content of concept 1
    assert {path.name for path in here.glob("each*")} == {"each.png", *(f"each-{n}.png" for n in range(1, 6))}
    (here / "each.png").unlink()
    with pytest.raises(FDAEError, match=r"each-\d\.png exists already"):
        run([*swap, "--output_format", "images", "--output", "each.png"])


def test_interpolation_goes_from_the_image_to_the_donor_and_back(here):
    run(["interpolate", "a.png", "b.png", "--num_images", "4", "--num_inference_steps", "1"])
    flags = ["--num_images", "4", "--num_inference_steps", "1", "--output_format", "images", "--output", "way.png"]
    run(["interpolate", "a.png", "b.png", *flags])
    run(["reconstruct", "a.png", "b.png", "--num_inference_steps", "1", "--output_format", "images"])
    with PIL.Image.open("interpolate.gif") as animation:
        assert animation.n_frames == 6
        assert animation.size == (256, 256)
    np.testing.assert_array_equal(*(np.asarray(figure(name)) for name in ("way.png", "reconstruct.png")))
    np.testing.assert_array_equal(*(np.asarray(figure(name)) for name in ("way-3.png", "reconstruct-1.png")))


def test_folders_and_patterns_stand_for_their_pictures(here):
    (here / "photos").mkdir()
    for name in ("b.png", "a.png"):
        (here / "photos" / name).write_bytes((here / name).read_bytes())
    (here / "photos" / "notes.txt").write_text("text")
    for number, inputs in enumerate((["photos"], ["photos/?.png"])):
        run(["encode", *inputs, "--output", f"{number}.safetensors"])
        names = json.loads(FDAECodes.read_metadata(f"{number}.safetensors")["images"])
        assert names == ["photos/a.png", "photos/b.png"]


def test_a_minus_is_an_example_of_the_model(here, model, tmp_path):
    shutil.copytree(model, tmp_path / "with")
    save_examples([read_image(name, 16) for name in ("b.png", "a.png")], tmp_path / "with")
    flags = ["--num_inference_steps", "1", "--model", "with"]
    run(["swap", "-", "-", *flags, "--output", "examples.png"])
    run(["swap", "b.png", "a.png", *flags, "--output", "files.png"])
    assert figure("examples.png") == figure("files.png")
    run(["masks", "-", "--model", "with"])
    run(["masks", "b.png", "a.png", "--output", "named.png"])
    assert figure("masks.png") == figure("named.png")


def test_the_model_that_comes_with_the_package_serves_its_own_examples_alone(monkeypatch, tmp_path):
    monkeypatch.delenv("FDAE_MODEL", raising=False)
    monkeypatch.chdir(tmp_path)
    run(["encode", "-"])
    codes = FDAECodes.load("codes.safetensors")
    assert (len(codes), codes.num_concepts) == (8, 4)
