import json
import os
import sys

import pytest
import torch
from helpers.paths import TRAINING

from fdae_diffusers import CMFNet, FDAEPipeline, FDAEUNet2DModel
from fdae_diffusers.conversion.names import encoder_names, unet_names
from fdae_diffusers.utils.arguments import run_script

sys.path.insert(0, str(TRAINING))

import convert_official

ARGS = {"image_size": 16, "semantic_group_num": 2, "num_head_channels": 32, "lr": 1e-4}
UNET = {
    "sample_size": 16,
    "condition_channels": 8,
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "down_block_types": ("ResnetDownsampleBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "ResnetUpsampleBlock2D"),
    "attention_head_dim": 32,
}
ENCODER = {
    "sample_size": 16,
    "num_concepts": 2,
    "content_dim": 8,
    "mask_dim": 8,
    "condition_channels": 8,
    "backbone": "resnet18",
    "mask_decoder_channels": (32, 32, 32),
    "mask_decoder_norm": "released",
}


def released_tensor(state, name):
    """A tensor of ours as the released code holds it: q, k and v in one, attention as 1x1 convolutions."""
    parts = [state[name.replace(".qkv.", f".to_{part}.")] for part in "qkv"] if ".qkv." in name else [state[name]]
    tensor = torch.cat(parts) if len(parts) > 1 else parts[0]
    return tensor[..., None] if ".attentions." in name and tensor.ndim == 2 else tensor


@pytest.fixture(scope="module")
def state():
    """A checkpoint in the released form."""
    torch.manual_seed(0)
    states = {"unet": FDAEUNet2DModel(**UNET).state_dict(), "encoder": CMFNet(**ENCODER).state_dict()}
    names = {**unet_names(UNET), **encoder_names(ENCODER)}
    return {key: released_tensor(states[component], name) for key, (component, name) in names.items()}


@pytest.fixture(scope="module")
def released(state, tmp_path_factory):
    """The folder of a released training: a checkpoint and args.json."""
    folder = tmp_path_factory.mktemp("released")
    torch.save(state, folder / "model100000.pt")
    (folder / "args.json").write_text(json.dumps(ARGS))
    return folder


def run(monkeypatch, checkpoint, output, args=None):
    """Run the script with these flags."""
    flags = ["--checkpoint", str(checkpoint), "--output_dir", str(output)]
    flags += ["--args", str(args)] if args else []
    monkeypatch.setattr(sys, "argv", ["convert_official.py", *flags])
    run_script(convert_official.main)


def assert_refused(monkeypatch, capsys, tmp_path, checkpoint, message, args=None):
    """The script ends with one line that holds the message, and leaves nothing behind."""
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, checkpoint, tmp_path / "output", args)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_released_checkpoint_becomes_a_pipeline(released, state, monkeypatch, capsys, tmp_path):
    run(monkeypatch, released / "model100000.pt", tmp_path / "new" / "model")
    assert "2 concepts, 16x16 pixels" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["model"]
    pipeline = FDAEPipeline.from_pretrained(tmp_path / "new" / "model")
    assert torch.equal(pipeline.encoder.content_head.weight, state["semantic_decoder1.weight"])
    images = pipeline(torch.rand(1, 3, 16, 16), num_inference_steps=1, output_type="pt").images
    assert images.shape == (1, 3, 16, 16)
    assert images.isfinite().all()


def test_existing_model_is_not_overwritten(released, monkeypatch, capsys, tmp_path):
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "precious").write_text("")
    assert_refused(monkeypatch, capsys, tmp_path, released / "model100000.pt", "exists already")


def test_missing_checkpoint_is_named(released, monkeypatch, capsys, tmp_path):
    assert_refused(monkeypatch, capsys, tmp_path, released / "model200000.pt", "no checkpoint file")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{'image_size': 64}", "is not valid JSON"),
        (b"\xff\xfe\x00", "is not valid JSON"),
        (b"[64]", "must map names"),
        (None, "cannot read"),
        (
            json.dumps({**ARGS, "semantic_group_num": 6}).encode(),
            "have 2 concepts, args.json says semantic_group_num=6",
        ),
        (json.dumps({**ARGS, "image_size": 64}).encode(), "masks of size 16, args.json says image_size=64"),
        (json.dumps({**ARGS, "num_head_channels": 48}).encode(), "do not fit in the unet"),
        (json.dumps({**ARGS, "dropout": "high"}).encode(), "no model that can be built"),
    ],
)
def test_arguments_that_do_not_belong_to_the_weights_are_refused(
    released, monkeypatch, capsys, tmp_path, content, message
):
    if content is not None:
        (tmp_path / "args.json").write_bytes(content)
    assert_refused(monkeypatch, capsys, tmp_path, released / "model100000.pt", message, args=tmp_path / "args.json")


def test_arguments_of_train_sh_stand_in_for_missing_ones(released, monkeypatch, capsys, tmp_path):
    (tmp_path / "model100000.pt").symlink_to(released / "model100000.pt")
    assert_refused(monkeypatch, capsys, tmp_path, tmp_path / "model100000.pt", "args.json says image_size=64")


def test_truncated_checkpoint_is_refused(released, monkeypatch, capsys, tmp_path):
    whole = (released / "model100000.pt").read_bytes()
    for size in (0, 1000, len(whole) // 2):
        (tmp_path / "model.pt").write_bytes(whole[:size])
        assert_refused(monkeypatch, capsys, tmp_path, tmp_path / "model.pt", "truncated or not a checkpoint")


@pytest.mark.parametrize("content", [{"optimizer": {"step": 1}}, [1, 2], {1: torch.zeros(1)}])
def test_other_pickles_are_refused(monkeypatch, capsys, tmp_path, content):
    torch.save(content, tmp_path / "model.pt")
    assert_refused(monkeypatch, capsys, tmp_path, tmp_path / "model.pt", "not a flat state dict")


class Malicious:
    """Unpickles to a file called "executed"."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_code_in_a_pickle_is_not_executed(monkeypatch, capsys, tmp_path):
    torch.save({"weight": Malicious(tmp_path / "executed")}, tmp_path / "model.pt")
    assert_refused(monkeypatch, capsys, tmp_path, tmp_path / "model.pt", "mkdir instead of holding tensors")
    assert not (tmp_path / "executed").exists()
