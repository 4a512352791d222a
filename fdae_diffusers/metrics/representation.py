"""What the metrics look at: the codes reduced one by one, and their discrete values.

A representation is K codes per image: an array (n, K, d), `FDAECodes`, or a list of K arrays (n, d_k) where the codes
differ in size. Scalar codes (n, d) count as d codes of one dimension.

| protocol | reduction of the codes | discrete values | DCI's classifier |
| --- | --- | --- | --- |
| `fdae` | PCA per code to floor(36 / K) components | 20 K-means clusters per code | gradient boosting |
| `scalar` | none: every dimension counts as a code | histogram of 20 bins | gradient boosting |
| `fast` | as `fdae` | as `fdae` | random forest: **not comparable with published numbers** |

`fdae` is the protocol of the code released with Wu & Zheng (AAAI 2024), `scalar` that of disentanglement_lib
(Locatello et al., ICML 2019). A single code (K = 1) has no second-best to compare with, and codes of one dimension
need no PCA: both follow the rules of `scalar` under every protocol.

K-means starts from `random_state=0` whatever the seed of the draws, as in the released code; histograms have no seed.
So a seed changes the draws and the classifiers, and the spread over seeds is theirs.
"""

import warnings
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

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


class CodeTable:
    """K codes of n images; each code may have a size of its own.

    Args:
        codes: K arrays (n, d_k).
    """

    def __init__(self, codes: Sequence[np.ndarray]):
        self.codes = list(codes)
        shapes = [code.shape for code in self.codes]
        if not shapes or any(len(shape) != 2 or 0 in shape or shape[0] != shapes[0][0] for shape in shapes):
            raise ValueError(f"codes must be K filled arrays (n, d_k) of the same n, got shapes {shapes}")

    @property
    def sizes(self) -> tuple[int, ...]:
        """The dimensions d_1, ..., d_K of the codes."""
        return tuple(code.shape[1] for code in self.codes)

    def __len__(self) -> int:
        return len(self.codes[0])

    def __getitem__(self, rows: Any) -> "CodeTable":
        """Return the codes of the images at `rows`, a slice or integers (m,)."""
        return CodeTable([code[rows] for code in self.codes])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return codes of one size as an array (n, K, d)."""
        return np.stack(self.codes, axis=1).astype(dtype or self.codes[0].dtype, copy=False)


Codes: TypeAlias = Any  # what `as_codes` takes: an array, a list of arrays, FDAECodes or a CodeTable


class CodeReducer(TransformerMixin, BaseEstimator):
    """Reduce codes to the dimensions a protocol scores, (n, D) in float64: code after code, p_k dimensions of each.

    The PCA is exact and not whitened; without PCA, every dimension of every code stands alone.

    Args:
        protocol: `fdae`, `scalar` or `fast`.
        num_components: p of the PCA in place of floor(36 / K); at most d_k are kept.

    Attributes:
        components_: p_k of each code the discrete values are of, after `fit`; they add up to D.

    Raises:
        ValueError: from `fit`, for an unknown protocol, codes of another rank, or K > 36 codes to be reduced by PCA.
    """

    def __init__(self, protocol: Protocol = "fdae", num_components: int | None = None):
        self.protocol = protocol
        self.num_components = num_components

    def fit(self, codes: Codes, y: None = None) -> "CodeReducer":
        """Fit one PCA per code, see `as_codes` for what is taken."""
        table = as_codes(codes)
        self.components_ = components_per_code(self.protocol, table.sizes, self.num_components)
        self.pcas_ = []
        if not _per_dimension(self.protocol, table.sizes):
            with np.errstate(invalid="ignore"):  # a constant code has no variance to explain
                self.pcas_ = [
                    PCA(components, svd_solver="full").fit(code.astype(np.float64))
                    for code, components in zip(table.codes, self.components_, strict=True)
                ]
        return self

    def transform(self, codes: Codes) -> np.ndarray:
        """Return the reduced codes, (n, D) in float64; NaN and infinity raise a ValueError."""
        table = as_codes(codes)
        if self.pcas_:
            reduced = np.concatenate([self._project(table[rows]) for rows in gen_batches(len(table), ROWS_AT_ONCE)])
        else:
            reduced = np.concatenate(table.codes, axis=1).astype(np.float64)
        if not np.isfinite(reduced).all():
            raise ValueError("codes contain NaN or infinity")
        return reduced

    def discretize(self, reduced: np.ndarray, seed: int = 0) -> np.ndarray:
        """Return one integer per code, (n, K): its K-means cluster; without PCA the bin of each dimension, (n, D).

        K-means runs once per code (`n_init=1`, scikit-learn's default since 1.4 and what the released code gives with
        it; ten runs, the default before, give other clusters and another MIG).

        Args:
            reduced: (n, D) from `transform`.
            seed: `random_state` of every K-means; the released code's is always 0.
        """
        if not self.pcas_:
            return histogram_bins(reduced)
        codes = np.split(reduced, np.cumsum(self.components_)[:-1], axis=1)
        with warnings.catch_warnings():  # codes of fewer than 20 distinct values fill fewer clusters
            warnings.simplefilter("ignore", ConvergenceWarning)
            return np.stack([KMeans(NUM_BINS, n_init=1, random_state=seed).fit_predict(v) for v in codes], axis=1)

    def _project(self, table: CodeTable) -> np.ndarray:
        projected = [pca.transform(code.astype(np.float64)) for pca, code in zip(self.pcas_, table.codes, strict=True)]
        return np.concatenate(projected, axis=1)


class ReducedSplit(NamedTuple):
    """Training and test images as the classifiers of a metric see them."""

    x_train: np.ndarray  # (n, D), reduced codes
    y_train: np.ndarray  # (n, F)
    x_test: np.ndarray  # (m, D)
    y_test: np.ndarray  # (m, F)
    reducer: CodeReducer  # fitted on the training images


def reduce_split(
    train_codes: Codes,
    train_factors: np.ndarray,
    test_codes: Codes,
    test_factors: np.ndarray,
    protocol: Protocol,
) -> ReducedSplit:
    """Check codes and factors of training and test images, and reduce the codes."""
    train, test = as_codes(train_codes), as_codes(test_codes)
    y_train, y_test = as_factors(train_factors, len(train)), as_factors(test_factors, len(test))
    reducer = CodeReducer(protocol).fit(train)
    x_train, x_test = reducer.transform(train), reducer.transform(test)
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


def describe(protocol: Protocol, sizes: Sequence[int]) -> str:
    """Say in words what a protocol does with K codes of `sizes` d_1, ..., d_K.

    Raises:
        ValueError: for an unknown protocol, or K > 36 codes to be reduced by PCA.
    """
    forest = "DCI by a random forest: not comparable with published numbers"
    classifier = forest if protocol == "fast" else "DCI by gradient boosting"
    components = components_per_code(protocol, sizes)
    if _per_dimension(protocol, sizes):
        why = "a single code has no second-best, so " if len(sizes) == 1 and protocol != "scalar" else ""
        reduction = f"{why}each of the {len(components)} dimensions by itself, no PCA"
        return f"{reduction}; histograms of {NUM_BINS} bins; {classifier}"
    kinds = dict.fromkeys(f"{kept} of {size}" for kept, size in zip(components, sizes, strict=True))
    reduction = f"{len(sizes)} codes, PCA of each to {' or '.join(kinds)} dimensions"
    return f"{reduction}; {NUM_BINS} K-means clusters; {classifier}"


def components_per_code(protocol: Protocol, sizes: Sequence[int], chosen: int | None = None) -> list[int]:
    """Return how many dimensions of each code a protocol scores; without PCA, each dimension counts as a code.

    Args:
        protocol: `fdae`, `scalar` or `fast`.
        sizes: d_1, ..., d_K.
        chosen: components of each PCA in place of floor(36 / K).

    Raises:
        ValueError: for an unknown protocol, or K > 36 codes to be reduced by PCA.
    """
    if _per_dimension(protocol, sizes):
        return [1] * sum(sizes)
    components = chosen or TOTAL_COMPONENTS // len(sizes)
    if components < 1:
        raise ValueError(f"{len(sizes)} codes cannot share {TOTAL_COMPONENTS} principal components")
    return [min(components, size) for size in sizes]


def as_codes(codes: Codes) -> CodeTable:
    """Return codes of any form as a table of K codes.

    Args:
        codes: An array (n, K, d); scalar codes (n, d), d codes of one dimension; a list of K arrays (n, d_k); or
            `FDAECodes`, whose N content codes come first, then the N mask codes.

    Raises:
        ValueError: if it is nothing of these, or empty.
    """
    if isinstance(codes, CodeTable):
        return codes
    if hasattr(codes, "content"):
        kinds = [codes.content] if codes.mask is None else [codes.content, codes.mask]
        arrays = [np.asarray(kind) for kind in kinds]  # (n, N, d) each
        return CodeTable([array[:, concept] for array in arrays for concept in range(array.shape[1])])
    if isinstance(codes, list | tuple) and codes and all(np.ndim(code) == 2 for code in codes):
        return CodeTable([np.asarray(code) for code in codes])
    array = np.asarray(codes)
    if array.ndim not in (2, 3) or array.size == 0:
        raise ValueError(f"codes must be a filled (n, K, d) or (n, d) array, got shape {array.shape}")
    array = array if array.ndim == 3 else array[:, :, None]
    return CodeTable([array[:, code] for code in range(array.shape[1])])


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


def _per_dimension(protocol: Protocol, sizes: Sequence[int]) -> bool:
    if protocol not in get_args(Protocol):
        raise ValueError(f"protocol must be one of {get_args(Protocol)}, got {protocol!r}")
    return protocol == "scalar" or len(sizes) == 1 or max(sizes) == 1
