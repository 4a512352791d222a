"""Separated attribute predictability (Kumar et al., ICLR 2018, sec. 3), for categorical factors.

SAP = mean over factors of the gap between the two dimensions from which a linear SVM predicts the factor best.
"""

import numpy as np
from joblib import Parallel, delayed
from sklearn.svm import LinearSVC

from .representation import Codes, Protocol, reduce_split


def sap(
    train_codes: Codes,
    train_factors: np.ndarray,
    test_codes: Codes,
    test_factors: np.ndarray,
    *,
    protocol: Protocol = "fdae",
    seed: int = 0,
    n_jobs: int | None = None,
) -> dict:
    """Score how much better the best dimension predicts a factor than the second-best does.

    Args:
        train_codes: (n, K, d), scalar (n, d) or any form that `as_codes` takes.
        train_factors: (n, F) integers.
        test_codes: of the same form, m images.
        test_factors: (m, F) integers.
        protocol: decides how codes are reduced, see `representation`.
        seed: of the SVMs.
        n_jobs: factors fitted at a time, in threads; -1 means all cores.

    Returns:
        `sap` in [0, 1] and `accuracy` (D, F) of each dimension alone.

    Raises:
        ValueError: if shapes disagree, a factor is constant, or there is only one factor or dimension.
    """
    x_train, y_train, x_test, y_test, _ = reduce_split(train_codes, train_factors, test_codes, test_factors, protocol)
    columns = Parallel(n_jobs, prefer="threads")(
        delayed(_accuracy_per_dimension)(x_train, train_values, x_test, test_values, seed)
        for train_values, test_values in zip(y_train.T, y_test.T, strict=True)
    )
    accuracy = np.stack(columns, axis=1)
    second, first = np.sort(accuracy, axis=0)[-2:]
    return {"sap": float((first - second).mean()), "accuracy": accuracy}


def _accuracy_per_dimension(
    x_train: np.ndarray, y_train: np.ndarray, x_test: np.ndarray, y_test: np.ndarray, seed: int
) -> np.ndarray:
    def accuracy(i: int) -> float:
        svm = LinearSVC(C=0.01, class_weight="balanced", random_state=seed).fit(x_train[:, [i]], y_train)
        return svm.score(x_test[:, [i]], y_test)

    return np.array([accuracy(i) for i in range(x_train.shape[1])])
