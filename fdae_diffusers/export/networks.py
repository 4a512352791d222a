"""The networks of a pipeline as ONNX: what torch's exporter is given, and how exact its result is."""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from ..codes import FDAECodes
from ..pipeline_fdae import FDAEPipeline

OPSET = 18
SMALLEST_HALF = 256  # elements; smaller tensors, biases and norms above all, stay in single precision


@dataclass(frozen=True)
class Network:
    """One network to export.

    Args:
        module: Takes and returns plain tensors.
        inputs: Name -> example, with a batch of two: dimensions of one would be taken as fixed.
        outputs: Their names.
    """

    module: nn.Module
    inputs: Mapping[str, torch.Tensor]
    outputs: Sequence[str]

    @torch.no_grad()
    def to_onnx(self) -> onnx.ModelProto:
        """Trace the network with a batch of any size."""
        batch = torch.export.Dim("batch")
        with _quiet():
            program = torch.onnx.export(
                self.module.eval(),
                tuple(self.inputs.values()),
                dynamo=True,
                opset_version=OPSET,
                input_names=list(self.inputs),
                output_names=list(self.outputs),
                dynamic_shapes=(tuple({0: batch} for _ in self.inputs),),  # of the one parameter, *inputs
                verbose=False,
            )
        assert program is not None
        return program.model_proto

    @torch.no_grad()
    def largest_error(self, path: Path) -> float:
        """Largest difference of the exported network's outputs to torch's, as a part of their largest value."""
        # Another batch size than the traced one.
        inputs = {name: torch.cat([value, value[:1].flip(-1)]) for name, value in self.inputs.items()}
        wanted = self.module(*inputs.values())
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        given = session.run(None, {name: value.numpy() for name, value in inputs.items()})
        errors = [
            float(np.abs(array - tensor.numpy()).max() / tensor.abs().max().clamp(min=1e-6))
            for array, tensor in zip(given, wanted, strict=True)
        ]
        return max(errors)


class _Part(nn.Module):
    """A function of a network as a module: what torch exports."""

    def __init__(self, network: nn.Module, function: Callable[..., tuple[torch.Tensor, ...]]):
        super().__init__()
        self.network = network
        self.function = function

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.function(*inputs)


@torch.no_grad()
def networks(pipeline: FDAEPipeline) -> dict[str, Network]:
    """Return the three networks of a pipeline, with examples of what goes in."""
    encoder, unet = pipeline.encoder, pipeline.unet
    size, channels = unet.config.sample_size, unet.config.in_channels
    generator = torch.Generator().manual_seed(0)
    pixel_values = torch.rand(2, channels, size, size, generator=generator) * 2 - 1

    def encode(pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        codes = encoder.encode(pixel_values)
        return (codes.content,) if codes.mask is None else (codes.content, codes.mask)

    def condition(content: torch.Tensor, mask: torch.Tensor | None = None) -> tuple[torch.Tensor, dict]:
        codes = FDAECodes(content, mask)
        # A single concept's masks are ones, whose number len(codes) in decode_masks would fix.
        ones = content.new_ones(content.shape[0], 1, size, size)
        masks = ones if mask is None else encoder.decode_masks(codes)
        return masks, encoder.condition(codes, masks)

    def decode(*codes: torch.Tensor) -> tuple[torch.Tensor, ...]:
        masks, tensors = condition(*codes)
        return masks, *tensors.values()

    def run_unet(sample: torch.Tensor, c_noise: torch.Tensor, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (unet(sample, c_noise, **dict(zip(unet_condition, tensors, strict=True))).sample,)

    code_names = ("content", "mask")[: 1 if encoder.config.num_concepts == 1 else 2]
    codes = encode(pixel_values)
    unet_condition = condition(*codes)[1]  # by the U-Net's keywords: {"condition_map": ...} for CMFNet itself
    unet_inputs = {
        "sample": torch.randn(pixel_values.shape, generator=generator),
        "c_noise": torch.tensor([1.1, -0.9]),
        **unet_condition,
    }
    return {
        "encoder": Network(_Part(encoder, encode), {"pixel_values": pixel_values}, code_names),
        "decoder": Network(
            _Part(encoder, decode), dict(zip(code_names, codes, strict=True)), ("masks", *unet_condition)
        ),
        "unet": Network(_Part(unet, run_unet), unet_inputs, ("F",)),
    }


def store_in_half_precision(model: onnx.ModelProto) -> None:
    """Store large weights as float16, in place; onnxruntime casts them back to float32 once, when it loads them."""
    for tensor in list(model.graph.initializer):
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < SMALLEST_HALF:
            continue
        name = tensor.name
        half = numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), f"{name}_half")
        model.graph.initializer.remove(tensor)
        model.graph.initializer.append(half)
        model.graph.node.insert(0, helper.make_node("Cast", [half.name], [name], to=TensorProto.FLOAT))


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter, which warns of its own insides."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
