"""FactorVAE score (Kim & Mnih, ICML 2018, sec. 4): which dimension stands still when one factor does?

For a batch in which one factor is fixed, the dimension with the least variance, relative to its variance over the
data, casts a vote for that factor. A majority-vote classifier from dimension to factor is learnt on some votes; the
score is its accuracy on others.
"""

import numpy as np
from numpy.random import RandomState
from sklearn.utils import gen_batches

from .factor_grid import FactorGrid
from .representation import CodeReducer, Codes, Protocol, as_codes, varying_dims

VALUES_AT_ONCE = 4_000_000  # of float64 in one block of batches


def factor_vae_score(
    codes: Codes,
    factors: np.ndarray,
    *,
    protocol: Protocol = "fdae",
    seed: int = 0,
    num_variance: int = 10_000,
    num_train: int = 10_000,
    num_eval: int = 5_000,
    batch_size: int = 64,
) -> dict:
    """Score how surely the stillest dimension tells which factor was fixed.

    The PCA and the variances come from one draw of `num_variance` images. Dimensions that do not vary cast no votes.

    Args:
        codes: (n, K, d), scalar (n, d) or any form that `as_codes` takes, one row per image of the full grid.
        factors: (n, F) integers, the full grid in the same order.
        protocol: decides how codes are reduced, see `representation`.
        seed: of all draws.
        num_variance: images behind the PCA and the variances.
        num_train: votes the classifier is learnt from.
        num_eval: votes it is scored on.
        batch_size: images per vote.

    Returns:
        `train_accuracy` and `eval_accuracy` (the score) in [0, 1], `num_active_dims`, `train_votes` and `eval_votes`
        (F, D): how often dimension D was the stillest one under a fixed factor F.

    Raises:
        ValueError: if `factors` is no full grid, shapes disagree or no dimension varies.
    """
    table = as_codes(codes)
    grid = FactorGrid(factors, len(table))
    random_state = RandomState(seed)
    rows = grid.rows(grid.draw(num_variance, random_state, batch_size=num_variance))
    dims = CodeReducer(protocol).fit(table[rows]).transform(table)  # (n, D)
    active = varying_dims(dims[rows])
    variance = dims[rows].var(axis=0, ddof=1)

    def vote(num: int) -> np.ndarray:
        votes = np.zeros((len(grid.sizes), dims.shape[1]), dtype=np.int64)
        fixed, batches = grid.draw_with_fixed_factor(num, batch_size, random_state)
        for block in gen_batches(num, max(1, VALUES_AT_ONCE // (batch_size * dims.shape[1]))):
            local_variance = dims[batches[block]].var(axis=1, ddof=1)  # (votes, D)
            stillest = active[(local_variance[:, active] / variance[active]).argmin(axis=1)]
            np.add.at(votes, (fixed[block], stillest), 1)
        return votes

    train_votes, eval_votes = vote(num_train), vote(num_eval)
    classifier = train_votes.argmax(axis=0)
    return {
        "train_accuracy": float(train_votes.max(axis=0).sum() / num_train),
        "eval_accuracy": float(eval_votes[classifier, np.arange(dims.shape[1])].sum() / num_eval),
        "num_active_dims": len(active),
        "train_votes": train_votes,
        "eval_votes": eval_votes,
    }
