"""Masks against several true parts."""

import numpy as np
import pytest

from fdae_diffusers.metrics.segmentation import mask_statistics, segmentation_scores

PARTS = np.zeros((3, 8, 8), int)
PARTS[:, 2:5, 2:5] = 1
PARTS[:2, 5:7, 2:6] = 2  # the third image does not show it


def one_hot(segments, num_concepts):
    """Masks (n, N, 8, 8), nearly all of each pixel for its segment."""
    return np.moveaxis(np.eye(num_concepts)[segments], -1, 1) * 0.9 + 0.1 / num_concepts


def test_true_masks_score_one():
    scores = segmentation_scores(one_hot(PARTS, 4), PARTS, 3)
    for name in ("ari", "foreground_ari", "best_iou", "consistent_iou", "consistency"):
        assert scores[name] == pytest.approx(1)
    assert scores["concept_of_part"].tolist() == [0, 1, 2]
    np.testing.assert_allclose(scores["iou"], np.eye(3, 4))


def test_a_part_that_changes_its_concept_is_not_consistent():
    segments = PARTS.copy()
    segments[0] = np.array([0, 2, 1])[PARTS[0]]
    scores = segmentation_scores(one_hot(segments, 3), PARTS, 3)
    assert scores["best_iou"] == scores["foreground_ari"] == 1
    assert scores["concept_of_part"][1] == 1
    assert scores["consistency"] < 1
    assert scores["consistent_iou"] < 1


def test_background_that_is_cut_up_does_not_count_against_the_foreground():
    segments = PARTS.copy()
    segments[:, :, 7] = 3
    scores = segmentation_scores(one_hot(segments, 4), PARTS, 3)
    assert scores["foreground_ari"] == 1
    assert scores["ari"] < 1
    assert np.isnan(segmentation_scores(one_hot(segments, 4), PARTS, 3, background=None)["foreground_ari"])


def test_iou_is_the_share_of_pixels():
    segments = np.zeros_like(PARTS)
    scores = segmentation_scores(one_hot(segments, 2), PARTS, 4)
    assert scores["iou"][1, 0] == pytest.approx(9 / 64)
    assert scores["iou"][2, 0] == pytest.approx(8 / 64)  # of the two images that show it
    assert scores["concept_of_part"].tolist() == [0, 0, 0, -1]
    assert scores["foreground_ari"] == pytest.approx(1 / 3)  # of the one image in which all of it is one part


@pytest.mark.parametrize(
    ("masks", "parts", "message"),
    [
        (np.ones((2, 3, 8, 8)), np.zeros((2, 4, 4), int), "expected masks"),
        (np.ones((2, 3, 8, 8)), np.zeros((2, 8, 8)), "integer parts"),
        (np.ones((2, 3, 8, 8)), np.full((2, 8, 8), 5), r"0\.\.2"),
    ],
)
def test_unusable_input_is_an_error(masks, parts, message):
    with pytest.raises(ValueError, match=message):
        segmentation_scores(masks, parts, 3)


def test_fog_and_crisp_masks():
    fog = mask_statistics(np.full((2, 4, 8, 8), 0.25))
    assert fog["crispness"] == 0.25
    assert fog["entropy"] == pytest.approx(np.log(4))
    crisp = mask_statistics(np.moveaxis(np.eye(4)[PARTS], -1, 1))
    assert crisp["crispness"] == 1
    assert crisp["entropy"] == pytest.approx(0, abs=1e-6)


def test_dead_and_frozen_concepts():
    statistics = mask_statistics(one_hot(PARTS, 4))
    assert statistics["usage"].tolist() == pytest.approx(
        (np.bincount(PARTS.ravel(), minlength=4) / PARTS.size).tolist()
    )
    assert statistics["dead"].tolist() == [3]
    assert statistics["movement"][1] == pytest.approx(0)  # the same in all images
    assert statistics["movement"][2] > 0
    assert statistics["mean_mask"].sum() == pytest.approx(1)
