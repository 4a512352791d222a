"""A basis fitted to the codes of a data set."""

import numpy as np
import pytest
from helpers.models import micro_pipeline

from fdae_diffusers.basis import BASIS_FILE, CodeBasis
from fdae_diffusers.evaluation.basis import BasisConfig, fit_basis


@pytest.fixture
def fit(tmp_path):
    def fit(**settings):
        defaults = {"dataset": "shapes3d-rendered", "max_samples": 40, "num_clusters": 4, "device": "cpu"}
        return fit_basis(BasisConfig(model=str(tmp_path), **defaults | settings))

    return fit


def test_basis_of_the_codes_of_a_data_set_is_saved_beside_the_model(fit, tmp_path, capsys):
    pipeline = micro_pipeline()
    pipeline.save_pretrained(tmp_path)
    assert fit() == tmp_path / BASIS_FILE
    assert str(tmp_path / BASIS_FILE) in capsys.readouterr().out
    basis = CodeBasis.from_pretrained(tmp_path)
    assert basis.mask.centers.shape == (3, 4, 6)
    image = np.full((16, 16, 3), 128, np.uint8)
    edited = basis.to_cluster(pipeline.encode(image), "mask", 2, 3)
    assert len(pipeline(codes=edited, num_inference_steps=1).images) == 1


def test_variant_has_a_basis_of_its_own(fit, tmp_path):
    micro_pipeline().save_pretrained(tmp_path)
    micro_pipeline(seed=1).save_pretrained(tmp_path, variant="ema")
    fit()
    fit(variant="ema")
    plain, ema = (CodeBasis.from_pretrained(tmp_path, variant=variant) for variant in (None, "ema"))
    assert (plain.content.mean - ema.content.mean).abs().max() > 0.01


def test_images_of_any_data_set_and_codes_of_two_sizes(fit, tmp_path, benchmark):
    micro_pipeline(content_dim=6, mask_dim=4).save_pretrained(tmp_path)
    fit(dataset=benchmark)
    basis = CodeBasis.from_pretrained(tmp_path)
    assert (basis.content.mean.shape, basis.mask.mean.shape) == ((3, 6), (3, 4))
