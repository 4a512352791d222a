import importlib
import json
import os
import subprocess
import sys

import huggingface_hub
import pytest
import torch
from diffusers import DiffusionPipeline, EDMEulerScheduler
from helpers.fake_hub import FakeHub
from helpers.models import micro_pipeline
from helpers.paths import ROOT

from fdae_diffusers.errors import FDAEError

sys.path.insert(0, str(ROOT / "pipelines" / "remote_code"))

import export as export_script
from export import export
from flatten import FlattenError, flatten

# Run by another process, in which the package cannot be imported.
WORKER = """
import json, sys

class Hidden:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.split(".")[0] == "fdae_diffusers":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Hidden)
import torch
from diffusers import DiffusionPipeline

torch.set_num_threads(1)
images = torch.load(sys.argv[1])
for job in json.loads(sys.argv[2]):
    pipeline = DiffusionPipeline.from_pretrained(job["model"], trust_remote_code=True, **job.get("options", {}))
    pipeline.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": 2, "output_type": "pt"}
    output = pipeline(images, generator=torch.Generator().manual_seed(0), **options)
    swapped = pipeline.swap(
        images[:1], images[1:2], content="all", mask=[0], generator=torch.Generator().manual_seed(0), **options
    )
    torch.save({"images": output.images, "masks": output.masks, "swapped": swapped}, job["result"])
    if "save" in job:
        pipeline.save_pretrained(job["save"])
assert "fdae_diffusers" not in sys.modules
"""


def reference(images, seed):
    """What the worker should find, computed with the package."""
    pipeline = micro_pipeline(seed)
    options = {"num_inference_steps": 2, "output_type": "pt"}
    output = pipeline(images, generator=torch.Generator().manual_seed(0), **options)
    swapped = pipeline.swap(
        images[:1], images[1:2], content="all", mask=[0], generator=torch.Generator().manual_seed(0), **options
    )
    return {"images": output.images, "masks": output.masks, "swapped": swapped}


def run_without_package(jobs, images, home, environment):
    """Load models, reconstruct and swap images in another process; return its results, one a job."""
    home.mkdir()
    torch.save(images, home / "images.pt")
    for i, job in enumerate(jobs):
        job["result"] = str(home / f"{i}.pt")
    variables = {**os.environ, "HF_HOME": str(home), "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, "-c", WORKER, str(home / "images.pt"), json.dumps(jobs)]
    finished = subprocess.run(command, env=variables, cwd=home, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr
    assert "Expected types" not in finished.stderr
    return [torch.load(job["result"]) for job in jobs]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A training's output folder: the pipeline in two variants, a card, and a checkpoint that is nobody's business."""
    folder = tmp_path_factory.mktemp("model")
    micro_pipeline(0).save_pretrained(folder)
    micro_pipeline(1).save_pretrained(folder, variant="ema")
    (folder / "README.md").write_text("card")
    (folder / "checkpoint-10").mkdir()
    (folder / "checkpoint-10" / "optimizer.bin").write_text("large")
    return folder


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    return export(model, tmp_path_factory.mktemp("exported") / "model")


def test_export_holds_model_and_code_only(exported):
    files = {path.relative_to(exported).as_posix() for path in exported.rglob("*") if path.is_file()}
    assert {path for path in files if not path.endswith(".safetensors")} == {
        "README.md",
        "encoder/config.json",
        "encoder/fdae_encoder.py",
        "model_index.json",
        "pipeline.py",
        "scheduler/fdae_scheduler.py",
        "scheduler/scheduler_config.json",
        "unet/config.json",
        "unet/fdae_unet.py",
    }
    assert "unet/diffusion_pytorch_model.ema.safetensors" in files
    index = json.loads((exported / "model_index.json").read_text())
    assert index["_class_name"] == ["pipeline", "FDAEPipeline"]
    assert index["encoder"] == ["fdae_encoder", "CMFNet"]


def test_export_loads_saves_and_loads_again_without_the_package(exported, images, tmp_path):
    home = tmp_path / "home"
    on_hub, branch = "org/fdae-micro", {"revision": "remote-code"}
    loaded = [
        {"model": str(exported), "save": str(tmp_path / "saved-from-folder")},
        {"model": on_hub, "options": branch, "save": str(tmp_path / "saved-from-hub")},
        {"model": on_hub, "options": {**branch, "variant": "ema"}},
    ]
    with FakeHub() as hub:
        hub.push(on_hub, exported, branch="remote-code")
        results = run_without_package(loaded, images, home, hub.environment(home))
    # The code of a repository's name is looked up on the Hub even so; the folder of its download needs no network.
    (download,) = home.glob("hub/models--org--fdae-micro/snapshots/*")
    again = [{"model": str(model)} for model in (loaded[0]["save"], loaded[1]["save"], download)]
    results += run_without_package(again, images, tmp_path / "other-home", {"HF_HUB_OFFLINE": "1"})
    for result, seed in zip(results, (0, 0, 1, 0, 0, 0), strict=True):
        for name, expected in reference(images, seed).items():
            torch.testing.assert_close(result[name], expected, atol=1e-3, rtol=0)


def test_code_runs_only_if_it_is_trusted(exported):
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        DiffusionPipeline.from_pretrained(exported)


def test_components_of_diffusers_need_no_code(tmp_path):
    pipeline = micro_pipeline(0)
    pipeline.scheduler = EDMEulerScheduler()
    pipeline.save_pretrained(tmp_path / "model")
    exported = export(tmp_path / "model", tmp_path / "exported")
    assert json.loads((exported / "model_index.json").read_text())["scheduler"] == ["diffusers", "EDMEulerScheduler"]
    assert not list((exported / "scheduler").glob("*.py"))


def test_script_exports_a_model_of_the_hub(model, exported, tmp_path, monkeypatch, capsys):
    flags = ["--model", "org/fdae-micro", "--output_dir", str(tmp_path / "output")]
    with FakeHub() as hub:
        hub.connect(monkeypatch, cache=tmp_path / "cache")
        monkeypatch.setattr("sys.argv", ["export.py", *flags])
        with pytest.raises(FDAEError, match="no model org/fdae-micro"):
            export_script.main()
        hub.push("org/fdae-micro", model)
        with pytest.raises(FDAEError, match="no revision 'v9'"):
            export("org/fdae-micro", tmp_path / "output", revision="v9")
        export_script.main()
        huggingface_hub.close_session()
    assert str(tmp_path / "output") in capsys.readouterr().out
    for path in exported.rglob("*.*"):
        copy = tmp_path / "output" / path.relative_to(exported)
        assert copy.read_bytes() == path.read_bytes()
        assert not copy.is_symlink()


def test_export_writes_nothing_for_what_is_no_model(exported, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FDAEError, match="no pipeline"):
        export(tmp_path / "empty", tmp_path / "output")
    with pytest.raises(FDAEError, match="no FDAE pipeline without code"):
        export(exported, tmp_path / "output")
    with pytest.raises(FDAEError, match="exists already"):
        export(exported, exported)
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("from fdae_diffusers.codes import FDAECodes as Codes", "cannot follow"),
        ("from fdae_diffusers.codes import *", "cannot follow"),
        ("import fdae_diffusers.codes", "import names from"),
        ("import torch.nn", "or give it a name"),
        ("from fdae_diffusers.codes import FDAECodes\nimport json as torch", "'torch' is json"),
        ("def f():\n    from fdae_diffusers.codes import FDAECodes", "inside of a function"),
        ("import json\njson = 1", "both imported and defined"),
        ("from fdae_diffusers.codes import FDAECodes\nConcepts = 1", "'Concepts' is defined by"),
    ],
)
def test_sources_that_do_not_fit_into_one_file_are_refused(tmp_path, text, message):
    (tmp_path / "source.py").write_text(text)
    with pytest.raises(FlattenError, match=message):
        flatten(tmp_path / "source.py", "source")


def test_flattened_file_keeps_comments_and_needs_no_package(tmp_path, monkeypatch):
    (tmp_path / "source.py").write_text(
        '"""Docstring."""\n\nfrom fdae_diffusers.codes import FDAECodes\n\n\n# A comment.\nEMPTY = FDAECodes\n'
    )
    text = flatten(tmp_path / "source.py", "source")
    assert text.startswith('"""Docstring.\n"""\n')
    assert text.endswith("\n\n\n# A comment.\nEMPTY = FDAECodes\n")
    assert "import fdae_diffusers" not in text
    assert "from fdae_diffusers" not in text

    (tmp_path / "flattened_codes.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    codes = importlib.import_module("flattened_codes").FDAECodes(torch.zeros(1, 2, 3))
    assert type(codes).__module__ == "flattened_codes"
    assert codes.num_concepts == 2
