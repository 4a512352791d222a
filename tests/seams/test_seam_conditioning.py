"""Another U-Net with a conditioning of its own, cross-attention on concept tokens, from outside the package."""

import functools
import json

import pytest
import torch
from diffusers import ModelMixin  # noqa: F401 (diffusers looks it up here when it loads the classes below)
from diffusers.models.attention_processor import Attention
from diffusers.utils.accelerate_utils import apply_forward_hook
from helpers.models import MICRO_ENCODER, MICRO_UNET

from fdae_diffusers import CMFNet, EDMHeunScheduler, FDAEPipeline, FDAEUNet2DModel
from fdae_diffusers.errors import FDAEError

OPTIONS = {"num_inference_steps": 3, "output_type": "pt"}


class TokenCMFNet(CMFNet):
    """Conditions on the codes themselves, as tokens, instead of a map."""

    @apply_forward_hook
    def condition(self, codes, masks=None):
        return {"encoder_hidden_states": codes.content}  # (B, N, d_c)


class TokenUNet(FDAEUNet2DModel):
    """Every pixel of the stem attends to the tokens."""

    @functools.wraps(FDAEUNet2DModel.__init__)  # diffusers reads the arguments of the configuration off the signature
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        dim = self.config.condition_channels
        self.attention = Attention(dim, cross_attention_dim=MICRO_ENCODER["content_dim"], heads=1, dim_head=dim)

    def forward(self, sample, timestep, encoder_hidden_states, return_dict=True):
        pixels = self.conv_stem(sample).flatten(2).transpose(1, 2)  # (B, H * W, d_F)
        attended = self.attention(pixels, encoder_hidden_states)  # (B, H * W, d_F)
        attended = attended.transpose(1, 2).unflatten(2, sample.shape[2:])
        return super().forward(sample, timestep, attended, return_dict=return_dict)


@pytest.fixture
def token_pipeline():
    torch.manual_seed(0)
    unet, encoder = TokenUNet(**MICRO_UNET), TokenCMFNet(**MICRO_ENCODER)
    for parameter in unet.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    pipeline = FDAEPipeline(unet.eval(), encoder.eval(), EDMHeunScheduler())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def seeded():
    return torch.Generator().manual_seed(0)


def test_encoder_tells_what_it_conditions_on(token_pipeline, images):
    output = token_pipeline.encoder(images)
    assert list(output.condition) == ["encoder_hidden_states"]
    assert torch.equal(output.condition["encoder_hidden_states"], output.content_codes)
    assert output.condition_map is None
    assert output.masks.shape == (5, 3, 16, 16)


def test_images_are_decoded_from_the_tokens(token_pipeline, images):
    output = token_pipeline(images, generator=seeded(), **OPTIONS)
    assert output.images.shape == images.shape
    swapped = token_pipeline.swap(images[:2], images[2:4], content=1, generator=seeded(), **OPTIONS)
    own = token_pipeline(images[:2], generator=seeded(), **OPTIONS).images
    assert not torch.equal(swapped, own)
    # Masks are not among the tokens: swapping them changes nothing.
    assert torch.equal(token_pipeline.swap(images[:2], images[2:4], mask="all", generator=seeded(), **OPTIONS), own)


def test_inversion_follows_the_same_network(token_pipeline, images):
    latents = token_pipeline.invert(images[:2], num_inference_steps=20)
    again = token_pipeline(images[:2], num_inference_steps=20, latents=latents, output_type="pt").images
    assert (again - images[:2]).abs().mean() < 0.02


def test_callback_is_given_the_tokens_by_name_and_may_replace_them(token_pipeline, images):
    def forget(pipeline, step, timestep, tensors):
        assert list(tensors) == ["encoder_hidden_states"]
        return {name: torch.zeros_like(x) for name, x in tensors.items()}

    options = {"callback_on_step_end": forget, "callback_on_step_end_tensor_inputs": ["encoder_hidden_states"]}
    changed = token_pipeline(images, generator=seeded(), **OPTIONS, **options).images
    assert not torch.equal(changed, token_pipeline(images, generator=seeded(), **OPTIONS).images)
    with pytest.raises(FDAEError, match="encoder_hidden_states"):
        token_pipeline(images, **OPTIONS, callback_on_step_end_tensor_inputs=["condition_map"])


def test_pipeline_is_saved_and_loaded_with_its_own_classes(token_pipeline, images, tmp_path):
    token_pipeline.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "model_index.json").read_text())["unet"] == [__name__, "TokenUNet"]
    again = FDAEPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    assert type(again.unet) is TokenUNet
    assert type(again.encoder) is TokenCMFNet
    expected = token_pipeline(images, generator=seeded(), **OPTIONS).images
    assert torch.equal(again(images, generator=seeded(), **OPTIONS).images, expected)
