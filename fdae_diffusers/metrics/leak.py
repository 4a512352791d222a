"""Leak: what content codes know of where things are, and mask codes of what they look like.

Scores such as DCI do not ask which kind of code holds a factor: a model whose masks paint the colours can score high.
Here every factor is predicted from every code alone, and from all codes of a kind, by extremely randomised trees
(Geurts et al. 2006), which need no scaling and see curved manifolds. Skill is accuracy between chance and perfection,
(accuracy - c) / (1 - c), with c the share of the most frequent value: 0 is guessing, 1 is knowing.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.ensemble import ExtraTreesClassifier

from .representation import Codes, Protocol, as_codes

NUM_TREES = 100


def leak(
    train_codes: Codes,
    train_factors: np.ndarray,
    test_codes: Codes,
    test_factors: np.ndarray,
    *,
    num_concepts: int,
    seed: int = 0,
    n_jobs: int | None = -1,
) -> dict[str, Any]:
    """Predict each factor from each code, and from all content and all mask codes.

    Args:
        train_codes: Codes of n images, as `as_codes` takes them: N content codes, then N mask codes, if there are any.
        train_factors: (n, F) integers.
        test_codes: Codes of m other images, alike.
        test_factors: (m, F).
        num_concepts: N.
        seed: Seed of the trees.
        n_jobs: Trees grown at a time; -1 means all cores. Results do not depend on it.

    Returns:
        `skill` (K, F): from each code alone; `content` and `mask` (F,): from all codes of that kind, `mask` NaN
        where there are none.

    Raises:
        ValueError: If the numbers of codes, images and concepts do not fit together.
    """
    train, test = as_codes(train_codes).codes, as_codes(test_codes).codes
    if len(train) != len(test) or len(train) not in (num_concepts, 2 * num_concepts):
        raise ValueError(f"{num_concepts} concepts have that many codes or twice as many, not {len(train)}")
    if len(train[0]) != len(train_factors) or len(test[0]) != len(test_factors):
        raise ValueError("there must be a row of factors for each image")

    def skill(codes: slice) -> np.ndarray:
        x_train, x_test = np.concatenate(train[codes], axis=1), np.concatenate(test[codes], axis=1)
        return np.array(
            [
                _skill(x_train, y_train, x_test, y_test, seed, n_jobs)
                for y_train, y_test in zip(np.asarray(train_factors).T, np.asarray(test_factors).T, strict=True)
            ]
        )

    has_masks = len(train) > num_concepts
    content = skill(slice(num_concepts))
    return {
        "skill": np.stack([skill(slice(code, code + 1)) for code in range(len(train))]),
        "content": content,
        "mask": skill(slice(num_concepts, None)) if has_masks else np.full_like(content, np.nan),
    }


def leak_scores(content: np.ndarray, mask: np.ndarray, appearance: Sequence[bool]) -> dict[str, float]:
    """Sum a leak up in two numbers.

    Args:
        content: (F,), skill of all content codes.
        mask: (F,), skill of all mask codes.
        appearance: (F,), whether a factor is what things look like; the others are where they are and in which pose.

    Returns:
        `content_leak`: mean skill of the content codes at factors of place and pose; `mask_leak`: mean skill of the
        mask codes at factors of appearance; NaN where there is no such factor.
    """
    looks = np.asarray(appearance, bool)
    return {
        "content_leak": float(content[~looks].mean()) if (~looks).any() else float("nan"),
        "mask_leak": float(mask[looks].mean()) if looks.any() else float("nan"),
    }


def leak_metric(
    train_codes: Codes,
    train_factors: np.ndarray,
    test_codes: Codes,
    test_factors: np.ndarray,
    *,
    protocol: Protocol,
    num_concepts: int | None,
    appearance: Sequence[bool] | None,
    seed: int,
    n_jobs: int | None,
) -> dict[str, Any]:
    """Return what `leak` and `leak_scores` do, for the suite; the same under every protocol.

    Raises:
        ValueError: If it is not told how many concepts there are, or which factors are of appearance.
    """
    if num_concepts is None or appearance is None:
        raise ValueError("leak needs the number of concepts, and which factors are of appearance")
    result = leak(
        train_codes, train_factors, test_codes, test_factors, num_concepts=num_concepts, seed=seed, n_jobs=n_jobs
    )
    return {**leak_scores(result["content"], result["mask"], appearance), **result}


def _skill(
    x_train: np.ndarray, y_train: np.ndarray, x_test: np.ndarray, y_test: np.ndarray, seed: int, n_jobs: int | None
) -> float:
    trees = ExtraTreesClassifier(NUM_TREES, random_state=seed, n_jobs=n_jobs).fit(x_train, y_train)
    chance = np.unique(y_test, return_counts=True)[1].max() / len(y_test)
    if chance == 1:
        return float("nan")
    return float(((trees.predict(x_test) == y_test).mean() - chance) / (1 - chance))
