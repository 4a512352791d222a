import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers.paths import ROOT

pytest.importorskip("onnxruntime", reason="needs the packages of pip install .[export]")
pytest.importorskip("onnxscript", reason="needs the packages of pip install .[export]")
pytest.importorskip("onnx", reason="needs the packages of pip install .[export]")

import onnx
from helpers.exported import exportable_pipeline, exported_micro, random_pictures
from helpers.models import MICRO_ENCODER

from fdae_diffusers import CMFNet
from fdae_diffusers.errors import FDAEError
from fdae_diffusers.export import OnnxPipeline
from fdae_diffusers.export import onnx as export_module
from fdae_diffusers.export.material import describe_model, example_pictures
from fdae_diffusers.export.networks import Network, networks, store_in_half_precision
from fdae_diffusers.export.onnx import Bounds, export_onnx


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    return exported_micro(tmp_path_factory).pipeline


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return exported_micro(tmp_path_factory).report


@pytest.fixture(scope="module")
def exported(report):
    return OnnxPipeline(report.folder, num_threads=1)


def test_codes_and_masks_are_those_of_torch(pipeline, exported):
    images = [*random_pictures(3), random_pictures(1, size=40)[0].convert("RGBA").resize((50, 30))]
    wanted, given = pipeline.encode(images), exported.encode(images)
    np.testing.assert_allclose(given.content, wanted.content.numpy(), atol=1e-5)
    np.testing.assert_allclose(given.mask, wanted.mask.numpy(), atol=1e-5)
    np.testing.assert_allclose(exported.decode_masks(given), pipeline.decode_masks(wanted).numpy(), atol=1e-5)


@pytest.mark.parametrize("num_steps", [2, 10])
def test_samples_are_those_of_torch(pipeline, exported, num_steps):
    images = random_pictures(3)
    latents = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    wanted = pipeline(images, num_inference_steps=num_steps, latents=latents, output_type="np").images
    given = exported(images, num_inference_steps=num_steps, latents=latents.numpy(), output_type="np")
    assert -10 * np.log10(np.square(given - wanted).mean()) > 50


def test_a_swap_is_that_of_torch(pipeline, exported):
    a, b = random_pictures(2)
    latents = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    (wanted,) = pipeline.swap(a, b, content=[1], mask=[0, 2], latents=latents, num_inference_steps=4)
    (given,) = exported.swap(a, b, content=[1], mask=[0, 2], latents=latents.numpy(), num_inference_steps=4)
    assert np.abs(np.asarray(given, int) - np.asarray(wanted, int)).max() <= 1


def test_the_report_tells_errors_within_the_bounds(report):
    assert set(report.errors) == {"encoder", "decoder", "unet"}
    assert max(report.errors.values()) < 1e-4
    assert report.psnr > 50
    assert f"{report.psnr:.1f} dB" in str(report)


def test_the_networks_use_no_operator_that_webgpu_lacks(report):
    for part in ("encoder", "decoder", "unet"):
        model = onnx.load(report.folder / f"{part}.onnx")
        assert not model.functions
        assert {node.domain for node in model.graph.node} == {""}
        assert not {node.op_type for node in model.graph.node} & {"GroupNormalization", "Loop", "If", "Scan"}
        assert model.opset_import[0].version == 18


def test_the_description_holds_basis_examples_and_how_well_they_are_rebuilt(report, pipeline):
    description = json.loads((report.folder / "model.json").read_text())
    assert (description["title"], description["knows"]) == ("Micro", "noise")
    assert len(description["examples"]) == 12
    assert all((report.folder / name).is_file() for name in description["examples"])
    assert np.shape(description["basis"]["mask"]["components"]) == (3, 2, 6)
    psnr = description["reconstruction_psnr"]
    assert psnr["foreign_below"] < psnr["typical"] - 5


def test_the_copied_program_runs_without_torch_and_without_the_package(report, exported):
    code = """
import sys, numpy as np
from fdae_onnx import OnnxPipeline
pipe = OnnxPipeline(".")
images = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), np.uint8)
print(pipe(images, num_inference_steps=2, output_type="np").mean())
assert not {"torch", "diffusers", "fdae_diffusers"} & set(sys.modules)
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=report.folder, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    images = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), np.uint8)
    assert float(run.stdout) == pytest.approx(exported(images, num_inference_steps=2, output_type="np").mean(), 1e-5)


def test_codes_of_another_model_are_refused(exported):
    codes = exported.encode(random_pictures(1))
    with pytest.raises(ValueError, match="another model"):
        exported(codes=type(codes)(codes.content[..., :3], codes.mask))
    with pytest.raises(ValueError, match=r"\(B, 16, 16, 3\)"):
        exported.encode(np.zeros((2, 8, 8, 3), np.uint8))


def test_a_damaged_network_is_refused(report, tmp_path):
    for file in report.folder.iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "unet.onnx").write_bytes(bytes((tmp_path / "unet.onnx").stat().st_size))
    with pytest.raises(ValueError, match=r"unet\.onnx"):
        OnnxPipeline(tmp_path)


def test_half_precision_halves_the_weights_and_changes_little(report):
    model = onnx.load(report.folder / "decoder.onnx")
    before, codes = model.ByteSize(), np.random.default_rng(0).standard_normal((2, 3, 6)).astype(np.float32)
    store_in_half_precision(model)
    onnx.checker.check_model(model)
    assert model.ByteSize() < before
    runs = [
        export_module.runtime.onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"]).run(
            None, {"content": codes, "mask": codes}
        )
        for source in (str(report.folder / "decoder.onnx"), model.SerializeToString())
    ]
    np.testing.assert_allclose(runs[0][0], runs[1][0], atol=1e-2)
    assert np.abs(runs[0][0] - runs[1][0]).max() > 0


def test_a_single_concept_model_has_no_mask_codes(tmp_path):
    parts = networks(exportable_pipeline(num_concepts=1))
    assert list(parts["encoder"].outputs) == list(parts["decoder"].inputs) == ["content"]
    onnx.save(parts["decoder"].to_onnx(), tmp_path / "decoder.onnx")
    assert parts["decoder"].largest_error(tmp_path / "decoder.onnx") < 1e-4


def test_a_model_conditions_on_what_it_likes():
    class Tokens(CMFNet):
        def condition(self, codes, masks=None):
            return {**super().condition(codes, masks), "tokens": codes.content}

    pipeline = exportable_pipeline()
    pipeline.encoder = Tokens(**MICRO_ENCODER).eval()
    parts = networks(pipeline)
    assert list(parts["decoder"].outputs) == ["masks", "condition_map", "tokens"]
    assert list(parts["unet"].inputs) == ["sample", "c_noise", "condition_map", "tokens"]


def test_an_export_above_its_bound_leaves_nothing(pipeline, report, tmp_path, monkeypatch):
    # Networks as exported before: tracing takes its time.
    traced = {part.outputs[0]: onnx.load(report.folder / f"{name}.onnx") for name, part in networks(pipeline).items()}
    monkeypatch.setattr(Network, "to_onnx", lambda self: traced[self.outputs[0]])
    monkeypatch.setitem(export_module.BOUNDS, "fp32", Bounds(error=1e-12, psnr=50))
    with pytest.raises(FDAEError, match="exported"):
        export_onnx(pipeline, tmp_path / "micro")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_exists_is_refused_before_any_work(pipeline, report):
    with pytest.raises(FDAEError, match="exists already"):
        export_onnx(pipeline, report.folder)


def test_example_pictures_are_those_of_the_folder_in_order(tmp_path):
    for name, picture in zip(("b", "a"), random_pictures(2), strict=True):
        picture.save(tmp_path / f"{name}.png")
    first, second = example_pictures("nowhere", 16, str(tmp_path))
    np.testing.assert_array_equal(second, random_pictures(2)[0])
    assert first.size == (16, 16)
    (tmp_path / "a.png").unlink()
    with pytest.raises(FDAEError, match="two at least"):
        example_pictures("nowhere", 16, str(tmp_path))
    with pytest.raises(FDAEError, match="not both"):
        example_pictures("nowhere", 16, str(tmp_path), "shapes3d-rendered")


def test_a_model_is_described_by_its_training_data_unless_told(tmp_path):
    shipped = str(ROOT / "model_cards" / "fdae-shapes3d-rendered-32")
    assert "rooms" in describe_model(shipped)["knows"]
    assert describe_model(shipped, title="Mine", knows="this") == {"title": "Mine", "knows": "this"}
    (tmp_path / "training.json").write_text(json.dumps({"config": {"dataset_name": str(tmp_path)}}))
    assert str(tmp_path.parent) not in str(describe_model(str(tmp_path)))
