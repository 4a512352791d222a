"""Training: configuration, loop, checkpoints and the pictures made along the way."""

from .config import TrainingConfig
from .trainer import train

__all__ = ["TrainingConfig", "train"]
