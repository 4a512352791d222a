"""What moves during training: concepts first, pictures second.

Much noise teaches concepts, because the image must then come from the codes; the paper's noise teaches pictures. Masks
that are pushed to be crisp before there are concepts freeze as they are; afterwards they become crisp where the
concepts are. So settings hold until one share of the steps, and have moved to their last values at another:

    setting(f) = first + w (last - first),  w = clip((f - move_start) / (move_end - move_start), 0, 1)

with loss weights on a logarithmic scale.
"""

import math
from typing import TypedDict

from .config import ObjectiveConfig


class MovingSettings(TypedDict):
    """Settings of the objective at one step."""

    p_mean: float
    p_std: float
    loss_weights: dict[str, float]


def moving_settings(config: ObjectiveConfig, progress: float) -> MovingSettings:
    """Return the settings of the objective that may move.

    Args:
        config: Says where they start (`p_mean`, `p_std`, `loss_weights`), where they move to (the same names with
            `_end`; what is not named there stays) and when (`move_start`, `move_end`).
        progress: Steps done, as a share of all steps, in [0, 1].
    """
    way = min(max((progress - config.move_start) / (config.move_end - config.move_start), 0.0), 1.0)

    def move(first: float, last: float | None) -> float:
        return first if last is None else first + way * (last - first)

    weights = dict(config.loss_weights)
    for name, last in config.loss_weights_end.items():
        weights[name] = math.exp(move(math.log(weights[name]), math.log(last)))
    return {
        "p_mean": move(config.p_mean, config.p_mean_end),
        "p_std": move(config.p_std, config.p_std_end),
        "loss_weights": weights,
    }
