"""Names of the tensors in a checkpoint of the released FDAE code, and in our networks.

ADM numbers its blocks through all levels (``input_blocks.7``); diffusers nests them (``down_blocks.2.resnets.0``). The
names do not depend on tensors, only on the configuration of the networks.
"""

from collections.abc import Iterable
from typing import Any

from ..models.image_encoder import BACKBONES

KeyMap = dict[str, tuple[str, str]]  # released key -> (component of the pipeline, our key)

_BATCH_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
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


def unet_names(config: dict[str, Any]) -> KeyMap:
    """Names of the U-Net's tensors, for the arguments of :class:`~fdae_diffusers.FDAEUNet2DModel`."""
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


def encoder_names(config: dict[str, Any]) -> KeyMap:
    """Names of CMFNet's tensors, for the arguments of :class:`~fdae_diffusers.CMFNet`."""
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
