import itertools
from pathlib import Path

import datasets
import numpy as np
import PIL.Image
import pytest
import torch

from fdae_diffusers import CMFNet, EDMHeunScheduler, FDAEPipeline, FDAEUNet2DModel
from fdae_diffusers.data import get_benchmark

# Real images and reference outputs that are not part of the repository; tests that need them are skipped without.
SHARED = Path(__file__).parents[2] / "shared"

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


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def micro_pipeline(seed: int = 0, **encoder_overrides) -> FDAEPipeline:
    """A pipeline of a few thousand parameters, random but not zero anywhere, in evaluation mode."""
    torch.manual_seed(seed)
    unet, encoder = FDAEUNet2DModel(**MICRO_UNET), CMFNet(**{**MICRO_ENCODER, **encoder_overrides})
    for parameter in unet.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    pipeline = FDAEPipeline(unet.eval(), encoder.eval(), EDMHeunScheduler())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def pipeline() -> FDAEPipeline:
    return micro_pipeline()


@pytest.fixture(scope="session")
def benchmark(tmp_path_factory):
    """Two values of each factor of Shapes3D, as random images."""
    folder = tmp_path_factory.mktemp("benchmark")
    factors = np.array(list(itertools.product(range(2), repeat=6)))
    images = np.random.default_rng(0).integers(0, 256, (len(factors), 16, 16, 3), dtype=np.uint8)
    columns = dict(zip(get_benchmark("shapes3d").label_columns, factors.T.tolist(), strict=True))
    rows = datasets.Dataset.from_dict({"image": [PIL.Image.fromarray(image) for image in images], **columns})
    rows.to_parquet(folder / "train.parquet")
    return str(folder)


@pytest.fixture
def images() -> torch.Tensor:
    """Five random images in [0, 1] of the micro pipeline's size."""
    return torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(1))
