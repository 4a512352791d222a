"""Encoding a whole data set, with and without codes kept on disk."""

import datasets
import PIL.Image
import pytest
import torch
from helpers.models import micro_pipeline

from fdae_diffusers import FDAECodes
from fdae_diffusers.data import ImageDataset
from fdae_diffusers.evaluation import encode as encoding
from fdae_diffusers.evaluation.encode import code_sizes, encode_dataset


@pytest.fixture
def image_dataset(images):
    pictures = [PIL.Image.fromarray(image) for image in (images.permute(0, 2, 3, 1) * 255).byte().numpy()]
    rows = datasets.Dataset.from_dict({"image": pictures}).cast_column("image", datasets.Image())
    return ImageDataset(rows, 16)


def test_codes_are_those_of_every_image_in_order(pipeline, image_dataset):
    codes = encode_dataset(pipeline.encoder, image_dataset, batch_size=2, progress=False)
    expected = pipeline.encoder.encode(torch.stack([row["pixel_values"] for row in image_dataset]))
    torch.testing.assert_close(codes.content, expected.content, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(codes.mask, expected.mask, rtol=1e-4, atol=1e-5)
    assert {kind.dtype for kind in (codes.content, codes.mask)} == {torch.float32}


def test_interrupted_encoding_goes_on_where_it_stopped(pipeline, image_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(encoding, "ROWS_PER_PART", 2)
    first = encode_dataset(pipeline.encoder, image_dataset, codes_cache_dir=tmp_path, progress=False)
    files = sorted(tmp_path.glob("*/*.safetensors"))
    assert [file.name for file in files] == [f"0000000{start}.safetensors" for start in (0, 2, 4)]
    files[1].unlink()
    FDAECodes(first.content[:2] + 1, first.mask[:2]).save(files[0])  # this part is read, not encoded again
    second = encode_dataset(pipeline.encoder, image_dataset, codes_cache_dir=tmp_path, progress=False)
    torch.testing.assert_close(second.content[:2], first.content[:2] + 1, rtol=0, atol=0)
    torch.testing.assert_close(second.content[2:], first.content[2:])
    torch.testing.assert_close(second.mask, first.mask)


def test_kept_codes_of_other_weights_are_not_read(pipeline, image_dataset, tmp_path):
    codes = encode_dataset(pipeline.encoder, image_dataset, codes_cache_dir=tmp_path, progress=False)
    others = encode_dataset(micro_pipeline(seed=1).encoder, image_dataset, codes_cache_dir=tmp_path, progress=False)
    assert len(list(tmp_path.iterdir())) == 2
    assert (codes.content - others.content).abs().max() > 0.01


def test_content_and_mask_codes_may_differ_in_size(image_dataset, tmp_path):
    encoder = micro_pipeline(mask_dim=7, content_dim=5).encoder
    for _ in range(2):  # encoded, then read
        codes = encode_dataset(encoder, image_dataset, codes_cache_dir=tmp_path, progress=False)
        assert (codes.content.shape, codes.mask.shape) == ((5, 3, 5), (5, 3, 7))
    assert code_sizes(encoder) == [5, 5, 5, 7, 7, 7]
    assert code_sizes(micro_pipeline(num_concepts=1).encoder) == [6]
