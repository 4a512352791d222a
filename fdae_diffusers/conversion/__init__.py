"""Turn checkpoints of the released code into pipelines."""

from .checkpoint import convert_official_checkpoint

__all__ = ["convert_official_checkpoint"]
