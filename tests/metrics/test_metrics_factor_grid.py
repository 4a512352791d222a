"""Draws from a full factor grid."""

import numpy as np
import pytest
from numpy.random import RandomState

from fdae_diffusers.metrics import FactorGrid

SIZES = (4, 3, 5)
FACTORS = np.random.default_rng(0).permutation(np.stack(np.unravel_index(np.arange(60), SIZES), axis=1))


def test_rows_find_each_combination():
    grid = FactorGrid(FACTORS, 60)
    assert grid.sizes == SIZES
    np.testing.assert_array_equal(grid.rows(FACTORS), np.arange(60))


def test_values_need_not_start_at_zero():
    np.testing.assert_array_equal(FactorGrid(10 * FACTORS + 7, 60).rows(FACTORS), np.arange(60))


def test_draws_take_one_randint_per_factor_in_batches():
    drawn = FactorGrid(FACTORS, 60).draw(20, RandomState(0))
    random_state = RandomState(0)
    expected = [np.stack([random_state.randint(size, size=count) for size in SIZES], axis=1) for count in (16, 4)]
    np.testing.assert_array_equal(drawn, np.concatenate(expected))


def test_batches_fix_one_factor():
    fixed, rows = FactorGrid(FACTORS, 60).draw_with_fixed_factor(30, 8, RandomState(0))
    for factor, batch in zip(fixed, FACTORS[rows], strict=True):
        varies = (batch != batch[0]).any(axis=0)
        assert not varies[factor]
        assert varies.sum() == 2


def test_pairs_share_one_factor():
    fixed, rows = FactorGrid(FACTORS, 60).draw_pairs_with_fixed_factor(30, 8, RandomState(0))
    for factor, (one, two) in zip(fixed, FACTORS[rows], strict=True):
        np.testing.assert_array_equal(one[:, factor], two[:, factor])
        assert (one != two).any()


@pytest.mark.parametrize("factors", [FACTORS[:, 0], np.empty((0, 3), dtype=int), FACTORS / 2])
def test_factors_must_be_an_integer_matrix(factors):
    with pytest.raises(ValueError, match=r"integers of shape \(60, F\)"):
        FactorGrid(factors, 60)
