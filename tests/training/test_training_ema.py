"""Averaged weights: what the average is, and that it is saved, drawn from, resumed and found by other scripts."""

import copy

import pytest
import torch
from diffusers import DiffusionPipeline
from helpers.models import MICRO_UNET, micro_pipeline
from helpers.training import assert_same_weights, config_for
from safetensors.torch import load_file

from fdae_diffusers import FDAEPipeline
from fdae_diffusers.errors import FDAEError
from fdae_diffusers.hub.loading import load_pipeline
from fdae_diffusers.training import train
from fdae_diffusers.training.ema import ModelAverage


def norm_model() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))


def change(model):
    """Another value of every parameter and of the batch statistics."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    model(torch.randn(8, 3))


def test_average_of_parameters_and_batch_statistics_is_the_formula():
    model = norm_model()
    average = ModelAverage(model, decay=0.15)
    expected = None
    for t in range(4):
        change(model)
        average.step()
        decay = min(0.15, (1 + t) / (10 + t)) if t else 0  # 2/11 is past 0.15 already
        state = {name: value.clone() for name, value in model.state_dict().items()}
        expected = state if t == 0 else {n: decay * expected[n] + (1 - decay) * state[n] for n in state}
    with average.applied():
        averaged = {name: value.clone() for name, value in model.state_dict().items()}
    assert averaged.pop("1.num_batches_tracked") == 4
    for name, value in averaged.items():
        torch.testing.assert_close(value, expected[name])
        assert not torch.equal(value, state[name])


def test_model_gets_its_own_values_back_also_after_an_error():
    model = norm_model()
    average = ModelAverage(model, decay=0.9)
    change(model)
    average.step()
    change(model)
    before = copy.deepcopy(model.state_dict())
    seen = []

    def fail():
        with average.applied():
            seen.append(model[0].weight.clone())
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fail()
    assert not torch.equal(seen[0], before["0.weight"])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_average_survives_saving(tmp_path):
    one, other = norm_model(), norm_model()
    average, restored = ModelAverage(one, decay=0.9), ModelAverage(other, decay=0.9)
    for _ in range(3):
        change(one)
        average.step()
    average.save(tmp_path)
    restored.load(tmp_path)
    other.load_state_dict(one.state_dict())
    average.step()  # also continues from the same place of the warm-up
    restored.step()
    with average.applied(), restored.applied():
        assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_training_saves_the_average_as_a_variant_and_learns_the_same(tmp_path):
    train(config_for(tmp_path / "plain", validation_steps=2))
    output_dir = train(config_for(tmp_path / "averaged", validation_steps=2, use_ema=True))
    assert_same_weights(tmp_path / "plain", output_dir)
    for loads in (FDAEPipeline, DiffusionPipeline):
        plain, averaged = loads.from_pretrained(output_dir), loads.from_pretrained(output_dir, variant="ema")
        for component in ("unet", "encoder"):
            state = getattr(averaged, component).state_dict()
            saved = load_file(output_dir / component / "diffusion_pytorch_model.ema.safetensors")
            assert all(torch.equal(state[name], saved[name]) for name in saved)
            floats = [name for name, value in saved.items() if value.is_floating_point()]
            other = getattr(plain, component).state_dict()
            assert any("running_mean" in name for name in floats) == (component == "encoder")
            assert not any(torch.equal(state[name], other[name]) for name in floats if "running" in name)
            assert any(not torch.equal(state[name], other[name]) for name in floats)
    assert 'variant="ema"' in (output_dir / "README.md").read_text()
    assert 'variant="ema"' not in (tmp_path / "plain" / "README.md").read_text()


def test_pictures_show_the_averaged_weights(tmp_path):
    for name, use_ema in (("plain", False), ("averaged", True)):
        train(config_for(tmp_path / name, validation_steps=3, learning_rate=0.1, use_ema=use_ema))
    for name in ("samples/step-000003/reconstructions.png", "reconstructions.png"):
        assert (tmp_path / "averaged" / name).read_bytes() != (tmp_path / "plain" / name).read_bytes()


@pytest.mark.parametrize("stop", [3, 7])
def test_resume_goes_on_with_the_average_and_the_dropout(tmp_path, stop):
    settings = {
        "unet": {**MICRO_UNET, "dropout": 0.3},
        "use_ema": True,
        "ema_decay": 0.5,
        "max_train_steps": 9,
        "gradient_accumulation_steps": 2,
    }
    train(config_for(tmp_path / "whole", **settings, checkpointing_steps=stop))
    settings["resume_from_checkpoint"] = str(tmp_path / "whole" / f"checkpoint-{stop}")
    train(config_for(tmp_path / "resumed", **settings))
    assert_same_weights(tmp_path / "whole", tmp_path / "resumed")
    for component in ("unet", "encoder"):
        name = f"{component}/diffusion_pytorch_model.ema.safetensors"
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "resumed" / name).read_bytes()


def test_checkpoints_made_before_a_setting_existed_are_resumed_with_its_default(tmp_path):
    config = config_for(tmp_path)
    saved = {name: value for name, value in vars(config).items() if name != "use_ema"}
    config.check_resumes(saved)
    with pytest.raises(FDAEError, match="use_ema=False"):
        config_for(tmp_path, use_ema=True).check_resumes(saved)


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_decay_out_of_range_is_refused(tmp_path, decay):
    with pytest.raises(FDAEError, match="ema_decay must be"):
        config_for(tmp_path, ema_decay=decay)


def test_a_script_loads_the_variant_or_says_that_there_is_none(tmp_path):
    micro_pipeline(seed=0).save_pretrained(tmp_path)
    with pytest.raises(FDAEError, match="ema"):
        load_pipeline(str(tmp_path), variant="ema")
    averaged = micro_pipeline(seed=1)
    averaged.save_pretrained(tmp_path, variant="ema")
    loaded = load_pipeline(str(tmp_path), device="cpu", variant="ema")
    assert torch.equal(loaded.unet.conv_out.weight, averaged.unet.conv_out.weight)
    assert not torch.equal(
        load_pipeline(str(tmp_path), device="cpu").unet.conv_out.weight, averaged.unet.conv_out.weight
    )
