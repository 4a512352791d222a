"""beta-VAE score (Higgins et al., ICLR 2017): does a linear classifier see which factor two sets of images share?

A batch of image pairs shares one factor; the mean of |z_1 - z_2| over the batch is small where the representation
encodes it. The score is the accuracy of logistic regression from that mean to the shared factor.
"""

import numpy as np
from numpy.random import RandomState
from sklearn.linear_model import LogisticRegression

from .factor_grid import FactorGrid
from .representation import CodeReducer, Codes, Protocol, as_codes


def beta_vae_score(
    codes: Codes,
    factors: np.ndarray,
    *,
    protocol: Protocol = "fdae",
    seed: int = 0,
    num_pca: int = 10_000,
    num_train: int = 10_000,
    num_eval: int = 5_000,
    batch_size: int = 64,
) -> dict:
    """Score how well the shared factor of image pairs can be read off the differences of their codes.

    The PCA comes from a draw of its own, so that the other draws are those of disentanglement_lib.

    Args:
        codes: (n, K, d), scalar (n, d) or any form that `as_codes` takes, one row per image of the full grid.
        factors: (n, F) integers, the full grid in the same order.
        protocol: decides how codes are reduced, see `representation`.
        seed: of all draws.
        num_pca: images behind the PCA.
        num_train: batches the classifier is learnt from.
        num_eval: batches it is scored on.
        batch_size: pairs per batch.

    Returns:
        `train_accuracy` and `eval_accuracy` (the score) in [0, 1].

    Raises:
        ValueError: if `factors` is no full grid or shapes disagree.
    """
    table = as_codes(codes)
    grid = FactorGrid(factors, len(table))
    rows = grid.rows(grid.draw(num_pca, RandomState(seed)))
    dims = CodeReducer(protocol).fit(table[rows]).transform(table)  # (n, D)
    random_state = RandomState(seed)

    def draw(num: int) -> tuple[np.ndarray, np.ndarray]:
        fixed, pairs = grid.draw_pairs_with_fixed_factor(num, batch_size, random_state)
        return np.stack([np.abs(dims[one] - dims[two]).mean(axis=0) for one, two in pairs]), fixed

    train_points, train_labels = draw(num_train)
    classifier = LogisticRegression(max_iter=1_000).fit(train_points, train_labels)
    return {
        "train_accuracy": float(classifier.score(train_points, train_labels)),
        "eval_accuracy": float(classifier.score(*draw(num_eval))),
    }
