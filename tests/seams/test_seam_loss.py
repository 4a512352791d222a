"""A loss term that another package adds to the table is trained, logged, recorded, and listed by --help."""

import json

import pytest
import torch
from helpers.models import micro_pipeline
from helpers.training import assert_same_weights, config_for

from fdae_diffusers import FDAEObjective
from fdae_diffusers.errors import FDAEError
from fdae_diffusers.losses import LOSS_TERMS, LossTerm
from fdae_diffusers.training import TrainingConfig, train, trainer
from fdae_diffusers.utils.arguments import parse_config


@pytest.fixture(params=["images", "codes"])
def extra_term(request, monkeypatch) -> LossTerm:
    """Makes the content codes small; as a mean over images, and as a term over all codes."""
    term = LossTerm(
        lambda batch: batch.content_codes.square().mean(),
        weight=0.5,
        symbol="L_CN",
        title="Size of the content codes",
        over=request.param,
    )
    monkeypatch.setitem(LOSS_TERMS, "content_norm", term)
    return term


def gradients(**arguments) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Terms of the loss, and the gradient of every parameter."""
    pipeline = micro_pipeline()
    objective = FDAEObjective(pipeline.unet, pipeline.encoder, pipeline.scheduler, **arguments)
    generator = torch.Generator().manual_seed(0)
    output = objective(torch.rand(4, 3, 16, 16, generator=generator) * 2 - 1, generator)
    output.loss.backward()
    return output.terms, {name: parameter.grad for name, parameter in objective.named_parameters()}


@pytest.mark.parametrize("micro_batch_size", [None, 3])
def test_term_has_its_value_and_adds_its_gradient(extra_term, micro_batch_size):
    terms, with_term = gradients(micro_batch_size=micro_batch_size)
    _, without = gradients(loss_weights={"content_norm": 0.0})
    _, double = gradients(loss_weights={"content_norm": 1.0})
    assert terms["content_norm"] > 0
    name = "encoder.content_head.weight"
    added = with_term[name] - without[name]
    assert added.abs().max() > 0
    torch.testing.assert_close(double[name] - without[name], 2 * added, rtol=1e-3, atol=1e-6)


def test_term_is_trained_logged_and_recorded(extra_term, tmp_path, monkeypatch):
    logged: dict[str, float] = {}
    make_accelerator = trainer.make_accelerator

    def make_and_watch(config):
        accelerator = make_accelerator(config)
        monkeypatch.setattr(accelerator, "log", lambda values, step: logged.update(values))
        return accelerator

    monkeypatch.setattr(trainer, "make_accelerator", make_and_watch)
    train(config_for(tmp_path / "with"))
    assert logged["loss/content_norm"] > 0
    record = json.loads((tmp_path / "with" / "training.json").read_text())
    assert record["config"]["loss_weights"]["content_norm"] == 0.5
    train(config_for(tmp_path / "without", loss_weights={"content_norm": 0.0}))
    with pytest.raises(AssertionError):
        assert_same_weights(tmp_path / "with", tmp_path / "without")


def test_help_lists_the_term_and_flags_weigh_it(extra_term, capsys):
    with pytest.raises(SystemExit):
        parse_config(TrainingConfig, ["--help"])
    assert "content_norm 0.5 (L_CN)" in " ".join(capsys.readouterr().out.split())
    config = parse_config(TrainingConfig, ["--dataset_name", "x", "--loss_weights", '{"content_norm": 2}'])
    assert config.loss_weights["content_norm"] == 2
    assert config.loss_weights["mask_entropy"] == LOSS_TERMS["mask_entropy"].weight


def test_unknown_terms_are_refused_before_training():
    with pytest.raises(FDAEError, match="content_norm"):
        TrainingConfig(dataset_name="x", loss_weights={"content_norm": 1.0})


def test_a_term_that_is_no_number_stops_training_by_name(tmp_path, monkeypatch):
    term = LossTerm(
        lambda batch: batch.content_codes.sum() * torch.nan, weight=1.0, symbol="L_X", title="Not a number"
    )
    monkeypatch.setitem(LOSS_TERMS, "broken", term)
    with pytest.raises(FDAEError, match="loss/broken"):
        train(config_for(tmp_path))
