"""Modularity and explicitness (Ridgeway & Mozer, NeurIPS 2018).

With the mutual information I of K discrete codes and F factors, and v* the factor code k tells most about:

    modularity = mean over codes k of 1 - (sum_{v != v*} I(q_k; v)^2) / ((F - 1) I(q_k; v*)^2),   0 for idle codes

and explicitness is the area under the ROC curve, one value against the rest, of logistic regression from all
dimensions to a factor, averaged over values and factors.
"""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from .mig import mutual_information
from .representation import Codes, Protocol, reduce_split


def modularity_explicitness(
    train_codes: Codes,
    train_factors: np.ndarray,
    test_codes: Codes,
    test_factors: np.ndarray,
    *,
    protocol: Protocol = "fdae",
    seed: int = 0,
) -> dict:
    """Score whether each code follows one factor, and whether the factors can be read off linearly.

    Args:
        train_codes: (n, K, d), scalar (n, d) or any form that `as_codes` takes.
        train_factors: (n, F) integers.
        test_codes: of the same form, m images.
        test_factors: (m, F) integers.
        protocol: decides how codes are reduced and become discrete, see `representation`.
        seed: `random_state` of K-means; 0 in `evaluate_codes`.

    Returns:
        `modularity`, `explicitness_train` and `explicitness_test`, all in [0, 1]; explicitness is .5 by chance.

    Raises:
        ValueError: if shapes disagree, a factor is constant, or there is only one factor or dimension.
    """
    x_train, y_train, x_test, y_test, reducer = reduce_split(
        train_codes, train_factors, test_codes, test_factors, protocol
    )
    information = mutual_information(reducer.discretize(x_train, seed), y_train)
    areas = [
        _areas_under_roc(x_train, train_values, x_test, test_values)
        for train_values, test_values in zip(y_train.T, y_test.T, strict=True)
    ]
    explicitness_train, explicitness_test = np.mean(areas, axis=0)
    return {
        "modularity": _modularity(information),
        "explicitness_train": float(explicitness_train),
        "explicitness_test": float(explicitness_test),
    }


def _modularity(information: np.ndarray) -> float:
    squared = information**2  # (K, F)
    best = squared.max(axis=1)
    others = (squared.sum(axis=1) - best) / (squared.shape[1] - 1)
    return float((1 - np.divide(others, best, out=np.ones_like(best), where=best > 0)).mean())


def _areas_under_roc(
    x_train: np.ndarray, y_train: np.ndarray, x_test: np.ndarray, y_test: np.ndarray
) -> tuple[float, float]:
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000)).fit(x_train, y_train)

    def area(x: np.ndarray, y: np.ndarray) -> float:
        drawn = y[:, None] == classifier.classes_  # (n, values)
        present = drawn.any(axis=0)
        return roc_auc_score(drawn[:, present], classifier.predict_proba(x)[:, present])

    return area(x_train, y_train), area(x_test, y_test)
