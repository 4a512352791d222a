"""The command in processes of its own: what it imports before it answers, and that models load in it all the same."""

import json
import os
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
from helpers.fake_hub import FakeHub
from helpers.models import micro_pipeline
from helpers.paths import ROOT

# What the console script does, after which it prints the modules that were imported.
COMMAND = """\
import atexit, sys
sys.argv[0] = "/somewhere/bin/fdae"
atexit.register(lambda: print("IMPORTED", *sorted({name.split(".")[0] for name in sys.modules})))
from fdae_diffusers.cli import main
main()
"""
HEAVY = {"torch", "diffusers", "transformers", "numpy", "scipy", "sklearn", "matplotlib", "huggingface_hub", "PIL"}


def python(code, *arguments, cwd=None, **environment):
    """The output of a program, its exit status and the modules that it said it imported."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    process = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    output, _, imported = process.stdout.partition("IMPORTED")
    return output + process.stderr, process.returncode, set(imported.split())


@pytest.mark.parametrize(
    ("arguments", "status", "answer"),
    [
        ([], 0, "COMMAND"),
        (["--help"], 0, "COMMAND"),
        (["--version"], 0, "fdae "),
        (["swap", "--help"], 0, "DONOR"),
        (["swop"], 2, "swop"),
        (["swap", "--contents", "1"], 2, "required"),
        (["masks", "absent.png", "--model", "m"], 2, "absent.png"),
        (["masks", "here.png", "--model", "m", "--output", "here.png"], 2, "here.png exists already"),
    ],
)
def test_help_and_mistakes_are_answered_without_heavy_imports(tmp_path, arguments, status, answer):
    (tmp_path / "here.png").touch()
    output, returned, imported = python(COMMAND, *arguments, cwd=tmp_path)
    assert returned == status
    assert answer in output
    assert "Traceback" not in output
    assert "argparse" in imported
    assert not imported & HEAVY


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("startup")
    micro_pipeline().save_pretrained(folder / "micro")
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)
    PIL.Image.fromarray(pixels).save(folder / "a.png")
    return folder


@pytest.mark.slow
def test_the_command_loads_a_model_from_a_folder_and_from_the_hub(folder, tmp_path):
    with FakeHub() as hub:
        hub.push("org/micro", folder / "micro")
        for model, output in (("micro", "folder.png"), ("org/micro", "hub.png")):
            arguments = ["masks", "a.png", "--model", model, "--output", output]
            answer, status, imported = python(COMMAND, *arguments, cwd=folder, **hub.environment(tmp_path))
            assert (status, answer) == (0, f"written to {output}\n")
            assert "torch" in imported
    assert (folder / "folder.png").read_bytes() == (folder / "hub.png").read_bytes()


@pytest.mark.slow
def test_diffusers_knows_our_classes_once_the_package_is_imported(folder):
    code = """\
import sys, fdae_diffusers, diffusers
print(type(diffusers.DiffusionPipeline.from_pretrained(sys.argv[1])).__name__)
"""
    output, status, _ = python(code, str(folder / "micro"))
    assert status == 0
    assert "FDAEPipeline" in output.splitlines()


@pytest.mark.slow
def test_the_package_imports_nothing_that_only_training_or_evaluation_needs():
    modules = "import sys; print('IMPORTED', *sys.modules)"
    libraries = "import diffusers.models.unets.unet_2d, diffusers.image_processor, diffusers.pipelines.pipeline_utils"
    schedulers = "from diffusers import DiffusionPipeline, EDMDPMSolverMultistepScheduler, EDMEulerScheduler"
    _, _, without = python(f"{libraries}\n{schedulers}\nfrom transformers import AutoBackbone, AutoConfig\n{modules}")
    _, status, imported = python(f"import fdae_diffusers\n{modules}")
    assert status == 0
    ours = {
        "sklearn",
        "scipy",
        "scipy.stats",
        "datasets",
        "pyarrow",
        "pandas",
        "matplotlib",
        "h5py",
        "joblib",
        "accelerate",
    }
    assert not (imported - without) & ours
    rooms = {"training", "evaluation", "studies", "metrics", "visualization", "conversion", "hub", "cli", "data"}
    assert not imported & {f"fdae_diffusers.{room}" for room in rooms}


@pytest.mark.slow
def test_evaluate_explains_itself(folder):
    output, status, _ = python(COMMAND, "evaluate", "--help", cwd=folder)
    assert status == 0
    assert "--num_train" in output
    assert json.dumps("fdae evaluate --model")[1:-1] in output
