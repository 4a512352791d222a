"""Networks of other classes, with a conditioning of their own, are trained, saved and loaded as what they are."""

import functools
import json

import pytest
import torch
from diffusers import ModelMixin  # noqa: F401  (diffusers looks it up in the module of a component)
from helpers.models import MICRO_ENCODER, MICRO_UNET, micro_pipeline
from helpers.processes import end, start_together
from helpers.training import assert_same_weights, config_for
from torch import nn

from fdae_diffusers import CMFNet, FDAECodes, FDAEPipeline, FDAEUNet2DModel
from fdae_diffusers.errors import FDAEError
from fdae_diffusers.training import train


class TokenEncoder(CMFNet):
    """Gives the U-Net the content codes too, as one token per concept."""

    def condition(self, codes: FDAECodes, masks: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        return {**super().condition(codes, masks), "tokens": codes.content}


class TokenUNet(FDAEUNet2DModel):
    """Adds a projection of the tokens to the condition map."""

    @functools.wraps(FDAEUNet2DModel.__init__)  # its arguments are the configuration
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.token_projection = nn.Linear(MICRO_ENCODER["content_dim"], MICRO_UNET["condition_channels"])

    def forward(self, sample, timestep, condition_map, tokens, return_dict=True):
        added = self.token_projection(tokens.mean(dim=1))[:, :, None, None]
        return super().forward(sample, timestep, condition_map + added, return_dict)


def token_networks() -> tuple[TokenUNet, TokenEncoder]:
    torch.manual_seed(0)
    return TokenUNet(**MICRO_UNET), TokenEncoder(**MICRO_ENCODER)


def assert_saved_as_token_networks(folder):
    pipeline = FDAEPipeline.from_pretrained(folder)
    assert type(pipeline.unet).__name__ == "TokenUNet"
    assert type(pipeline.encoder).__name__ == "TokenEncoder"
    record = json.loads((folder / "training.json").read_text())
    assert record["networks"] == {"unet": "TokenUNet", "encoder": "TokenEncoder"}
    assert record["config"]["preset"] == "custom"
    image = pipeline(torch.rand(1, 3, 16, 16), num_inference_steps=2, output_type="pt").images
    assert image.isfinite().all()
    return pipeline


@pytest.mark.parametrize("settings", [{}, {"use_ema": True}, {"micro_batch_size": 3}], ids=str)
def test_networks_with_their_own_conditioning_train_and_save(tmp_path, settings):
    networks = token_networks()
    before = networks[0].token_projection.weight.clone()
    train(config_for(tmp_path, **settings), networks=networks)
    pipeline = assert_saved_as_token_networks(tmp_path)
    assert not torch.equal(pipeline.unet.token_projection.weight, before)


def test_networks_resume_bit_for_bit(tmp_path):
    train(config_for(tmp_path / "whole", checkpointing_steps=3), networks=token_networks())
    checkpoint = str(tmp_path / "whole" / "checkpoint-3")
    train(config_for(tmp_path / "resumed", resume_from_checkpoint=checkpoint), networks=token_networks())
    assert_same_weights(tmp_path / "whole", tmp_path / "resumed")


def train_token_networks(config):
    train(config, networks=token_networks())


def test_networks_train_in_two_processes(tmp_path):
    assert end(start_together(train_token_networks, config_for(tmp_path))) == [0, 0]
    assert_saved_as_token_networks(tmp_path)


def test_trained_networks_are_trained_further(tmp_path):
    pipeline = micro_pipeline()
    assert not pipeline.unet.training
    before = {name: value.clone() for name, value in pipeline.encoder.state_dict().items()}
    train(config_for(tmp_path, max_train_steps=1, learning_rate=1e-6), networks=(pipeline.unet, pipeline.encoder))
    after = FDAEPipeline.from_pretrained(tmp_path).encoder.state_dict()
    torch.testing.assert_close(after["content_head.weight"], before["content_head.weight"], atol=1e-3, rtol=0)
    assert any(not torch.equal(after[name], before[name]) for name in after if "running_mean" in name)


def test_networks_that_do_not_belong_together_are_refused_before_training(tmp_path):
    unet, _ = token_networks()
    with pytest.raises(FDAEError, match="condition_channels"):
        train(config_for(tmp_path), networks=(unet, CMFNet(**{**MICRO_ENCODER, "condition_channels": 8})))


def test_networks_that_their_configuration_does_not_rebuild_are_refused_before_training(tmp_path):
    class Unregistered(TokenUNet):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)

    with pytest.raises(FDAEError, match="Unregistered"):
        train(config_for(tmp_path), networks=(Unregistered(**MICRO_UNET), token_networks()[1]))
