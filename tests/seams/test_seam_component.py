"""An optional component of the pipeline, a prior that draws codes, from outside the package."""

import json
import logging

import pytest
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import logging as diffusers_logging
from helpers.models import micro_pipeline

from fdae_diffusers import FDAECodes, FDAEPipeline


class Prior(ModelMixin, ConfigMixin):
    """Draws stacked codes (B, K, d) as a linear map of noise."""

    @register_to_config
    def __init__(self, num_codes: int = 6, dim: int = 6):
        super().__init__()
        self.linear = torch.nn.Linear(dim, num_codes * dim)

    def sample(self, noise):
        return self.linear(noise).unflatten(1, (self.config.num_codes, -1))


class PriorPipeline(FDAEPipeline):
    """FDAEPipeline that may have a prior."""

    _optional_components = ["prior"]  # noqa: RUF012 (declared so in diffusers)

    def __init__(self, unet, encoder, scheduler, prior: Prior | None = None, num_inference_steps: int | None = None):
        super().__init__(unet, encoder, scheduler, num_inference_steps)
        self.register_modules(prior=prior)

    def draw(self, noise):
        return self.decode(
            FDAECodes.unstack(self.prior.sample(noise), self.encoder.config.num_concepts),
            latents=torch.zeros(1, 3, 16, 16),
            output_type="pt",
        )


@pytest.fixture
def components():
    pipeline = micro_pipeline()
    return {"unet": pipeline.unet, "encoder": pipeline.encoder, "scheduler": pipeline.scheduler}


def test_component_is_saved_and_loaded_with_the_pipeline(components, tmp_path):
    torch.manual_seed(0)
    pipeline = PriorPipeline(**components, prior=Prior(), num_inference_steps=2)
    pipeline.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "model_index.json").read_text())["prior"] == [__name__, "Prior"]
    again = PriorPipeline.from_pretrained(tmp_path)
    noise = torch.randn(3, 6)
    with torch.no_grad():
        images = again.draw(noise)
        assert images.shape == (3, 3, 16, 16)
        assert torch.equal(images, pipeline.draw(noise))
    assert set(again.components) == {"unet", "encoder", "scheduler", "prior"}


def test_model_without_the_component_loads(components, images, tmp_path):
    micro_pipeline().save_pretrained(tmp_path / "plain")
    PriorPipeline(**components).save_pretrained(tmp_path / "without")
    for name in ("plain", "without"):
        pipeline = PriorPipeline.from_pretrained(tmp_path / name)
        assert pipeline.prior is None
        assert pipeline(images, num_inference_steps=1, output_type="pt").images.shape == images.shape
        assert not (tmp_path / name / "prior").exists()
    added = PriorPipeline.from_pretrained(tmp_path / "plain", prior=Prior())
    assert isinstance(added.prior, Prior)


def test_model_with_the_component_loads_as_the_plain_pipeline(components, images, tmp_path):
    PriorPipeline(**components, prior=Prior()).save_pretrained(tmp_path)
    level = diffusers_logging.get_verbosity()
    diffusers_logging.set_verbosity(logging.ERROR)  # it says that it leaves the prior out
    try:
        pipeline = FDAEPipeline.from_pretrained(tmp_path)
    finally:
        diffusers_logging.set_verbosity(level)
    assert not hasattr(pipeline, "prior")
    assert pipeline(images, num_inference_steps=1, output_type="pt").images.shape == images.shape
