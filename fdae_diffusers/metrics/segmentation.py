"""Masks against several true parts: does each part have a concept of its own, the same one in every image?

The predicted segment of a pixel is the concept with the largest mask there. Foreground ARI is the adjusted Rand index
(Hubert and Arabie 1985) of concepts and parts over the pixels that are not background, as in the literature on
object discovery; IoU(n, p) = |S_n and T_p| / |S_n or T_p|.
"""

from typing import Any

import numpy as np
from sklearn.metrics import adjusted_rand_score


def segmentation_scores(masks: np.ndarray, parts: np.ndarray, num_parts: int, background: int | None = 0) -> dict:
    """Compare predicted masks with true parts.

    Args:
        masks: (n, N, H, W), the N concepts' shares of each pixel.
        parts: (n, H, W) integers in 0..num_parts - 1, the part that each pixel shows; an image need not show all.
        num_parts: P.
        background: The part that the foreground ARI leaves out, if there is one.

    Returns:
        `foreground_ari` and `ari` in [-.5, 1]: means over the images; the former is NaN without a background. `iou`
        (P, N): of each part and concept, mean over the images that show the part. `best_iou` in [0, 1]: the best
        concept's in each image, mean over parts and images, and `best_iou_of_part` (P,), over images alone, NaN for a
        part that no image shows; `consistent_iou`: the same if each part keeps the one
        concept that fits it best over all images; `consistency` in [0, 1]: how often an image's best concept for a
        part is that one; `concept_of_part` (P,): which it is, -1 for a part that no image shows.

    Raises:
        ValueError: If shapes or values disagree.
    """
    masks, parts = np.asarray(masks), np.asarray(parts)
    if masks.ndim != 4 or parts.shape != (len(masks), *masks.shape[2:]) or not np.issubdtype(parts.dtype, np.integer):
        raise ValueError(
            "expected masks (n, N, H, W) and integer parts (n, H, W), "
            f"got {masks.shape} and {parts.dtype} {parts.shape}"
        )
    if not parts.size or not 0 <= parts.min() <= parts.max() < num_parts:
        raise ValueError(f"parts must be 0..{num_parts - 1}")
    segments = masks.argmax(axis=1).reshape(len(masks), -1)  # (n, H W)
    parts = parts.reshape(len(masks), -1)
    ious = _ious(segments, parts, masks.shape[1], num_parts)  # (n, P, N), NaN for parts that are not shown

    shown = ~np.isnan(ious[:, :, 0])  # (n, P)
    mean_iou = np.where(shown[:, :, None], ious, 0).sum(axis=0) / shown.sum(axis=0).clip(1)[:, None]  # (P, N)
    concept_of_part = np.where(shown.any(axis=0), mean_iou.argmax(axis=1), -1)
    best = ious[shown]  # (k, N)
    own = np.broadcast_to(concept_of_part, shown.shape)[shown]  # (k,)
    kept = np.take_along_axis(best, own[:, None], axis=1)[:, 0]
    pairs = list(zip(parts, segments, strict=True))
    scores: dict[str, Any] = {
        "ari": float(np.mean([adjusted_rand_score(part, segment) for part, segment in pairs])),
        "foreground_ari": float("nan"),
        "iou": mean_iou,
        "best_iou": float(best.max(axis=1).mean()),
        "best_iou_of_part": _mean_over_images(ious.max(axis=2), shown),
        "consistent_iou": float(kept.mean()),
        "consistency": float((kept == best.max(axis=1)).mean()),
        "concept_of_part": concept_of_part,
    }
    if background is not None:
        inside = [(p[p != background], s[p != background]) for p, s in pairs if (p != background).any()]
        scores["foreground_ari"] = float(np.mean([adjusted_rand_score(p, s) for p, s in inside]))
    return scores


def mask_statistics(masks: np.ndarray, dead_below: float = 0.005) -> dict:
    """Say how crisp masks are and which concepts are used, without any truth.

    Args:
        masks: (n, N, H, W), the N concepts' shares of each pixel.
        dead_below: A concept that is the strongest in fewer of all pixels is dead.

    Returns:
        `crispness` in [1/N, 1]: the mean share of the strongest concept; `entropy` in [0, ln N], in nats: mean over
        pixels; `usage` (N,): share of the pixels in which each concept is the strongest; `mean_mask` (N,): mean share
        of each; `dead` (k,): the concepts of too little usage; `movement` (N,) in [0, .5]: standard deviation of each
        mask over the images, mean over pixels - zero for a mask that is the same for all.
    """
    masks = np.asarray(masks, np.float32)
    entropy = -(masks * np.log(masks.clip(1e-20))).sum(axis=1).mean()
    usage = np.bincount(masks.argmax(axis=1).ravel(), minlength=masks.shape[1]) / (masks.size / masks.shape[1])
    return {
        "crispness": float(masks.max(axis=1).mean()),
        "entropy": float(entropy),
        "usage": usage,
        "mean_mask": masks.mean(axis=(0, 2, 3)),
        "dead": np.flatnonzero(usage < dead_below),
        "movement": masks.std(axis=0).mean(axis=(1, 2)),
    }


def _mean_over_images(values: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Mean (P,) of values (n, P) over the images that show a part; NaN for a part that none shows."""
    number = shown.sum(axis=0)
    return np.where(number > 0, np.where(shown, values, 0).sum(axis=0) / number.clip(1), np.nan)


def _ious(segments: np.ndarray, parts: np.ndarray, num_concepts: int, num_parts: int) -> np.ndarray:
    """IoU (n, P, N) of the parts and segments (n, H W) of each image; NaN for a part that it does not show."""
    num_cells = num_parts * num_concepts
    cells = np.arange(len(parts))[:, None] * num_cells + parts.astype(np.int64) * num_concepts + segments
    overlap = np.bincount(cells.ravel(), minlength=len(parts) * num_cells).reshape(-1, num_parts, num_concepts)
    of_part, of_concept = overlap.sum(axis=2, keepdims=True), overlap.sum(axis=1, keepdims=True)
    return np.where(of_part > 0, overlap / (of_part + of_concept - overlap).clip(1), np.nan)
