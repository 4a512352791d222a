"""What moves during training: concepts first, pictures second.

Much noise teaches concepts, because the image must then come from the codes; the paper's noise teaches pictures. Masks
that are pushed to be crisp before there are concepts freeze as they are; afterwards they become crisp where the
concepts are. So settings hold until one fraction of the steps, and have moved to their last values at another:

    setting(f) = first + w (last - first),  w = clip((f - move_start) / (move_end - move_start), 0, 1)

with the weight of the mask entropy on a logarithmic scale.
"""

import math

from .config import TrainingConfig


def moving_settings(config: TrainingConfig, fraction: float) -> dict[str, float]:
    """The settings of the objective that may move, by name.

    Args:
        config: Says where they start (`p_mean`, `p_std`, `mask_entropy_weight`), where they move to (the same names
            with `_end`; None to stay) and when (`move_start`, `move_end`).
        fraction: Steps done, as a share of all steps.
    """
    way = min(max((fraction - config.move_start) / (config.move_end - config.move_start), 0.0), 1.0)

    def move(first: float, last: float | None) -> float:
        return first if last is None else first + way * (last - first)

    weight = config.mask_entropy_weight
    if config.mask_entropy_weight_end is not None:
        weight = math.exp(move(math.log(weight), math.log(config.mask_entropy_weight_end)))
    return {
        "p_mean": move(config.p_mean, config.p_mean_end),
        "p_std": move(config.p_std, config.p_std_end),
        "mask_entropy_weight": weight,
    }
