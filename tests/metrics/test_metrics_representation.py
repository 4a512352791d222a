"""Per-code reduction and discrete values."""

import numpy as np
import pytest
import torch

from fdae_diffusers.codes import FDAECodes
from fdae_diffusers.metrics.representation import CodeReducer, as_codes, describe

CODES = np.random.default_rng(0).standard_normal((100, 12, 10))


@pytest.mark.parametrize(
    ("protocol", "shape", "components"),
    [
        ("fdae", (100, 12, 10), [3] * 12),
        ("fdae", (100, 4, 10), [9] * 4),
        ("fdae", (100, 4, 5), [5] * 4),
        ("fdae", (100, 1, 10), [1] * 10),
        ("fdae", (100, 40), [1] * 40),
        ("scalar", (100, 12, 10), [1] * 120),
        ("fast", (100, 12, 10), [3] * 12),
    ],
)
def test_codes_share_36_components_unless_dimensions_stand_alone(protocol, shape, components):
    codes = np.random.default_rng(0).standard_normal(shape)
    reducer = CodeReducer(protocol)
    out = reducer.fit_transform(codes)
    assert reducer.components_ == components
    assert out.shape == (100, sum(components))
    assert out.dtype == np.float64


def test_each_code_is_reduced_by_itself():
    changed = CODES.copy()
    changed[:, 1] = 0
    before, after = (CodeReducer().fit_transform(codes) for codes in (CODES, changed))
    np.testing.assert_array_equal(np.delete(before, [3, 4, 5], axis=1), np.delete(after, [3, 4, 5], axis=1))
    assert not after[:, 3:6].any()


def test_pca_is_not_whitened_and_centred_on_the_fitted_codes():
    reducer = CodeReducer().fit(CODES)
    deviations = reducer.transform(CODES).std(axis=0).reshape(12, 3)
    assert (np.diff(deviations, axis=1) < 0).all()
    np.testing.assert_allclose(reducer.transform(CODES.mean(axis=0, keepdims=True)), 0, atol=1e-9)


def test_codes_of_several_sizes_are_reduced_as_each_kind_by_itself():
    content, mask = CODES[:, :6, :6], CODES[:, 6:, :2]
    codes = FDAECodes(torch.from_numpy(content), torch.from_numpy(mask))
    reducer = CodeReducer()
    out = reducer.fit_transform(codes)
    assert reducer.components_ == [3] * 6 + [2] * 6
    alone = [CodeReducer(num_components=3).fit_transform(kind) for kind in (content, mask)]
    np.testing.assert_array_equal(out, np.concatenate(alone, axis=1))
    as_list = [*content.swapaxes(0, 1), *mask.swapaxes(0, 1)]
    np.testing.assert_array_equal(CodeReducer().fit_transform(as_list), out)
    assert reducer.discretize(out).shape == (100, 12)
    with pytest.raises(ValueError, match="same n"):
        as_codes([content[:, 0], mask[1:, 0]])


def test_half_precision_codes_are_reduced_in_double_precision():
    half = CODES.astype(np.float16)
    np.testing.assert_array_equal(
        CodeReducer().fit_transform(half), CodeReducer().fit_transform(half.astype(np.float64))
    )


def discretize(codes):
    reducer = CodeReducer()
    return reducer.discretize(reducer.fit_transform(codes))


def test_codes_of_a_single_component_become_clusters_as_those_of_more_do():
    outlier = np.random.default_rng(0).standard_normal((200, 20, 4))
    outlier[0] = 1000  # equal bins over its range would put all others into one
    assert all(len(set(labels)) == 20 for labels in discretize(outlier).T)


def test_vectors_become_clusters_and_scalars_bins():
    clusters = discretize(CODES)
    assert clusters.shape == (100, 12)
    assert set(clusters.ravel()) == set(range(20))
    bins = discretize(np.linspace(0, 1, 40).reshape(40, 1))
    np.testing.assert_array_equal(bins[:, 0], np.repeat(np.arange(1, 21), 2))


def test_fewer_values_than_clusters_keep_their_identity():
    values = np.random.default_rng(0).integers(3, size=50)
    labels = discretize(np.eye(3)[values][:, None].repeat(2, axis=1))[:, 0]
    assert len(set(zip(values, labels, strict=True))) == 3


def test_description_names_what_was_done():
    assert "12 codes, PCA of each to 3 of 80 dimensions; 20 K-means clusters" in describe("fdae", [80] * 12)
    assert "20 codes, PCA of each to 1 of 80 dimensions; 20 K-means clusters" in describe("fdae", [80] * 20)
    assert "no PCA" in describe("scalar", [80] * 12)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.zeros(5), "filled"),
        (np.zeros((5, 0, 3)), "filled"),
        (np.full((5, 3), np.nan), "NaN"),
        (np.zeros((5, 37, 2)), "37 codes cannot share 36"),
    ],
)
def test_unusable_codes_are_errors(codes, message):
    with pytest.raises(ValueError, match=message):
        CodeReducer().fit_transform(codes)
