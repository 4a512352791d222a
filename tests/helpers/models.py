"""Networks of a few thousand parameters."""

import torch

from fdae_diffusers import CMFNet, EDMHeunScheduler, FDAEPipeline, FDAEUNet2DModel

MICRO_UNET = {
    "sample_size": 16,
    "condition_channels": 4,
    "block_out_channels": [8, 8],
    "down_block_types": ["ResnetDownsampleBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "ResnetUpsampleBlock2D"],
    "layers_per_block": 1,
    "attention_head_dim": 4,
    "norm_num_groups": 4,
    "dropout": 0.0,
}
MICRO_ENCODER = {
    "sample_size": 16,
    "num_concepts": 3,
    "content_dim": 6,
    "mask_dim": 6,
    "condition_channels": 4,
    "backbone": {
        "model_type": "resnet",
        "layer_type": "basic",
        "embedding_size": 8,
        "hidden_sizes": [8, 8],
        "depths": [1, 1],
    },
    "mask_decoder_channels": [8, 8, 8],
    "mask_decoder_size": 8,
    "norm_num_groups": 4,
}


def micro_pipeline(seed: int = 0, **encoder_overrides) -> FDAEPipeline:
    """A pipeline of a few thousand parameters, random but not zero anywhere, in evaluation mode."""
    torch.manual_seed(seed)
    unet, encoder = FDAEUNet2DModel(**MICRO_UNET), CMFNet(**{**MICRO_ENCODER, **encoder_overrides})
    for parameter in unet.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    pipeline = FDAEPipeline(unet.eval(), encoder.eval(), EDMHeunScheduler())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
