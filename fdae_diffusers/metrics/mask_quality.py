"""Masks against one true foreground: the two-part case of `segmentation`, refusing images that show no foreground."""

import numpy as np

from .segmentation import segmentation_scores

FOREGROUND = 1


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
    scores = segmentation_scores(masks, foreground.astype(int), num_parts=2)
    return {
        "best_concept_iou": float(scores["best_iou_of_part"][FOREGROUND]),
        "concept_iou": scores["iou"][FOREGROUND],
        "adjusted_rand_index": scores["ari"],
    }
