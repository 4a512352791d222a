"""Turn checkpoints of the released code into pipelines."""

from .checkpoint import convert_official_checkpoint
from .convert import CheckpointConfig, convert_checkpoint

__all__ = ["CheckpointConfig", "convert_checkpoint", "convert_official_checkpoint"]
