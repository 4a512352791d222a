import numpy as np
import pytest

from fdae_diffusers.metrics.leak import leak, leak_scores

COLOR, POSE = 0, 1


@pytest.fixture
def data():
    """Factors colour (4 values) and pose (3 values); a content code of colour, a mask code of pose."""
    generator = np.random.default_rng(0)
    factors = np.stack([generator.integers(0, 4, 600), generator.integers(0, 3, 600)], axis=1)
    noise = generator.normal(0, 0.05, (600, 2, 2, 3))
    directions = generator.normal(size=(2, 4, 3))
    codes = np.stack([directions[factor][factors[:, factor]] for factor in (COLOR, POSE)], axis=1) + noise[:, 0]
    return codes, factors


def test_each_code_knows_its_own_factor_alone(data):
    codes, factors = data
    result = leak(codes[:400], factors[:400], codes[400:], factors[400:], num_concepts=1, n_jobs=1)
    assert result["skill"].shape == (2, 2)
    assert result["skill"][0, COLOR] > 0.97
    assert result["skill"][1, POSE] > 0.97
    assert abs(result["skill"][0, POSE]) < 0.2
    assert abs(result["skill"][1, COLOR]) < 0.2
    scores = leak_scores(result["content"], result["mask"], appearance=[True, False])
    assert max(scores.values()) < 0.2


def test_masks_that_paint_colours_leak(data):
    codes, factors = data
    painted = codes[:, [1, 0]]  # what and where have changed places
    result = leak(painted[:400], factors[:400], painted[400:], factors[400:], num_concepts=1, n_jobs=1)
    scores = leak_scores(result["content"], result["mask"], appearance=[True, False])
    assert min(scores.values()) > 0.97


def test_codes_of_two_sizes_and_no_masks(data):
    codes, factors = data
    parts = [codes[:, 0, :2], codes[:, 1]]
    result = leak(
        [part[:400] for part in parts], factors[:400], [part[400:] for part in parts], factors[400:], num_concepts=2
    )
    assert np.isnan(result["mask"]).all()
    assert result["content"].min() > 0.97  # both factors are in the two content codes
    with pytest.raises(ValueError, match="concepts"):
        leak(codes[:400], factors[:400], codes[400:], factors[400:], num_concepts=3)
