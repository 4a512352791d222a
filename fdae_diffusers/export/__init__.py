"""Models for machines without torch: `onnx.export_onnx` writes them, :class:`OnnxPipeline` runs them."""

from ..errors import FDAEError

try:
    from .runtime import OnnxCodes, OnnxPipeline
except ImportError as error:
    raise FDAEError(f"{error.name} is missing: pip install 'fdae-diffusers[export]'") from error

__all__ = ["OnnxCodes", "OnnxPipeline"]
