"""Every training ends with the health of its model: printed, tracked, in its folder and in its card."""

import pytest
from helpers.training import config_for

from fdae_diffusers.health import HealthReport
from fdae_diffusers.training import train
from fdae_diffusers.training.trainer import Trainer


@pytest.fixture
def trackers(monkeypatch):
    """What is logged."""
    logged = {}
    start = Trainer.__init__

    def watched(self, *args):
        start(self, *args)
        log = self.accelerator.log
        monkeypatch.setattr(self.accelerator, "log", lambda values, **kw: (logged.update(values), log(values, **kw)))

    monkeypatch.setattr(Trainer, "__init__", watched)
    return logged


@pytest.mark.parametrize("use_ema", [False, True])
def test_health_is_measured_on_images_not_trained_on(tmp_path, capsys, trackers, use_ema):
    train(config_for(tmp_path, max_train_steps=2, use_ema=use_ema))
    names = ["health.ema.json", "health.json"] if use_ema else ["health.json"]
    assert sorted(path.name for path in tmp_path.glob("health*")) == names
    health = HealthReport.load(tmp_path / names[0])
    assert health.held_out
    assert (health.num_images, health.num_inference_steps, len(health.usage)) == (24, 2, 3)
    assert trackers["health/psnr"] == health.psnr
    assert trackers["health/num_alive"] == health.num_alive
    assert str(health) in capsys.readouterr().out
    card = (tmp_path / "README.md").read_text()
    assert "## Health" in card
    assert f"{health.psnr:.1f} dB PSNR" in card
    assert all(f"- {line}" in card for line in health.advice())
    assert health.advice()  # after two steps
