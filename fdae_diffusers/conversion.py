"""Convert a checkpoint of the released FDAE code (github.com/wuancong/FDAE) to a pipeline.

The released state dict is flat: the generator has ADM's names (``input_blocks``, ``middle_block``, ``output_blocks``,
``out``), CMFNet has ``encoder`` (torchvision ResNet by position), ``semantic_decoder1`` (content head),
``semantic_decoder2`` (dimension adjustment), ``mask_decoder`` (mask head) and ``mask_generator`` (D_M). Widths, depths
and N are read off the weights; what weights cannot tell comes from the released ``args.json``.
"""

import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file

from .errors import FDAEError
from .models import CMFNet, FDAEUNet2DModel
from .models.backbone import BACKBONES
from .pipeline_fdae import FDAEPipeline
from .schedulers import EDMHeunScheduler

StateDict = dict[str, torch.Tensor]

# What the released train.sh passes, for keys that args.json lacks.
RELEASED_ARGS: dict[str, Any] = {
    "image_size": 64,
    "num_head_channels": 64,
    "use_scale_shift_norm": False,
    "dropout": 0.1,
    "sigma_min": 0.002,
    "sigma_max": 80.0,
}

_RESNET_PARTS = {
    "conv1": "layer.0.convolution",
    "bn1": "layer.0.normalization",
    "conv2": "layer.1.convolution",
    "bn2": "layer.1.normalization",
    "conv3": "layer.2.convolution",
    "bn3": "layer.2.normalization",
    "downsample.0": "shortcut.convolution",
    "downsample.1": "shortcut.normalization",
}
_RESBLOCK_PARTS = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_ATTENTION_PARTS = {"norm": "group_norm", "qkv": "qkv", "proj_out": "to_out.0"}


class ConversionError(FDAEError):
    """A released checkpoint cannot be converted; the message says why."""


def convert_official_checkpoint(
    checkpoint: str | Path | Mapping[str, torch.Tensor], args: Mapping[str, Any] | None = None
) -> FDAEPipeline:
    """Build a pipeline from a checkpoint of the released code.

    Args:
        checkpoint: The state dict, or a file with it: ``modelNNNNNN.pt`` (read with ``weights_only=True``) or
            safetensors.
        args: The released ``args.json`` as a dictionary; missing keys take the values of the released ``train.sh``.

    Returns:
        The pipeline in float32 and evaluation mode, with the released sampler (Heun, clamped).

    Raises:
        FileNotFoundError: If the file does not exist.
        ConversionError: If the file is no state dict, keys are left over or missing, or the weights contradict
            ``args``.
    """
    state = dict(checkpoint) if isinstance(checkpoint, Mapping) else _read_state_dict(Path(checkpoint))
    args = {**RELEASED_ARGS, **(args or {})}
    if args["use_scale_shift_norm"]:
        raise ConversionError("args.json has use_scale_shift_norm=True; the released FDAE models do not use it")
    try:
        unet_config = _unet_config(state, args)
        encoder_config = _encoder_config(state, args)
        mapping = {**_unet_mapping(unet_config), **_encoder_mapping(encoder_config)}
    except KeyError as error:
        raise ConversionError(f"not a released FDAE checkpoint: it has no {error.args[0]!r}") from None
    missing, unknown = sorted(mapping.keys() - state.keys()), sorted(state.keys() - mapping.keys())
    if missing or unknown:
        raise ConversionError(
            f"checkpoint and architecture differ: missing {_some(missing)}; unknown {_some(unknown)}"
        )

    unet, encoder = FDAEUNet2DModel(**unet_config), CMFNet(**encoder_config)
    converted: dict[str, StateDict] = {"unet": {}, "encoder": {}}
    for key, (component, name) in mapping.items():
        for new_name, tensor in _convert_tensor(name, state[key]):
            converted[component][new_name] = tensor
    for component, model in (("unet", unet), ("encoder", encoder)):
        try:
            model.load_state_dict(converted[component])
        except RuntimeError as error:
            raise ConversionError(f"cannot load the {component}: {error}") from None
    scheduler = EDMHeunScheduler(sigma_min=args["sigma_min"], sigma_max=args["sigma_max"])
    return FDAEPipeline(unet=unet.eval(), encoder=encoder.eval(), scheduler=scheduler)


def _read_state_dict(path: Path) -> StateDict:
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint file {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # Only the first line: the rest of torch's message advises to switch weights_only off.
        reason = str(error).splitlines()[0]
        raise ConversionError(f"{path} holds more than tensors and is not loaded for safety: {reason}") from None
    except (RuntimeError, EOFError, safetensors.SafetensorError) as error:
        raise ConversionError(f"{path} is truncated or not a checkpoint: {str(error).splitlines()[0]}") from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ConversionError(f"{path} is not a flat state dict of tensors")
    return state


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:5]) + (f" and {len(keys) - 5} more" if len(keys) > 5 else "") if keys else "none"


# --- Configurations, read off the weights


def _unet_config(state: StateDict, args: Mapping[str, Any]) -> dict[str, Any]:
    num_output_blocks = len(_indices(state, r"output_blocks\.(\d+)\."))
    # An output block with a second residual layer upsamples: it ends a level.
    num_levels = len(_indices(state, r"output_blocks\.(\d+)\.[12]\.in_layers\.")) + 1
    layers_per_block = num_output_blocks // num_levels - 1
    first_blocks = [2 + level * (layers_per_block + 1) for level in range(num_levels)]
    attention = [f"input_blocks.{first}.1.qkv.weight" in state for first in first_blocks]
    return {
        "sample_size": args["image_size"],
        "condition_channels": state["input_blocks.0.0.weight"].shape[0],
        "in_channels": state["input_blocks.0.0.weight"].shape[1],
        "out_channels": state["out.2.weight"].shape[0],
        "block_out_channels": tuple(state[f"input_blocks.{i}.0.out_layers.3.weight"].shape[0] for i in first_blocks),
        "layers_per_block": layers_per_block,
        "down_block_types": tuple("AttnDownBlock2D" if a else "ResnetDownsampleBlock2D" for a in attention),
        "up_block_types": tuple("AttnUpBlock2D" if a else "ResnetUpsampleBlock2D" for a in reversed(attention)),
        "attention_head_dim": args["num_head_channels"],
        "dropout": args["dropout"],
    }


def _encoder_config(state: StateDict, args: Mapping[str, Any]) -> dict[str, Any]:
    concepts = _indices(state, r"semantic_decoder2\.(\d+)\.")
    num_concepts = len(concepts)
    if num_concepts != args.get("semantic_group_num", num_concepts):
        raise ConversionError(
            f"the weights have {num_concepts} concepts, args.json says semantic_group_num={args['semantic_group_num']}"
        )
    config = {
        "sample_size": args["image_size"],
        "num_concepts": num_concepts,
        "content_dim": state["semantic_decoder2.0.weight"].shape[1],
        "condition_channels": state["semantic_decoder2.0.weight"].shape[0],
        "backbone": "resnet50" if "encoder.4.0.conv3.weight" in state else "resnet18",
    }
    if num_concepts == 1:
        return config
    blocks = _indices(state, r"mask_generator\.conv_blocks\.(\d+)\.")
    widths = [state[f"mask_generator.conv_blocks.{block}.2.weight"].shape[0] for block in blocks]
    channels = (state["mask_generator.conv_blocks.0.2.weight"].shape[1], *widths)
    first_size = round((state["mask_generator.l1.0.weight"].shape[0] / channels[0]) ** 0.5)
    if first_size * 2 ** len(blocks) != args["image_size"]:
        raise ConversionError(
            f"the weights decode masks of size {first_size * 2 ** len(blocks)}, args.json says "
            f"image_size={args['image_size']}"
        )
    return {
        **config,
        "mask_dim": state["mask_generator.l1.0.weight"].shape[1],
        "mask_decoder_channels": channels,
        "mask_decoder_norm": "released" if "mask_generator.conv_blocks.1.0.weight" in state else "paper",
    }


def _indices(state: StateDict, pattern: str) -> list[int]:
    """Sorted numbers that the pattern's group takes among the keys."""
    return sorted({int(match[1]) for key in state if (match := re.match(pattern, key))})


# --- Names: released key -> (component, our name)

KeyMap = dict[str, tuple[str, str]]


def _unet_mapping(config: dict[str, Any]) -> KeyMap:
    mapping: dict[str, str] = {}
    num_levels, layers_per_block = len(config["block_out_channels"]), config["layers_per_block"]
    for name, new_name in (
        ("time_embed.0", "time_embedding.linear_1"),
        ("time_embed.2", "time_embedding.linear_2"),
        ("input_blocks.0.0", "conv_stem"),
        ("input_blocks.1.0", "conv_in"),
        ("out.0", "conv_norm_out"),
        ("out.2", "conv_out"),
    ):
        mapping |= _layer(name, new_name)

    widths = config["block_out_channels"]
    index, previous = 2, widths[0]
    for level, width in enumerate(widths):
        for layer in range(layers_per_block):
            block = f"down_blocks.{level}"
            mapping |= _resblock(f"input_blocks.{index}.0", f"{block}.resnets.{layer}", shortcut=previous != width)
            if config["down_block_types"][level] == "AttnDownBlock2D":
                mapping |= _attention(f"input_blocks.{index}.1", f"{block}.attentions.{layer}")
            index, previous = index + 1, width
        if level < num_levels - 1:
            mapping |= _resblock(f"input_blocks.{index}.0", f"down_blocks.{level}.downsamplers.0")
            index += 1

    mapping |= _resblock("middle_block.0", "mid_block.resnets.0")
    mapping |= _attention("middle_block.1", "mid_block.attentions.0")
    mapping |= _resblock("middle_block.2", "mid_block.resnets.1")

    index = 0
    for level in range(num_levels):
        attention = config["up_block_types"][level] == "AttnUpBlock2D"
        for layer in range(layers_per_block + 1):
            block = f"up_blocks.{level}"
            # Every layer of the way up takes a skip connection, so every one changes its width.
            mapping |= _resblock(f"output_blocks.{index}.0", f"{block}.resnets.{layer}", shortcut=True)
            if attention:
                mapping |= _attention(f"output_blocks.{index}.1", f"{block}.attentions.{layer}")
            if layer == layers_per_block and level < num_levels - 1:
                mapping |= _resblock(f"output_blocks.{index}.{1 + attention}", f"{block}.upsamplers.0")
            index += 1
    return {key: ("unet", name) for key, name in mapping.items()}


def _encoder_mapping(config: dict[str, Any]) -> KeyMap:
    mapping: dict[str, str] = {}
    resnet = "image_encoder.model"
    mapping |= _layer("encoder.0", f"{resnet}.embedder.embedder.convolution", ("weight",))
    mapping |= _layer("encoder.1", f"{resnet}.embedder.embedder.normalization", _BATCH_NORM)
    backbone = BACKBONES[config["backbone"]]
    bottleneck = backbone["layer_type"] == "bottleneck"
    for stage, depth in enumerate(backbone["depths"]):
        for layer in range(depth):
            for part, new_part in _RESNET_PARTS.items():
                if part in ("conv3", "bn3") and not bottleneck:
                    continue
                # ResNet-18's first stage keeps width and size, so it needs no projection; ResNet-50's widens.
                if part.startswith("downsample") and (layer > 0 or (stage == 0 and not bottleneck)):
                    continue
                is_conv = part in ("conv1", "conv2", "conv3", "downsample.0")
                mapping |= _layer(
                    f"encoder.{4 + stage}.{layer}.{part}",
                    f"{resnet}.encoder.stages.{stage}.layers.{layer}.{new_part}",
                    ("weight",) if is_conv else _BATCH_NORM,
                )
    mapping |= _layer("semantic_decoder1", "content_head")
    for concept in range(config["num_concepts"]):
        mapping |= _layer(f"semantic_decoder2.{concept}", f"adjust.{concept}")
    if config["num_concepts"] > 1:
        mapping |= _layer("mask_decoder", "mask_head")
        mapping |= _layer("mask_generator.l1.0", "mask_decoder.linear")
        for block in range(len(config["mask_decoder_channels"]) - 1):
            name, new_name = f"mask_generator.conv_blocks.{block}", f"mask_decoder.blocks.{block}"
            if block == 0 or config["mask_decoder_norm"] == "released":
                mapping |= _layer(f"{name}.0", f"{new_name}.norm_in")
            mapping |= _layer(f"{name}.2", f"{new_name}.conv", ("weight",))
            mapping |= _layer(f"{name}.3", f"{new_name}.norm_out")
        mapping |= _layer("mask_generator.conv_blocks_img", "mask_decoder.conv_out")
    return {key: ("encoder", name) for key, name in mapping.items()}


_BATCH_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def _layer(name: str, new_name: str, tensors: Iterable[str] = ("weight", "bias")) -> dict[str, str]:
    return {f"{name}.{tensor}": f"{new_name}.{tensor}" for tensor in tensors}


def _resblock(name: str, new_name: str, shortcut: bool = False) -> dict[str, str]:
    mapping: dict[str, str] = {}
    for part, new_part in _RESBLOCK_PARTS.items():
        if part != "skip_connection" or shortcut:
            mapping |= _layer(f"{name}.{part}", f"{new_name}.{new_part}")
    return mapping


def _attention(name: str, new_name: str) -> dict[str, str]:
    mapping: dict[str, str] = {}
    for part, new_part in _ATTENTION_PARTS.items():
        mapping |= _layer(f"{name}.{part}", f"{new_name}.{new_part}")
    return mapping


# --- Tensors


def _convert_tensor(name: str, tensor: torch.Tensor) -> Iterable[tuple[str, torch.Tensor]]:
    """Yield (name, tensor) in our layout: float32; attention's 1x1 convolutions as linear layers, q, k and v apart."""
    if tensor.is_floating_point():
        tensor = tensor.float()
    if ".attentions." in name and tensor.ndim > 1:
        tensor = tensor.flatten(1)  # (out, in, 1, 1) -> (out, in)
    if ".qkv." in name:
        # Flash attention's order, the one the released code trains with: all of q, then k, then v.
        names = (name.replace(".qkv.", f".to_{part}.") for part in "qkv")
        yield from zip(names, tensor.chunk(3), strict=True)
    else:
        yield name, tensor
