"""Convert a checkpoint of the released FDAE code (github.com/wuancong/FDAE) to a pipeline.

The released state dict is flat: the U-Net has ADM's names (``input_blocks``, ``middle_block``, ``output_blocks``,
``out``), CMFNet has ``encoder`` (torchvision ResNet by position), ``semantic_decoder1`` (content head),
``semantic_decoder2`` (dimension adjustment), ``mask_decoder`` (mask head) and ``mask_generator`` (D_M). Widths, depths
and N are read off the weights; what weights cannot tell comes from the released ``args.json``.
"""

import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from ..errors import FDAEError
from ..models import CMFNet, FDAEUNet2DModel
from ..pipeline_fdae import FDAEPipeline
from ..schedulers import EDMHeunScheduler
from .names import encoder_names, unet_names

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
        mapping = {**unet_names(unet_config), **encoder_names(encoder_config)}
    except KeyError as error:
        raise ConversionError(f"not a released FDAE checkpoint: it has no {error.args[0]!r}") from None
    except (IndexError, TypeError) as error:
        raise ConversionError(f"not a released FDAE checkpoint: a tensor has an unexpected shape ({error})") from None
    missing, unknown = sorted(mapping.keys() - state.keys()), sorted(state.keys() - mapping.keys())
    if missing or unknown:
        raise ConversionError(
            f"checkpoint and architecture differ: missing {_some(missing)}; unknown {_some(unknown)}"
        )

    try:
        unet, encoder = FDAEUNet2DModel(**unet_config), CMFNet(**encoder_config)
        scheduler = EDMHeunScheduler(sigma_min=args["sigma_min"], sigma_max=args["sigma_max"])
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise ConversionError(f"the weights and args.json describe no model that can be built: {error}") from None
    converted: dict[str, StateDict] = {"unet": {}, "encoder": {}}
    for key, (component, name) in mapping.items():
        for new_name, tensor in _convert_tensor(name, state[key]):
            converted[component][new_name] = tensor
    for component, model in (("unet", unet), ("encoder", encoder)):
        try:
            model.load_state_dict(converted[component])
        except RuntimeError as error:
            reasons = [line.strip() for line in str(error).splitlines()[1:]]
            raise ConversionError(f"the weights and args.json do not fit in the {component}: {reasons[0]}") from None
    return FDAEPipeline(unet=unet.eval(), encoder=encoder.eval(), scheduler=scheduler)


def _read_state_dict(path: Path) -> StateDict:
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint file {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # a damaged pickle may fail anywhere
        if isinstance(error, pickle.UnpicklingError) and (found := re.search(r"GLOBAL (\S+)", str(error))):
            # Not torch's own message, which advises to load the file nevertheless.
            raise ConversionError(
                f"{path} is not loaded, for safety: it calls {found[1]} instead of holding tensors"
            ) from None
        raise ConversionError(f"{path} is truncated or not a checkpoint ({type(error).__name__})") from None
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items()
    ):
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
