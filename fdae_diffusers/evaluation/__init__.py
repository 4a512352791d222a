"""Score trained models: encode a data set once, then compute metrics, swaps and attributes from its codes."""

from .disentanglement import EvaluationConfig, evaluate
from .encode import encode_dataset

__all__ = ["EvaluationConfig", "encode_dataset", "evaluate"]
