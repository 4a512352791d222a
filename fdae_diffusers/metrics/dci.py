"""Disentanglement, completeness and informativeness (Eastwood & Williams, ICLR 2018).

One classifier per factor gives the importance R[i, j] of dimension i for factor j. With P_i. = R[i] / sum_j R[i, j]
and P_.j = R[:, j] / sum_i R[i, j]:

    D = sum_i rho_i (1 - H_F(P_i.)),   C = sum_j rho_j (1 - H_D(P_.j)),   informativeness = accuracy,

where rho is the share of a row (column) in the whole matrix and H_b the entropy to base b.
"""

import numpy as np
from joblib import Parallel, delayed
from scipy.stats import entropy
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from tqdm.auto import tqdm

from .representation import Codes, Protocol, reduce_split


def dci(
    train_codes: Codes,
    train_factors: np.ndarray,
    test_codes: Codes,
    test_factors: np.ndarray,
    *,
    protocol: Protocol = "fdae",
    seed: int = 0,
    n_jobs: int | None = None,
    progress: bool = False,
) -> dict:
    """Score how far each dimension serves one factor, and each factor one dimension.

    Args:
        train_codes: (n, K, d), scalar (n, d) or any form that `as_codes` takes;
            the PCA and the classifiers are fitted on these.
        train_factors: (n, F) integers.
        test_codes: of the same form, m images.
        test_factors: (m, F) integers.
        protocol: `fdae` and `scalar`: 100 boosting stages, one tree per class and stage, learning rate 0.1. `fast`:
            a random forest of 100 trees, minutes instead of an hour for Cars3D's 183 cars, **not comparable**.
        seed: of the classifiers; boosting uses it only for ties between splits.
        n_jobs: factors fitted at a time, in threads; -1 means all cores.
        progress: show a progress bar over the factors, on a terminal.

    Returns:
        `disentanglement`, `completeness`, `informativeness_train`, `informativeness_test`, all in [0, 1], and
        `importance` (D, F), whose columns add up to 1.

    Raises:
        ValueError: if shapes disagree, a factor is constant, or there is only one factor or dimension.
    """
    x_train, y_train, x_test, y_test, _ = reduce_split(train_codes, train_factors, test_codes, test_factors, protocol)
    fits = Parallel(n_jobs, prefer="threads", return_as="generator")(
        delayed(_fit_factor)(protocol, seed, x_train, train_values, x_test, test_values)
        for train_values, test_values in zip(y_train.T, y_test.T, strict=True)
    )
    fits = tqdm(
        fits, desc="DCI", unit="factor", total=y_train.shape[1], disable=None if progress else True, leave=False
    )
    columns, train_accuracy, test_accuracy = zip(*fits, strict=True)
    importance = np.stack(columns, axis=1)
    return {
        "disentanglement": _concentration(importance),
        "completeness": _concentration(importance.T),
        "informativeness_train": float(np.mean(train_accuracy)),
        "informativeness_test": float(np.mean(test_accuracy)),
        "importance": importance,
    }


def _fit_factor(
    protocol: Protocol, seed: int, x_train: np.ndarray, y_train: np.ndarray, x_test: np.ndarray, y_test: np.ndarray
) -> tuple[np.ndarray, float, float]:
    if protocol == "fast":
        classifier = RandomForestClassifier(100, max_features=None, min_samples_leaf=5, random_state=seed)
    else:
        classifier = GradientBoostingClassifier(learning_rate=0.1, random_state=seed)
    classifier.fit(x_train, y_train)
    return classifier.feature_importances_, classifier.score(x_train, y_train), classifier.score(x_test, y_test)


def _concentration(importance: np.ndarray) -> float:
    """Return the mean of 1 - entropy of the rows, weighted by their share; 0 where nothing has any importance."""
    if not importance.any():
        return 0.0
    per_row = 1 - entropy(importance + 1e-11, base=importance.shape[1], axis=1)
    return float(np.average(per_row, weights=importance.sum(axis=1)))
