import pytest
import torch
from helpers.models import MICRO_ENCODER, MICRO_UNET

from fdae_diffusers import CMFNet, FDAECodes, FDAEUNet2DModel
from fdae_diffusers.errors import FDAEError
from fdae_diffusers.models.mask_decoder import MaskDecoder, UpsampleConv2d
from fdae_diffusers.models.presets import PRESETS, build_models
from fdae_diffusers.utils.memory import enable_selective_checkpointing


def count_parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


def test_paper_scale_parameter_counts():
    with torch.device("meta"):
        unet, encoder = FDAEUNet2DModel(), CMFNet()
    assert count_parameters(unet) == 281_535_299
    assert count_parameters(encoder) == 14_790_561
    assert count_parameters(encoder.image_encoder) == 11_176_512


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_build_networks_that_belong_together(preset):
    with torch.device("meta"):
        unet, encoder = build_models(preset)
    assert unet.config.sample_size == encoder.config.sample_size
    assert unet.config.condition_channels == encoder.config.condition_channels
    assert encoder.config.num_concepts == (2 if preset == "cars3d" else 6)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"unet": {"condition_channels": 8}}, "do not belong together"),
        ({"encoder": {"num_concepts": 0}}, "num_concepts must be at least 1"),
        ({"unet": {"sample_size": 30}}, "multiple of 4"),
        ({"unet": {"patch_size": 3}}, "multiple of 12: there are 3 levels of patches of 3"),
        ({"unet": {"patch_size": 0}}, "patch_size must be at least 1"),
        ({"encoder": {"mask_decoder_size": 10}}, "multiple of 4"),
        ({"encoder": {"backbone": "resnet19"}}, "unknown backbone"),
        ({"encoder": {"backbone": {"model_type": "nope"}}}, "nope"),
        ({"encoder": {"no_such_argument": 1}}, "no_such_argument"),
    ],
)
def test_unbuildable_networks_are_refused_with_a_reason(overrides, message):
    with pytest.raises(FDAEError, match=message):
        build_models("tiny-32", **overrides)


def test_patches_keep_the_resolution_of_image_and_condition_map():
    unet = FDAEUNet2DModel(**MICRO_UNET, patch_size=2)
    torch.nn.init.normal_(unet.conv_out.weight)
    sample, condition_map = torch.randn(2, 3, 16, 16), torch.randn(2, 4, 16, 16, requires_grad=True)
    output = unet(sample, torch.zeros(2), condition_map).sample
    assert output.shape == sample.shape
    assert unet(sample, torch.zeros(2), condition_map, return_dict=False)[0].shape == sample.shape
    output.square().sum().backward()
    assert condition_map.grad.ne(0).all()
    levels = []
    unet.mid_block.register_forward_hook(lambda module, inputs, output: levels.append(output.shape[-1]))
    unet(sample, torch.zeros(2), condition_map)
    assert levels == [4]  # 16 / 2 at the first level, and half of it at the second


def test_patches_are_saved_with_the_model(tmp_path):
    unet = FDAEUNet2DModel(**MICRO_UNET, patch_size=2)
    torch.nn.init.normal_(unet.conv_out.weight)
    unet.save_pretrained(tmp_path)
    inputs = torch.randn(1, 3, 16, 16), torch.zeros(1), torch.randn(1, 4, 16, 16)
    loaded = FDAEUNet2DModel.from_pretrained(tmp_path)
    assert loaded.config.patch_size == 2
    torch.testing.assert_close(loaded(*inputs).sample, unet.eval()(*inputs).sample)


def test_masks_sum_to_one_and_the_map_spreads_adjusted_codes_over_them():
    encoder = CMFNet(**MICRO_ENCODER).eval()
    output = encoder(torch.rand(2, 3, 16, 16) * 2 - 1)
    assert output.content_codes.shape == (2, 3, 6)
    assert output.mask_codes.shape == (2, 3, 6)
    assert output.masks.shape == (2, 3, 16, 16)
    torch.testing.assert_close(output.masks.sum(1), torch.ones(2, 16, 16))
    literal = sum(
        output.masks[:, n, None] * encoder.adjust[n](output.content_codes[:, n])[:, :, None, None] for n in range(3)
    )
    torch.testing.assert_close(output.condition_map, literal)


def test_pixels_belong_to_the_ground_unless_another_concept_claims_them():
    plain = CMFNet(**MICRO_ENCODER).eval()
    ground = CMFNet(**MICRO_ENCODER, ground_bias=3.0).eval()
    ground.load_state_dict(plain.state_dict())
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    masks, biased = plain(images).masks, ground(images).masks
    weights = masks * torch.tensor([3.0, 0.0, 0.0]).exp()[:, None, None]
    torch.testing.assert_close(biased, weights / weights.sum(1, keepdim=True))
    ground.start_with_shared_masks(std=0.0)
    share = torch.tensor(3.0).exp() / (torch.tensor(3.0).exp() + 2)
    torch.testing.assert_close(ground(images).masks[:, 0], share.expand(2, 16, 16))


def test_single_concept_is_the_baseline_without_masks():
    encoder = CMFNet(**{**MICRO_ENCODER, "num_concepts": 1}).eval()
    output = encoder(torch.rand(2, 3, 16, 16))
    assert output.mask_codes is None
    assert torch.equal(output.masks, torch.ones(2, 1, 16, 16))
    assert not any("mask" in name for name, _ in encoder.named_parameters())
    # The condition is the same everywhere: there is no place in it.
    assert torch.equal(output.condition_map, output.condition_map[:, :, :1, :1].expand(-1, -1, 16, 16))


def test_mask_codes_do_not_touch_content_nor_content_codes_masks():
    encoder = CMFNet(**MICRO_ENCODER).eval()
    codes = encoder.encode(torch.rand(2, 3, 16, 16))
    swapped = codes.swap(codes[[1, 0]], content="all")
    assert torch.equal(encoder.decode_masks(swapped), encoder.decode_masks(codes))


def test_codes_of_another_model_are_refused():
    encoder = CMFNet(**MICRO_ENCODER)
    codes = encoder.encode(torch.rand(2, 3, 16, 16))
    for other in (FDAECodes(codes.content), FDAECodes(codes.content[:, :2], codes.mask[:, :2])):
        with pytest.raises(ValueError, match="codes of another model"):
            encoder.decode_masks(other)


def test_upsampling_convolution_equals_its_two_steps_in_value_and_gradient():
    conv = UpsampleConv2d(5, 7)
    hidden_states = torch.randn(2, 5, 4, 6, requires_grad=True)
    upsampled = torch.nn.functional.interpolate(hidden_states, scale_factor=2.0, mode="nearest")
    literal = torch.nn.functional.conv2d(upsampled, conv.weight, padding=1)
    output = conv(hidden_states)
    torch.testing.assert_close(output, literal)
    inputs, direction = (hidden_states, conv.weight), torch.randn_like(output)
    gradients = torch.autograd.grad(output, inputs, direction)
    torch.testing.assert_close(gradients, torch.autograd.grad(literal, inputs, direction))


def test_shared_masks_are_the_same_for_every_image_and_random():
    encoder = CMFNet(**MICRO_ENCODER).eval()
    images = torch.rand(4, 3, 16, 16) * 2 - 1
    assert encoder(images).masks.std(dim=0).max() > 1e-4
    encoder.start_with_shared_masks()
    output = encoder(images)
    torch.testing.assert_close(output.masks, output.masks[:1].expand_as(output.masks))
    assert output.masks[0].std(dim=0).min() > 1e-4  # the concepts differ everywhere
    assert output.content_codes.std(dim=0).min() > 1e-4


@pytest.mark.parametrize("enable", [CMFNet.enable_gradient_checkpointing, enable_selective_checkpointing])
def test_gradient_checkpointing_changes_no_mask_no_gradient_and_no_statistics(enable):
    torch.manual_seed(0)
    plain = CMFNet(**MICRO_ENCODER)
    checkpointed = CMFNet(**MICRO_ENCODER)
    checkpointed.load_state_dict(plain.state_dict())
    enable(checkpointed)
    assert checkpointed.is_gradient_checkpointing
    pixel_values = torch.rand(2, 3, 16, 16)
    for encoder in (plain, checkpointed):
        encoder(pixel_values).condition_map.square().sum().backward()
    for one, other in zip(plain.parameters(), checkpointed.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
    for one, other in zip(plain.buffers(), checkpointed.buffers(), strict=True):
        assert torch.equal(one, other)


def test_paper_and_released_mask_decoders_differ_in_the_norms_before_upsampling():
    arguments = {"mask_dim": 80, "sample_size": 64, "mask_size": 64, "norm_num_groups": 32}
    channels = (384, 384, 256, 128, 64)
    released = MaskDecoder(block_out_channels=channels, norm="released", **arguments)
    paper = MaskDecoder(block_out_channels=channels, norm="paper", **arguments)
    assert count_parameters(released) - count_parameters(paper) == 2 * (384 + 256 + 128)
    assert paper(torch.randn(2, 3, 80)).shape == (2, 3, 64, 64)


@pytest.mark.parametrize(
    "backbone",
    [
        {"model_type": "vit", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 4},
        {"model_type": "convnext", "num_stages": 2, "hidden_sizes": [8, 16], "depths": [1, 1]},
        {"model_type": "swin", "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 1], "window_size": 2},
    ],
)
def test_any_transformers_backbone_encodes_and_survives_saving(backbone, tmp_path):
    encoder = CMFNet(**{**MICRO_ENCODER, "backbone": backbone}).eval()
    pixel_values = torch.rand(2, 3, 16, 16)
    encoder.save_pretrained(tmp_path)
    again = CMFNet.from_pretrained(tmp_path).eval()
    assert torch.equal(again(pixel_values).condition_map, encoder(pixel_values).condition_map)


def test_every_parameter_of_a_dinov2_backbone_that_learns_gets_a_gradient():
    # DistributedDataParallel stops otherwise.
    backbone = {"model_type": "dinov2", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    encoder = CMFNet(**{**MICRO_ENCODER, "backbone": {**backbone, "patch_size": 4, "mlp_ratio": 1}})
    encoder(torch.rand(2, 3, 16, 16)).condition_map.square().sum().backward()
    learning = [name for name, parameter in encoder.named_parameters() if parameter.requires_grad]
    assert [name for name in learning if encoder.get_parameter(name).grad is None] == []
    assert not any(name.endswith("mask_token") for name in learning)
    assert "image_encoder.model.embeddings.cls_token" in learning


def test_condition_is_the_map_with_masks_given_or_decoded():
    encoder = CMFNet(**MICRO_ENCODER).eval()
    output = encoder(torch.rand(2, 3, 16, 16))
    assert list(output.condition) == ["condition_map"]
    assert output.condition["condition_map"] is output.condition_map
    codes = FDAECodes(output.content_codes, output.mask_codes)
    for condition in (encoder.condition(codes), encoder.condition(codes, output.masks)):
        assert torch.equal(condition["condition_map"], output.condition_map)
    other_masks = output.masks.flip(1)
    expected = encoder.condition_map(output.content_codes, other_masks)
    assert torch.equal(encoder.condition(codes, other_masks)["condition_map"], expected)


def test_output_survives_what_distributed_wrappers_do_with_it():
    output = CMFNet(**{**MICRO_ENCODER, "num_concepts": 1}).eval()(torch.rand(2, 3, 16, 16))
    doubled = torch.utils._pytree.tree_map(lambda x: 2 * x, output)
    assert doubled.mask_codes is None
    assert torch.equal(doubled.condition["condition_map"], 2 * output.condition_map)


def test_condition_map_enters_once_after_the_stem():
    unet = FDAEUNet2DModel(**MICRO_UNET).eval()
    for parameter in unet.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    sample, timestep, condition = torch.randn(2, 3, 16, 16), torch.tensor(0.3), torch.randn(2, 4, 16, 16)
    # A map that cancels the stem leaves the same picture as any other sample whose stem it cancels.
    other = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(
        unet(sample, timestep, condition - unet.conv_stem(sample)).sample,
        unet(other, timestep, condition - unet.conv_stem(other)).sample,
    )


def test_timestep_is_scaled_and_may_be_a_number_or_a_tensor():
    unet = FDAEUNet2DModel(**MICRO_UNET).eval()
    for parameter in unet.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    sample, condition = torch.randn(2, 3, 16, 16), torch.zeros(2, 4, 16, 16)
    output = unet(sample, 0.25, condition).sample
    assert torch.equal(unet(sample, torch.full((2,), 0.25), condition).sample, output)
    assert not torch.equal(unet(sample, 0.5, condition).sample, output)
    unscaled = FDAEUNet2DModel(**{**MICRO_UNET, "timestep_scale": 1.0}).eval()
    unscaled.load_state_dict(unet.state_dict())
    torch.testing.assert_close(unscaled(sample, 250.0, condition).sample, output)


def test_new_unet_predicts_zero():
    unet = FDAEUNet2DModel(**MICRO_UNET)
    assert not unet(torch.randn(2, 3, 16, 16), 0.1, torch.randn(2, 4, 16, 16)).sample.any()


def test_unet_survives_saving_with_its_whole_configuration(tmp_path):
    unet = FDAEUNet2DModel(**MICRO_UNET).eval()
    torch.nn.init.normal_(unet.conv_out.weight)
    unet.save_pretrained(tmp_path)
    again = FDAEUNet2DModel.from_pretrained(tmp_path).eval()
    drop = ("_name_or_path",)
    assert {k: v for k, v in again.config.items() if k not in drop} == {
        k: v for k, v in unet.config.items() if k not in drop
    }
    sample, condition = torch.randn(1, 3, 16, 16), torch.randn(1, 4, 16, 16)
    assert torch.equal(again(sample, 0.1, condition).sample, unet(sample, 0.1, condition).sample)
    assert (tmp_path / "diffusion_pytorch_model.safetensors").exists()


@pytest.mark.parametrize("overrides", [{"center_input_sample": True}, {"time_embedding_type": "fourier"}])
def test_settings_that_break_edm_preconditioning_are_refused(overrides):
    with pytest.raises(ValueError, match="EDM preconditioning"):
        FDAEUNet2DModel(**{**MICRO_UNET, **overrides})
