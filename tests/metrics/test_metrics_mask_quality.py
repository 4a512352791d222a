"""Masks against true foreground."""

import numpy as np
import pytest

from fdae_diffusers.metrics import mask_quality

FOREGROUND = np.zeros((2, 8, 8), dtype=bool)
FOREGROUND[0, 2:6, 2:6] = True
FOREGROUND[1, :3] = True


def masks_of(*segments):
    """Soft masks (2, N, 8, 8) whose largest concepts are the given boolean segments."""
    return 0.9 * np.stack(segments, axis=1) + 0.1 / len(segments)


def test_true_masks_score_one():
    scores = mask_quality(masks_of(~FOREGROUND, FOREGROUND), FOREGROUND)
    assert scores["best_concept_iou"] == 1
    assert scores["adjusted_rand_index"] == pytest.approx(1)
    assert scores["concept_iou"].tolist() == [0, 1]


def test_best_concept_may_differ_between_images():
    swapped = FOREGROUND.copy()
    swapped[1] = ~swapped[1]
    scores = mask_quality(masks_of(~swapped, swapped), FOREGROUND)
    assert scores["best_concept_iou"] == 1
    assert scores["concept_iou"].tolist() == [0.5, 0.5]


def test_one_mask_for_everything_finds_nothing():
    scores = mask_quality(np.ones((2, 1, 8, 8)), FOREGROUND)
    assert scores["best_concept_iou"] == pytest.approx(FOREGROUND.mean())
    assert scores["adjusted_rand_index"] == 0


def test_noise_has_no_rand_index():
    scores = mask_quality(np.random.default_rng(0).random((2, 4, 8, 8)), FOREGROUND)
    assert scores["adjusted_rand_index"] == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize(
    ("masks", "foreground", "message"),
    [
        (np.ones((2, 3, 8, 8)), np.ones((2, 4, 4), dtype=bool), "expected masks"),
        (np.ones((2, 3, 8, 8)), np.ones((2, 8, 8)), "boolean foreground"),
        (np.ones((2, 3, 8, 8)), np.zeros((2, 8, 8), dtype=bool), "without foreground"),
    ],
)
def test_unusable_input_is_an_error(masks, foreground, message):
    with pytest.raises(ValueError, match=message):
        mask_quality(masks, foreground)
