"""Interventional robustness score (Suter et al., ICML 2019).

With a factor held at a value, a robust dimension hardly leaves its mean, however the other factors vary. For dimension
i and factor v

    IRS[i, v] = 1 - (mean over values of the 99 % quantile of |z_i - E[z_i | v]|) / max |z_i - E[z_i]|,

and the score is the mean of max_v IRS[i, v] over dimensions, weighted by their largest deviation.
"""

import numpy as np

from .representation import CodeReducer, Codes, Protocol, as_codes, as_factors, histogram_bins, varying_dims


def irs(codes: Codes, factors: np.ndarray, *, protocol: Protocol = "fdae", quantile: float = 0.99) -> dict:
    """Score how little a dimension moves while its own factor stands still.

    Args:
        codes: (n, K, d), scalar (n, d) or any form that `as_codes` takes.
        factors: (n, F) integers; more than 20 values are merged into 20 bins, as in disentanglement_lib.
        protocol: decides how codes are reduced, see `representation`.
        quantile: of the deviations within a value, in (0, 1]; the paper takes the largest, 1.

    Returns:
        `irs` in [0, 1], `matrix` (active D, F) and `num_active_dims`: dimensions that do not vary are left out.

    Raises:
        ValueError: if shapes disagree, a factor is constant or no dimension varies.
    """
    table = as_codes(codes)
    factors = histogram_bins(as_factors(factors, len(table)))
    dims = CodeReducer(protocol).fit_transform(table)
    dims = dims[:, varying_dims(dims)]
    largest = np.abs(dims - dims.mean(axis=0)).max(axis=0)

    def deviation(factor: np.ndarray) -> np.ndarray:
        groups = [dims[factor == value] for value in np.unique(factor)]
        return np.mean([np.quantile(np.abs(z - z.mean(axis=0)), quantile, axis=0) for z in groups], axis=0)

    matrix = 1 - np.stack([deviation(factor) for factor in factors.T], axis=1) / largest[:, None]
    score = float(np.average(matrix.max(axis=1), weights=largest))
    return {"irs": score, "matrix": matrix, "num_active_dims": dims.shape[1]}
