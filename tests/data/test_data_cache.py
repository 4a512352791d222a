import psutil
import pytest
import torch
from helpers.image_files import BAD, grey, write_parquet
from torch.utils.data import DataLoader

from fdae_diffusers.data import RENDERED_SHAPES3D, CachedImages, ImageDataset, load_image_dataset
from fdae_diffusers.errors import FDAEError

ROWS = [5, 0, 3, 3, 9]


def values(images, rows=ROWS) -> torch.Tensor:
    return torch.stack([item["pixel_values"] for item in images.__getitems__(rows)])


@pytest.fixture
def dataset(tmp_path):
    """Ten images of parquet, of which rows 2, 3 and 9 cannot be read."""
    images = [grey(10 * level) for level in range(10)]
    images[2], images[3], images[9] = BAD["text"], None, BAD["truncated PNG"]
    name = write_parquet(tmp_path / "repo", [images[:4], images[4:]])
    return load_image_dataset(name, cache_dir=str(tmp_path / "cache"))


@pytest.mark.parametrize("workers", [0, 2])
def test_values_are_those_of_the_data_set_bit_for_bit(dataset, workers):
    images = ImageDataset(dataset, size=16, on_bad_image="skip")
    cached = CachedImages(ImageDataset(dataset, size=16, on_bad_image="skip"), num_workers=workers, progress=False)
    assert len(cached) == 10
    assert torch.equal(values(cached), values(images))
    assert torch.equal(cached[4]["pixel_values"], images[4]["pixel_values"])
    assert cached.num_skipped == 3  # also if workers skipped them


def test_rendered_images_are_kept_too():
    images = ImageDataset(load_image_dataset(RENDERED_SHAPES3D, size=16, max_samples=300), size=16)
    assert torch.equal(values(CachedImages(images, progress=False), range(300)), values(images, range(300)))


def test_workers_see_the_memory(dataset):
    cached = CachedImages(ImageDataset(dataset, size=8, on_bad_image="skip"), progress=False)
    batches = [next(iter(DataLoader(cached, batch_size=10, num_workers=workers))) for workers in (0, 1)]
    assert torch.equal(batches[0]["pixel_values"], batches[1]["pixel_values"])


@pytest.mark.parametrize("workers", [0, 1])
def test_bad_images_are_refused_by_name_before_training(dataset, workers):
    with pytest.raises(FDAEError, match="cannot read the image of row 2") as caught:
        CachedImages(ImageDataset(dataset, size=8), num_workers=workers, progress=False)
    assert "\n" not in str(caught.value)


def test_more_memory_than_is_free_is_refused(dataset, monkeypatch):
    images = ImageDataset(dataset, size=64, on_bad_image="skip")
    free = psutil.virtual_memory()._replace(available=3 * 10 * 3 * 64 * 64 - 1)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    CachedImages(images, num_copies=2, progress=False)
    with pytest.raises(FDAEError, match=r"10 images of 64x64 in memory takes .* in 3 processes.*cache_images"):
        CachedImages(images, num_copies=3, progress=False)
