"""What the metrics look at: the codes reduced one by one, and their discrete values.

A representation is an array of K codes per image, (n, K, d); scalar codes (n, d) count as d codes of one dimension.

| protocol | reduction of the codes | discrete values | DCI's classifier |
| --- | --- | --- | --- |
| `fdae` | PCA per code to floor(36 / K) components | 20 K-means clusters per code | gradient boosting |
| `scalar` | none: every dimension counts as a code | histogram of 20 bins | gradient boosting |
| `fast` | as `fdae` | as `fdae` | random forest: **not comparable with published numbers** |

`fdae` is the protocol of the code released with Wu & Zheng (AAAI 2024), `scalar` that of disentanglement_lib
(Locatello et al., ICML 2019). A single code (K = 1) has no second-best to compare with, and codes of one dimension
need no PCA: both follow the rules of `scalar` under every protocol.
"""

import warnings
from typing import Literal, NamedTuple, get_args

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import gen_batches

Protocol = Literal["fdae", "scalar", "fast"]
TOTAL_COMPONENTS = 36
NUM_BINS = 20
ROWS_AT_ONCE = 16_384


class CodeReducer(TransformerMixin, BaseEstimator):
    """Reduce codes (n, K, d) or (n, d) to the dimensions a protocol scores, (n, K', p) in float64.

    The PCA is exact and not whitened; without PCA, K' = K d and p = 1.

    Args:
        protocol: `fdae`, `scalar` or `fast`.
        num_components: p of the PCA in place of floor(36 / K); at most d are kept.

    Raises:
        ValueError: from `fit`, for an unknown protocol, codes of another rank, or K > 36 codes to be reduced by PCA.
    """

    def __init__(self, protocol: Protocol = "fdae", num_components: int | None = None):
        self.protocol = protocol
        self.num_components = num_components

    def fit(self, codes: np.ndarray, y: None = None) -> "CodeReducer":
        """Fit one PCA per code on `codes`, (n, K, d) or (n, d)."""
        codes = as_codes(codes)
        num_codes, dim = codes.shape[1:]
        self.pcas_ = []
        if not _per_dimension(self.protocol, num_codes, dim):
            components = _num_components(num_codes, dim, self.num_components)
            with np.errstate(invalid="ignore"):  # a constant code has no variance to explain
                self.pcas_ = [
                    PCA(components, svd_solver="full").fit(codes[:, k].astype(np.float64)) for k in range(num_codes)
                ]
        return self

    def transform(self, codes: np.ndarray) -> np.ndarray:
        """Return the reduced codes, (n, K', p) in float64; NaN and infinity raise a ValueError."""
        codes = as_codes(codes)
        if self.pcas_:
            reduced = np.concatenate([self._project(codes[rows]) for rows in gen_batches(len(codes), ROWS_AT_ONCE)])
        else:
            reduced = codes.reshape(len(codes), -1, 1).astype(np.float64)
        if not np.isfinite(reduced).all():
            raise ValueError("codes contain NaN or infinity")
        return reduced

    def discretize(self, reduced: np.ndarray, seed: int = 0) -> np.ndarray:
        """Return one integer per code, (n, K'): its K-means cluster after a PCA, else its histogram bin.

        K-means runs once per code (`n_init=1`, scikit-learn's default since 1.4 and what the released code gives with
        it; ten runs, the default before, give other clusters and another MIG).

        Args:
            reduced: (n, K', p) from `transform`, or its rows flattened to (n, K' p).
            seed: `random_state` of every K-means.
        """
        if not self.pcas_:
            return histogram_bins(reduced.reshape(len(reduced), -1))
        codes = np.split(reduced.reshape(len(reduced), -1), len(self.pcas_), axis=1)
        with warnings.catch_warnings():  # codes of fewer than 20 distinct values fill fewer clusters
            warnings.simplefilter("ignore", ConvergenceWarning)
            return np.stack([KMeans(NUM_BINS, n_init=1, random_state=seed).fit_predict(v) for v in codes], axis=1)

    def _project(self, codes: np.ndarray) -> np.ndarray:
        return np.stack([pca.transform(codes[:, k].astype(np.float64)) for k, pca in enumerate(self.pcas_)], axis=1)


class ReducedSplit(NamedTuple):
    """Training and test images as the classifiers of a metric see them."""

    x_train: np.ndarray  # (n, D), reduced codes
    y_train: np.ndarray  # (n, F)
    x_test: np.ndarray  # (m, D)
    y_test: np.ndarray  # (m, F)
    reducer: CodeReducer  # fitted on the training images


def reduce_split(
    train_codes: np.ndarray,
    train_factors: np.ndarray,
    test_codes: np.ndarray,
    test_factors: np.ndarray,
    protocol: Protocol,
) -> ReducedSplit:
    """Check codes and factors of training and test images, and reduce the codes."""
    y_train, y_test = as_factors(train_factors, len(train_codes)), as_factors(test_factors, len(test_codes))
    reducer = CodeReducer(protocol).fit(train_codes)
    x_train, x_test = (reducer.transform(codes).reshape(len(codes), -1) for codes in (train_codes, test_codes))
    if x_train.shape[1] < 2 or y_train.shape[1] < 2:
        raise ValueError("at least two dimensions and two factors are needed to compare them")
    return ReducedSplit(x_train, y_train, x_test, y_test, reducer)


def histogram_bins(values: np.ndarray) -> np.ndarray:
    """Return the bin, 1 to 20, of each value in the histogram of its column of `values` (n, D)."""
    return np.stack([np.digitize(v, np.histogram_bin_edges(v, NUM_BINS)[:-1]) for v in values.T], axis=1)


def varying_dims(dims: np.ndarray) -> np.ndarray:
    """Return the indices of the columns of `dims` (n, D) that vary by more than rounding; none at all is an error."""
    varying = np.flatnonzero(dims.std(axis=0) > 1e-12 * np.abs(dims).max())
    if not len(varying):
        raise ValueError("no dimension of the codes varies over the images")
    return varying


def describe(protocol: Protocol, num_codes: int, dim: int) -> str:
    """Say in words what a protocol does with K = `num_codes` codes of `dim` dimensions.

    Raises:
        ValueError: for an unknown protocol, or K > 36 codes to be reduced by PCA.
    """
    forest = "DCI by a random forest: not comparable with published numbers"
    classifier = forest if protocol == "fast" else "DCI by gradient boosting"
    if _per_dimension(protocol, num_codes, dim):
        why = "a single code has no second-best, so " if num_codes == 1 and protocol != "scalar" else ""
        reduction = f"{why}each of the {num_codes * dim} dimensions by itself, no PCA"
        return f"{reduction}; histograms of {NUM_BINS} bins; {classifier}"
    reduction = f"{num_codes} codes, PCA of each to {_num_components(num_codes, dim)} of {dim} dimensions"
    return f"{reduction}; {NUM_BINS} K-means clusters; {classifier}"


def _num_components(num_codes: int, dim: int, chosen: int | None = None) -> int:
    components = min(chosen or TOTAL_COMPONENTS // num_codes, dim)
    if components < 1:
        raise ValueError(f"{num_codes} codes cannot share {TOTAL_COMPONENTS} principal components")
    return components


def as_codes(codes: np.ndarray) -> np.ndarray:
    """Return codes as (n, K, d); scalar codes (n, d) become (n, d, 1)."""
    codes = np.asarray(codes)
    if codes.ndim not in (2, 3) or codes.size == 0:
        raise ValueError(f"codes must be a filled (n, K, d) or (n, d) array, got shape {codes.shape}")
    return codes if codes.ndim == 3 else codes[:, :, None]


def as_factors(factors: np.ndarray, num_rows: int) -> np.ndarray:
    """Return integer factors (n, F) after checking that n equals `num_rows` and that each of them varies."""
    factors = np.asarray(factors)
    if factors.ndim != 2 or len(factors) != num_rows or not np.issubdtype(factors.dtype, np.integer):
        raise ValueError(
            f"factors must be integers of shape ({num_rows}, F), a row per image, got {factors.dtype} {factors.shape}"
        )
    constant = np.flatnonzero((factors == factors[0]).all(axis=0))
    if len(constant):
        raise ValueError(f"factors {constant.tolist()} have the same value everywhere, so nothing can encode them")
    return factors


def _per_dimension(protocol: Protocol, num_codes: int, dim: int) -> bool:
    if protocol not in get_args(Protocol):
        raise ValueError(f"protocol must be one of {get_args(Protocol)}, got {protocol!r}")
    return protocol == "scalar" or num_codes == 1 or dim == 1
