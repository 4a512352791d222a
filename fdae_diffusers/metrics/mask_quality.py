"""Mask quality: do the concepts' masks follow the true foreground?

IoU(n) = |S_n and foreground| / |S_n or foreground| with S_n the pixels at which concept n has the largest mask; the
adjusted Rand index (Hubert & Arabie, 1985) compares that segmentation as a whole with foreground and background.
"""

import numpy as np
from sklearn.metrics import adjusted_rand_score


def mask_quality(masks: np.ndarray, foreground: np.ndarray) -> dict:
    """Compare predicted masks with true foreground masks.

    Args:
        masks: (n, N, H, W), each pixel belongs to its largest concept.
        foreground: (n, H, W) booleans, at least one foreground pixel per image.

    Returns:
        `best_concept_iou` in [0, 1]: the best concept's IoU of each image, averaged over images; `concept_iou` (N,):
        each concept's IoU, averaged over images; `adjusted_rand_index` in [-.5, 1], 0 by chance: mean over images.

    Raises:
        ValueError: if shapes disagree, `foreground` is not boolean or an image has no foreground.
    """
    masks, foreground = np.asarray(masks), np.asarray(foreground)
    if masks.ndim != 4 or foreground.dtype != bool or foreground.shape != (len(masks), *masks.shape[2:]):
        raise ValueError(
            "expected masks (n, N, H, W) and boolean foreground (n, H, W), "
            f"got {masks.shape} and {foreground.dtype} {foreground.shape}"
        )
    if not foreground.any(axis=(1, 2)).all():
        raise ValueError("an image without foreground has no IoU")
    segments = masks.argmax(axis=1)  # (n, H, W)
    ious = np.stack([_iou(segments == n, foreground) for n in range(masks.shape[1])], axis=1)  # (n, N)
    rand = [adjusted_rand_score(f.ravel(), s.ravel()) for f, s in zip(foreground, segments, strict=True)]
    return {
        "best_concept_iou": float(ious.max(axis=1).mean()),
        "concept_iou": ious.mean(axis=0),
        "adjusted_rand_index": float(np.mean(rand)),
    }


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a & b).sum(axis=(1, 2)) / (a | b).sum(axis=(1, 2))
