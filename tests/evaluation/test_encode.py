"""Encoding a whole data set, with and without codes kept on disk."""

import datasets
import numpy as np
import PIL.Image
import pytest
import torch
from helpers.models import micro_pipeline

from fdae_diffusers.data import ImageDataset
from fdae_diffusers.errors import FDAEError
from fdae_diffusers.evaluation import encode as encoding
from fdae_diffusers.evaluation.encode import encode_dataset, unpack_codes


@pytest.fixture
def image_dataset(images):
    pictures = [PIL.Image.fromarray(image) for image in (images.permute(0, 2, 3, 1) * 255).byte().numpy()]
    rows = datasets.Dataset.from_dict({"image": pictures}).cast_column("image", datasets.Image())
    return ImageDataset(rows, 16)


def test_codes_are_those_of_every_image_in_order(pipeline, image_dataset):
    codes = encode_dataset(pipeline.encoder, image_dataset, batch_size=2, progress=False)
    expected = pipeline.encoder.encode(torch.stack([row["pixel_values"] for row in image_dataset]))
    assert codes.shape == (5, 2 * pipeline.encoder.config.num_concepts, pipeline.encoder.config.mask_dim)
    unpacked = unpack_codes(codes, pipeline.encoder.config.num_concepts)
    torch.testing.assert_close(unpacked.content, expected.content, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(unpacked.mask, expected.mask, rtol=1e-4, atol=1e-5)


def test_interrupted_encoding_goes_on_where_it_stopped(pipeline, image_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(encoding, "ROWS_PER_PART", 2)
    first = encode_dataset(pipeline.encoder, image_dataset, cache_dir=tmp_path, progress=False)
    files = sorted(tmp_path.glob("*/*.npy"))
    assert [file.name for file in files] == ["00000000.npy", "00000002.npy", "00000004.npy"]
    files[1].unlink()
    np.save(files[0], first[:2] + 1)  # shows that this part is read, not encoded again
    second = encode_dataset(pipeline.encoder, image_dataset, cache_dir=tmp_path, progress=False)
    np.testing.assert_array_equal(second[:2], first[:2] + 1)
    np.testing.assert_allclose(second[2:], first[2:], rtol=1e-6)


def test_kept_codes_of_other_weights_are_not_read(pipeline, image_dataset, tmp_path):
    codes = encode_dataset(pipeline.encoder, image_dataset, cache_dir=tmp_path, progress=False)
    others = encode_dataset(micro_pipeline(seed=1).encoder, image_dataset, cache_dir=tmp_path, progress=False)
    assert len(list(tmp_path.iterdir())) == 2
    assert np.abs(codes - others).max() > 0.01


def test_codes_of_two_sizes_are_refused(image_dataset):
    encoder = micro_pipeline(mask_dim=7, content_dim=5).encoder
    with pytest.raises(FDAEError, match="content_dim=5, mask_dim=7"):
        encode_dataset(encoder, image_dataset, progress=False)
