"""The table of a model's files: every part of the package treats a file as its entry says."""

import json
import re

import pytest
from helpers.models import micro_pipeline
from helpers.paths import ROOT
from helpers.training import config_for

from fdae_diffusers.hub.card import write_model_card
from fdae_diffusers.hub.files import (
    BASIS_FILE,
    CARD_FILE,
    MODEL_FILES,
    TRAINING_FILE,
    ModelFile,
    component_folders,
    is_uploaded,
    variant_name,
)
from fdae_diffusers.hub.publish import publish
from fdae_diffusers.training import train
from fdae_diffusers.visualization.samples import make_figures
from pipelines.remote_code.export import export

OWN = ModelFile("report.png", "someone", outdated_by_training=True, caption="A picture of someone's own")
PRIVATE = ModelFile("notes.json", "someone", uploaded=False)
OLD = b"of the model before"


@pytest.fixture(scope="module", params=[[], [OWN, PRIVATE]], ids=["as it is", "with files of one's own"])
def run(request, tmp_path_factory):
    """A model trained into a folder that holds every file of the table, for two variants of its weights."""
    MODEL_FILES.extend(request.param)
    folder = tmp_path_factory.mktemp("run") / "run"
    folder.mkdir()
    for file in MODEL_FILES:
        (folder / file.name).write_bytes(OLD)
        if file.outdated_by_training:
            (folder / variant_name(file.name, "ema")).write_bytes(OLD)
    yield train(config_for(folder, max_train_steps=1))
    for file in request.param:
        MODEL_FILES.remove(file)


def test_training_deletes_what_describes_the_weights_before(run):
    left = {path.name for path in run.iterdir() if path.is_file() and path.read_bytes() == OLD}
    for file in MODEL_FILES:
        if file.outdated_by_training:
            assert not {file.name, variant_name(file.name, "ema")} & left
            is_made_again = file.made_by.startswith("train")
            assert (run / file.name).exists() == is_made_again
            assert not (run / variant_name(file.name, "ema")).exists()
        else:
            assert (run / file.name).exists()
            assert (file.name in left) == (file is PRIVATE)  # the others are new


def test_pictures_with_a_caption_are_shown_in_the_card(run):
    pictures = [file for file in MODEL_FILES if file.caption is not None]
    missing = [run / file.name for file in pictures if not (run / file.name).exists()]
    for path in missing:
        path.write_bytes(b"")
    content = write_model_card(run).read_text()
    for path in missing:
        path.unlink()
    for file in pictures:
        assert f"![{file.caption}]({file.name})" in content


def test_what_is_uploaded_is_what_an_export_copies(run, tmp_path):
    expected = {CARD_FILE}
    for file in MODEL_FILES:
        if file.outdated_by_training:
            for name in (file.name, variant_name(file.name, "ema")):
                (run / name).write_text("{}")
                expected.add(name)
        elif file.uploaded:
            expected.add(file.name)
    (run / "checkpoint-1").mkdir(exist_ok=True)
    (run / "checkpoint-1" / TRAINING_FILE).write_text("{}")
    publish(run, "org/name", tmp_path / "upload")
    assert {path.name for path in (tmp_path / "upload").iterdir()} == {*expected, *component_folders(run)}
    exported = export(run, tmp_path / "export")
    assert {path.name for path in exported.iterdir()} == {*expected, *component_folders(run), "pipeline.py"}


def test_pictures_of_a_training_are_in_the_table(images):
    pipeline = micro_pipeline()
    figures = make_figures(pipeline, pipeline(images[:2], num_inference_steps=1).images, 1, swap_grid=True)
    table = {file.name: file for file in MODEL_FILES}
    assert all(table[f"{name}.png"].caption and table[f"{name}.png"].made_by == "train" for name in figures)


def test_variant_has_files_of_its_own():
    assert variant_name(BASIS_FILE, "ema") == "code_basis.ema.safetensors"
    assert variant_name("metrics.json", None) == "metrics.json"
    assert is_uploaded("metrics.ema.json")
    assert not is_uploaded("README.ema.md")


def test_components_are_those_of_the_index(tmp_path):
    assert component_folders(tmp_path) == []
    micro_pipeline().save_pretrained(tmp_path)
    assert sorted(component_folders(tmp_path)) == ["encoder", "scheduler", "unet"]
    index = json.loads((tmp_path / "model_index.json").read_text())
    (tmp_path / "model_index.json").write_text(json.dumps({**index, "prior": [None, None]}))
    assert sorted(component_folders(tmp_path)) == ["encoder", "scheduler", "unet"]


def test_no_other_module_names_a_measured_file_itself():
    """Names are imported from the table; prose in docstrings and flags may repeat them."""
    names = [file.name for file in MODEL_FILES if file.outdated_by_training]
    literal = re.compile(rf"""^[^#]*["'](?:{"|".join(map(re.escape, names))})["']""", re.MULTILINE)
    sources = [
        path for folder in ("fdae_diffusers", "pipelines", "training") for path in (ROOT / folder).rglob("*.py")
    ]
    offenders = [path.relative_to(ROOT).as_posix() for path in sources if literal.search(path.read_text())]
    assert sorted(offenders) == ["fdae_diffusers/basis.py", "fdae_diffusers/hub/files.py"]
