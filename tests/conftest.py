import itertools

import datasets
import numpy as np
import PIL.Image
import pytest
import torch
from helpers.models import micro_pipeline

from fdae_diffusers import FDAEPipeline
from fdae_diffusers.data import get_benchmark

# Modules and tests that need long (most of their tests more than five seconds), other processes or a browser;
# `make test-fast` leaves them out. Tests may also carry a marker themselves.
MARKED = {
    "slow": (
        "test_study.py",
        "test_metrics_reference.py",
        "test_training_faults.py",
        "test_heun_samples_agree",
        "test_export_onnx.py",
        "test_web.py",
    ),
    "processes": (
        "test_training_processes.py",
        "test_training_faults.py",
        "test_remote_code.py",
        "test_wheel.py",
        "test_memory.py",
        "test_convert_dataset.py",
    ),
    "browser": ("test_a_visitor", "test_web.py"),
}


def pytest_collection_modifyitems(items):
    for item in items:
        for marker, names in MARKED.items():
            if any(name in item.nodeid for name in names):
                item.add_marker(marker)


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


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


@pytest.fixture
def image_folder(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for i in range(10):
        PIL.Image.fromarray(generator.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder
