"""Mutual information gap (Chen et al., NeurIPS 2018) of factors and, without labels, of the codes themselves.

With discrete values q_k of the codes and I the mutual information:

    MIG      = mean over factors v of (I(q_1st; v) - I(q_2nd; v)) / H(v)
    self-MIG = max over codes i of (H(q_i) - max_{j != i} I(q_i; q_j)) / H(q_i)       (FDAE, eq. 13)
"""

import numpy as np
from sklearn.metrics import mutual_info_score

from .representation import CodeReducer, Codes, Protocol, as_codes, as_factors


def mig(codes: Codes, factors: np.ndarray, *, protocol: Protocol = "fdae", seed: int = 0) -> dict:
    """Score how much more the best code tells about a factor than the second-best does.

    Args:
        codes: (n, K, d), scalar (n, d) or any form that `as_codes` takes, at least two codes or dimensions.
        factors: (n, F) integers.
        protocol: decides how codes become discrete, see `representation`.
        seed: `random_state` of K-means; 0 in the released code and in `evaluate_codes`, whatever their seed.

    Returns:
        `mig` in [0, 1], `gaps` (F,), `mutual_information` (K, F) in nats and `entropy` (F,) of the factors.

    Raises:
        ValueError: if shapes disagree, a factor is constant or there is only one code to compare.
    """
    table = as_codes(codes)
    factors = as_factors(factors, len(table))
    information = mutual_information(_discrete_codes(table, protocol, seed), factors)
    entropy = np.array([mutual_info_score(v, v) for v in factors.T])
    second, first = np.sort(information, axis=0)[-2:]
    gaps = (first - second) / entropy
    return {"mig": float(gaps.mean()), "gaps": gaps, "mutual_information": information, "entropy": entropy}


def self_mig(codes: Codes, *, protocol: Protocol = "fdae", seed: int = 0) -> dict:
    """Score how much of a code no other code repeats; it needs no labels and serves to choose the number of concepts.

    Args:
        codes: (n, K, d), scalar (n, d) or any form that `as_codes` takes, at least two codes or dimensions.
        protocol: decides how codes become discrete, see `representation`.
        seed: `random_state` of K-means; 0 in the released code and in `evaluate_codes`, whatever their seed.

    Returns:
        `self_mig` in [0, 1], `gaps` (K,), 0 for a constant code, and `mutual_information` (K, K) in nats with the
        entropies on its diagonal.

    Raises:
        ValueError: if there is only one code to compare.
    """
    discrete = _discrete_codes(codes, protocol, seed)
    information = mutual_information(discrete, discrete)
    entropy = information.diagonal()
    repeated = np.where(np.eye(len(entropy), dtype=bool), 0.0, information).max(axis=1)
    gaps = np.divide(entropy - repeated, entropy, out=np.zeros_like(entropy), where=entropy > 0)
    return {"self_mig": float(gaps.max()), "gaps": gaps, "mutual_information": information}


def mutual_information(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the mutual information in nats, (A, B), of every pair of columns of the integers a (n, A), b (n, B)."""
    return np.array([[mutual_info_score(y, x) for y in b.T] for x in a.T])


def _discrete_codes(codes: Codes, protocol: Protocol, seed: int) -> np.ndarray:
    reducer = CodeReducer(protocol)
    discrete = reducer.discretize(reducer.fit_transform(codes), seed)  # (n, K)
    if discrete.shape[1] < 2:
        raise ValueError("a gap needs at least two codes")
    return discrete
