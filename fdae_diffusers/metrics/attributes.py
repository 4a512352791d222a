"""Attribute prediction: which labels of real images one linear SVM per attribute reads off the content codes."""

import numpy as np
from joblib import Parallel, delayed
from sklearn.model_selection import train_test_split
from sklearn.svm import LinearSVC

from .representation import TOTAL_COMPONENTS, CodeReducer, as_codes


def attribute_accuracy(
    content_codes: np.ndarray,
    attributes: np.ndarray,
    *,
    num_components: int | None = None,
    test_fraction: float = 0.2,
    is_test: np.ndarray | None = None,
    seed: int = 0,
    n_jobs: int | None = None,
) -> dict:
    """Predict categorical or binary attributes from PCA'd content codes.

    Args:
        content_codes: (n, N, d), one row per image. A single code (N = 1) is used as it is.
        attributes: (n, A), integers, booleans or strings.
        num_components: principal components per code; unless given floor(36 / 2N) and at least 1, the content codes'
            share under the protocol `fdae`.
        test_fraction: share of the images held out, in (0, 1). PCA and SVMs see the others only.
        is_test: (n,) booleans, the images held out, instead of a random share.
        seed: of the split and the SVMs.
        n_jobs: attributes fitted at a time, in threads; -1 means all cores.

    Returns:
        `accuracy` (A,) on the held-out images, its mean `mean_accuracy`, and `majority_rate` (A,), what always
        guessing the most frequent training value would reach.

    Raises:
        ValueError: if shapes disagree or an attribute has one value only among the training images.
    """
    codes, attributes = as_codes(content_codes), np.asarray(attributes)
    if attributes.ndim != 2 or len(attributes) != len(codes):
        raise ValueError(f"attributes must have shape ({len(codes)}, A), got {attributes.shape}")
    if is_test is None:
        train, test = train_test_split(np.arange(len(codes)), test_size=test_fraction, random_state=seed)
    else:
        train, test = np.flatnonzero(~is_test), np.flatnonzero(is_test)
    constant = np.flatnonzero((attributes[train] == attributes[train[0]]).all(axis=0))
    if len(constant):
        raise ValueError(f"attributes {constant.tolist()} have one value only among the training images")

    num_components = num_components or max(1, TOTAL_COMPONENTS // (2 * len(codes.sizes)))
    reducer = CodeReducer(num_components=num_components).fit(codes[train])
    x_train, x_test = (reducer.transform(codes[rows]) for rows in (train, test))
    scores = Parallel(n_jobs, prefer="threads")(
        delayed(_predict)(x_train, labels[train], x_test, labels[test], seed) for labels in attributes.T
    )
    accuracy, majority_rate = np.array(scores).T
    return {"accuracy": accuracy, "mean_accuracy": float(accuracy.mean()), "majority_rate": majority_rate}


def _predict(
    x_train: np.ndarray, y_train: np.ndarray, x_test: np.ndarray, y_test: np.ndarray, seed: int
) -> tuple[float, float]:
    values, counts = np.unique(y_train, return_counts=True)
    svm = LinearSVC(random_state=seed).fit(x_train, y_train)
    return svm.score(x_test, y_test), float(np.mean(y_test == values[counts.argmax()]))
