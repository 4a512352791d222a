"""Attribute prediction from content codes."""

import numpy as np
import pytest

from fdae_diffusers.metrics import attribute_accuracy

RNG = np.random.default_rng(0)
CODES = RNG.standard_normal((400, 3, 8)) + 3 * RNG.integers(2, size=(400, 3, 1))
BRIGHT = CODES[:, 0].mean(axis=1) > 1.5
COLOUR = np.where(CODES[:, 1].mean(axis=1) > 1.5, "red", np.where(CODES[:, 2].mean(axis=1) > 1.5, "green", "blue"))


def test_readable_attributes_are_predicted_and_others_are_not():
    coin = RNG.integers(2, size=400)
    result = attribute_accuracy(CODES, np.stack([BRIGHT, coin], axis=1))
    assert result["accuracy"][0] > 0.95
    assert result["accuracy"][1] < 0.65
    assert result["mean_accuracy"] == pytest.approx(result["accuracy"].mean())


def test_categories_may_be_strings():
    result = attribute_accuracy(CODES, COLOUR[:, None])
    assert result["accuracy"][0] > 0.85 > result["majority_rate"][0]


def test_split_follows_the_seed():
    one, same, other = (attribute_accuracy(CODES, BRIGHT[:, None], seed=s)["majority_rate"] for s in (0, 0, 1))
    assert one == same != other


def test_named_images_are_held_out():
    is_test = np.arange(400) >= 300
    flipped = np.where(is_test, ~BRIGHT, BRIGHT)  # learnt from the others, wrong on all of these
    assert attribute_accuracy(CODES, flipped[:, None], is_test=is_test)["accuracy"][0] < 0.05


def test_unusable_attributes_are_errors():
    with pytest.raises(ValueError, match=r"must have shape \(400, A\)"):
        attribute_accuracy(CODES, BRIGHT)
    with pytest.raises(ValueError, match="one value only"):
        attribute_accuracy(CODES, np.ones((400, 1), dtype=bool))
