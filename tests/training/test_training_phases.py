"""Settings that move during training."""

import pytest
from helpers.training import assert_same_weights, config_for

from fdae_diffusers import FDAEObjective
from fdae_diffusers.errors import FDAEError
from fdae_diffusers.training import train
from fdae_diffusers.training.phases import moving_settings

MOVES = {"p_mean": 1.0, "p_std": 1.6, "p_mean_end": -1.0, "p_std_end": 1.2, "move_start": 0.5, "move_end": 0.75}


def test_settings_hold_move_and_arrive(tmp_path):
    config = config_for(tmp_path, **MOVES, loss_weights_end={"mask_entropy": 1e-2})
    at = [moving_settings(config, fraction) for fraction in (0, 0.5, 0.625, 0.75, 1)]
    assert [settings["p_mean"] for settings in at] == [1, 1, 0, -1, -1]
    assert [settings["p_std"] for settings in at] == pytest.approx([1.6, 1.6, 1.4, 1.2, 1.2])
    assert [settings["loss_weights"]["mask_entropy"] for settings in at] == pytest.approx(
        [1e-4, 1e-4, 1e-3, 1e-2, 1e-2]
    )


def test_settings_without_an_end_stay(tmp_path):
    config = config_for(tmp_path, p_mean=0.5)
    expected = {"p_mean": 0.5, "p_std": config.p_std, "loss_weights": config.loss_weights}
    assert moving_settings(config, 1.0) == expected


def test_training_follows_them(tmp_path, monkeypatch):
    seen = []
    forward = FDAEObjective.forward

    def watched(self, *args, **kwargs):
        seen.append((self.p_mean, self.loss_weights["mask_entropy"]))
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(FDAEObjective, "forward", watched)
    settings = {
        **MOVES,
        "loss_weights_end": {"mask_entropy": 1e-2},
        "max_train_steps": 8,
        "gradient_accumulation_steps": 2,
    }
    train(config_for(tmp_path / "run", **settings))
    expected = [1, 1, 1, 1, 1, 0, -1, -1]
    assert [p_mean for p_mean, _ in seen] == pytest.approx([value for value in expected for _ in range(2)])
    assert seen[0][1] == pytest.approx(1e-4)
    assert seen[-1][1] == pytest.approx(1e-2)


def test_a_resumed_run_goes_on_with_the_settings_of_its_step(tmp_path):
    whole = train(config_for(tmp_path / "whole", **MOVES))
    part = config_for(tmp_path / "part", **MOVES, checkpointing_steps=4)
    train(part)
    for file in ("unet", "encoder"):
        (tmp_path / "part" / file / "diffusion_pytorch_model.safetensors").unlink()
    resumed = config_for(tmp_path / "part", **MOVES, resume_from_checkpoint=str(tmp_path / "part" / "checkpoint-4"))
    assert_same_weights(whole, train(resumed))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"move_start": 0.8, "move_end": 0.5}, "move_start < move_end"),
        ({"move_end": 1.5}, "move_start < move_end"),
        ({"p_std_end": 0.0}, "p_std_end must be positive"),
        ({"loss_weights": {"mask_entropy": 0.0}, "loss_weights_end": {"mask_entropy": 1e-3}}, "mask_entropy"),
        ({"loss_weights_end": {"entropy": 1e-3}}, "entropy"),
    ],
)
def test_impossible_moves_are_an_error(tmp_path, settings, message):
    with pytest.raises(FDAEError, match=message):
        config_for(tmp_path, **settings)
