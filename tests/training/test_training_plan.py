import re
from datetime import datetime

import pytest
import torch
from helpers.models import MICRO_ENCODER, MICRO_UNET
from helpers.training import config_for

from fdae_diffusers.errors import FDAEError
from fdae_diffusers.training import plan
from fdae_diffusers.training.plan import StepCost, plan_training


@pytest.fixture
def costs(monkeypatch):
    """Seconds of a step by resolution, instead of measured ones; the settings that were tried."""
    seconds, tried = {64: 0.5, 32: 0.1, 128: 2.0}, []

    def measure(config, device):
        tried.append(config)
        return StepCost(seconds[config.unet["sample_size"]], 1000)

    monkeypatch.setattr(plan, "measure_step", measure)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    return tried


def planned(tmp_path, minutes, num_images=500, resolution=None, fixed=(), **settings):
    config = config_for(tmp_path, unet={}, encoder={}, lr_warmup_steps=100, **settings)
    return plan_training(config, num_images, minutes, resolution, fixed)


@pytest.mark.parametrize(("minutes", "preset", "resolution"), [(60, "patch-64", 64), (5, "tiny-32", 32)])
def test_size_follows_the_time_and_the_run_fits_into_it(costs, tmp_path, minutes, preset, resolution):
    chosen = planned(tmp_path, minutes)
    assert (chosen.config.preset, chosen.resolution) == (preset, resolution)
    assert 0.95 * minutes * 60 < chosen.seconds <= minutes * 60
    assert chosen.config.unet["sample_size"] == chosen.config.encoder["sample_size"] == resolution


def test_a_resolution_sets_both_networks(costs, tmp_path):
    chosen = planned(tmp_path, 5, resolution=128)
    assert [config.preset for config in costs] == ["patch-64"]
    assert chosen.config.unet["sample_size"] == chosen.config.encoder["sample_size"] == 128
    with pytest.raises(FDAEError, match="multiple of 16, not 50"):
        planned(tmp_path, 5, resolution=50)


def test_what_is_given_stays(costs, tmp_path):
    settings = {"preset": "tiny-32", "max_train_steps": 77, "train_batch_size": 3}
    chosen = planned(tmp_path, 60, fixed=set(settings), **settings)
    assert {name: getattr(chosen.config, name) for name in settings} == settings
    assert chosen.epochs == pytest.approx(77 * 3 / 500)


def test_a_size_that_does_not_fit_into_memory_is_passed_over(costs, tmp_path, monkeypatch):
    measure = plan.measure_step

    def full(config, device):
        if config.preset == "patch-64":
            raise torch.OutOfMemoryError
        return measure(config, device)

    monkeypatch.setattr(plan, "measure_step", full)
    assert planned(tmp_path, 60).config.preset == "tiny-32"
    with pytest.raises(FDAEError, match="too little memory"):
        planned(tmp_path, 60, resolution=64)


def test_description_tells_the_end_and_what_is_short(costs, tmp_path):
    told = planned(tmp_path, 2, num_images=20).describe(datetime(2026, 1, 1, 12, 0))
    assert "12:02" in told
    assert "1,000 parameters" in told
    assert "--minutes" in told
    assert "few pictures" in told
    assert "few pictures" not in planned(tmp_path, 2).describe(datetime(2026, 1, 1))


def test_a_step_is_measured_on_the_networks_and_leaves_random_numbers_alone(tmp_path):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    cost = plan.measure_step(config_for(tmp_path), torch.device("cpu"))
    assert torch.equal(torch.get_rng_state(), before)
    assert 0 < cost.seconds < 10
    assert cost.parameters > 1000


@pytest.mark.parametrize("minutes", [0, -1, float("nan")])
def test_a_time_is_positive(tmp_path, minutes):
    with pytest.raises(FDAEError, match="minutes must be positive"):
        planned(tmp_path, minutes)


def test_networks_of_ones_own_keep_their_resolution(tmp_path):
    config = config_for(tmp_path, unet=MICRO_UNET, encoder=MICRO_ENCODER)
    assert plan_training(config, 40, 0.01, fixed={"preset"}).resolution == 16


def test_numbers_of_the_plan_agree(costs, tmp_path):
    chosen = planned(tmp_path, 30)
    steps = re.search(r"training +([\d,]+) steps", chosen.describe(datetime(2026, 1, 1)))
    assert steps
    assert int(steps[1].replace(",", "")) == chosen.config.max_train_steps
    assert chosen.config.validation_steps < chosen.config.max_train_steps
