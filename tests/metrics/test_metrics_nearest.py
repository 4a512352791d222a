"""Factors read off pictures by the nearest true image."""

import numpy as np
import pytest

from fdae_diffusers.metrics.nearest import read_factors, swap_effects

SIZES = (4, 5, 3)


def render(rows):
    """Images (n, 4, 4, 3) with two colours and a place: the factors act on pixels of their own."""
    top, bottom, place = np.unravel_index(rows, SIZES)
    images = np.zeros((len(rows), 4, 4, 3), np.uint8)
    images[:, :2, :, 0] = 60 * top[:, None, None]
    images[:, 2, :, 1] = 50 * bottom[:, None]
    images[np.arange(len(rows)), 3, place] = 255
    return images


def test_true_images_are_read_right_from_anywhere():
    factors = np.random.default_rng(0).integers(0, SIZES, (20, 3))
    images = render(np.ravel_multi_index(tuple(factors.T), SIZES))
    np.testing.assert_array_equal(read_factors(images, render, SIZES, np.zeros((20, 1, 3), int)), factors)


def test_noise_does_not_matter_and_groups_are_searched_together():
    factors = np.random.default_rng(1).integers(0, SIZES, (20, 3))
    images = render(np.ravel_multi_index(tuple(factors.T), SIZES)).astype(int)
    noisy = (images + np.random.default_rng(2).integers(-10, 11, images.shape)).clip(0, 255).astype(np.uint8)
    read = read_factors(noisy, render, SIZES, np.zeros((20, 2, 3), int), groups=[[0, 2], [1]])
    np.testing.assert_array_equal(read, factors)


def test_the_best_of_several_starts_counts():
    images = render(np.array([17]))
    starts = np.stack([[[3, 0, 0], np.unravel_index(17, SIZES)]])
    read = read_factors(images, render, SIZES, starts, groups=[[1]])
    np.testing.assert_array_equal(read, starts[:, 1])


def test_starts_of_another_shape_are_an_error():
    with pytest.raises(ValueError, match=r"\(2, S, 3\)"):
        read_factors(np.zeros((2, 4, 4, 3), np.uint8), render, SIZES, np.zeros((2, 3), int))


def test_swap_effects_count_pictures_that_could_change():
    sources = np.array([[0, 0, 1], [1, 1, 1], [2, 2, 1]])
    targets = np.array([[1, 0, 1], [2, 2, 1], [3, 3, 1]])
    read = np.array([[1, 0, 1], [2, 1, 1], [2, 4, 1]])
    effects = swap_effects(read, sources, targets)
    assert effects["changed"].tolist()[:2] == [pytest.approx(2 / 3), 0]
    assert effects["kept"].tolist()[:2] == [pytest.approx(1 / 3), 0.5]
    assert np.isnan(effects["changed"][2])
