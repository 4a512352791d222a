"""`fdae check`, and what other commands say of pictures unlike the model's own."""

import json

import numpy as np
import PIL.Image
import pytest
from helpers.models import micro_pipeline

from fdae_diffusers.cli.check import choose_paths, image_paths
from fdae_diffusers.cli.main import run
from fdae_diffusers.errors import FDAEError
from fdae_diffusers.health import measure_health


@pytest.fixture(scope="module")
def health(images_of):
    return measure_health(micro_pipeline(), images_of, num_inference_steps=1)


@pytest.fixture(scope="module")
def images_of():
    return np.random.default_rng(0).random((4, 16, 16, 3))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with pictures in two folders, which is the current one, and a model in the environment."""
    pipeline = micro_pipeline()
    pipeline.register_to_config(num_inference_steps=2)
    pipeline.save_pretrained(tmp_path / "model")
    generator = np.random.default_rng(0)
    for name in ("a.png", "photos/b.png", "photos/more/c.JPG", "photos/d.webp"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(generator.integers(0, 256, (20, 24, 3), np.uint8)).save(tmp_path / name)
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FDAE_MODEL", "model")
    return tmp_path


def write_health(health, psnr_low):
    """Say how badly the model does on its own pictures, at worst."""
    values = health.to_dict() | {"psnr": psnr_low + 2, "psnr_low": psnr_low}
    with open("model/health.json", "w") as file:
        json.dump(values, file)


def test_images_are_files_and_those_in_folders(here):
    assert list(image_paths(["a.png", "photos"])) == ["a.png", "photos/b.png", "photos/d.webp", "photos/more/c.JPG"]
    (here / "empty").mkdir()
    with pytest.raises(FDAEError, match="empty"):
        list(image_paths(["empty"]))
    chosen = choose_paths([str(number) for number in range(50)], 10)
    assert len(set(chosen)) == 10
    assert chosen == sorted(chosen, key=int)


def test_check_prints_health_and_writes_only_where_it_is_told(here, health, capsys):
    (here / "photos" / "broken.png").write_bytes(b"no image")
    run(["check", "a.png", "photos"])
    printed = capsys.readouterr().out
    assert "health on 4 images" in printed
    assert "1 of 5 files" in printed
    assert "no health.json" in printed
    assert not list(here.rglob("health.json"))

    write_health(health, psnr_low=90)
    before = (here / "model" / "health.json").read_bytes()
    run(["check", "a.png", "photos", "--output", "result.json"])
    printed = capsys.readouterr().out
    assert "4 of 4 pictures are unlike" in printed
    assert "photos/d.webp is unlike" in printed
    assert json.loads((here / "result.json").read_text())["num_images"] == 4
    for output in ("result.json", "model/health.json"):
        with pytest.raises(FDAEError, match="exists"):
            run(["check", "a.png", "photos", "--output", output])
    assert (here / "model" / "health.json").read_bytes() == before


def test_named_files_have_to_be_images(here):
    (here / "broken.png").write_bytes(b"no image")
    with pytest.raises(FDAEError, match=r"broken\.png"):
        run(["check", "a.png", "broken.png"])
    with pytest.raises(FDAEError, match="no file"):
        run(["check", "nothing.png"])


@pytest.mark.parametrize(
    "command",
    [["masks", "a.png"], ["reconstruct", "a.png"], ["swap", "a.png", "photos/b.png"], ["grid", "a.png"]],
    ids=lambda command: command[0],
)
@pytest.mark.parametrize("foreign", [True, False])
def test_commands_tell_foreign_pictures_in_a_line_each(here, health, capsys, command, foreign):
    write_health(health, psnr_low=90 if foreign else 0)
    run([*command, "--output", "out.png"])
    told = [line for line in capsys.readouterr().err.splitlines() if "expect nonsense" in line]
    assert [line.split()[0] for line in told] == (command[1:] if foreign else [])
