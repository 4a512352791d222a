"""What the command `fdae` understands, and the help that explains it."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..utils.arguments import Parser

MODEL_VARIABLE = "FDAE_MODEL"

ABOUT = """\
See and edit what a Factorized Diffusion Autoencoder finds in images: N concepts, each a content code (what)
and a mask code (where)."""
EXAMPLES = {
    "": """\
  export FDAE_MODEL=model_cards/fdae-shapes3d-rendered-32   # or a Hub id; spares --model
  fdae masks a.png b.png                                    # which concept is where?
  fdae swap a.png b.png --content 1                         # a, with the content of concept 1 of b
  fdae swap --help                                          # every command explains itself""",
    "encode": """\
  fdae encode photos/*.png --output codes.safetensors
  fdae reconstruct codes.safetensors

The file holds the tensors "content" (images, N, d_c) and "mask" (images, N, d_m), in the order of the images,
whose names are in its metadata under "images", as a JSON list.""",
    "masks": """\
  fdae masks a.png b.png --output masks.png

A row per image: the image as the model sees it, the mask of each concept (bright: there), and every pixel in the
colour of its strongest concept. The numbers above the columns are those that the other commands take.""",
    "reconstruct": """\
  fdae reconstruct a.png b.png --steps 40       # images above their reconstructions
  fdae reconstruct codes.safetensors            # pictures of codes that `fdae encode` wrote""",
    "swap": """\
  fdae swap a.png b.png --content 1             # a, with the content (colour, texture) of concept 1 of b
  fdae swap a.png b.png --mask 1 4              # a, with the masks (place, shape) of concepts 1 and 4 of b
  fdae swap a.png b.png --content all           # the masks of a filled with the content of b
  fdae swap a.png b.png                         # every code swapped alone: find out what each one does
  fdae swap a.png b.png --content 1 --keep-noise   # less grain: what no code holds stays as in a""",
    "grid": """\
  fdae grid a.png b.png c.png                   # 3 x 3 pictures

Each row has the content of the image on its left, each column the masks of the image above.""",
    "traverse": """\
  fdae traverse a.png --content 1               # a row per principal component of the content code of concept 1
  fdae traverse a.png --mask 1 --component 0 --values -3 -1.5 0 1.5 3

Values are standard deviations from the mean of the data. The components are those in the model's folder;
training/fit_basis.py computes them.""",
    "evaluate": """\
  fdae evaluate --dataset shapes3d-rendered     # DCI, FactorVAE score, MIG, self-MIG

Prints a table and writes all of it to metrics.json in the model's folder, in place of what an earlier evaluation
wrote there.""",
}


def make_parser() -> argparse.ArgumentParser:
    """Describe the commands and their arguments; `evaluate` has those of `EvaluationConfig`."""
    parser = Parser(prog="fdae", **about(""))
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def add(name: str, help: str, output: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help, allow_abbrev=False, **about(name, help))
        common = command.add_argument_group("common options")
        model = os.environ.get(MODEL_VARIABLE)
        common.add_argument("--model", default=model, help=f"pipeline folder or Hub id (default: ${MODEL_VARIABLE})")
        common.add_argument("--device", help="cuda, cpu, ... (default: an accelerator, if there is one)")
        common.add_argument("--output", default=output, type=_file(Path(output).suffix), help="(default: %(default)s)")
        common.add_argument("--overwrite", action="store_true", help="replace the output if it exists already")
        if name not in ("encode", "masks"):
            common.add_argument("--steps", type=_count, help="steps of the sampler (default: 10 or 40, by its kind)")
            common.add_argument("--seed", type=_seed, default=0, help="of the starting noise (default: %(default)s)")
        if name in ("swap", "traverse"):
            command.add_argument(
                "--keep-noise", action="store_true", help="start from the image's own noise: keeps what no code holds"
            )
        return command

    def add_images(command: argparse.ArgumentParser, help: str = "image files of any size"):
        command.add_argument("images", nargs="+", metavar="IMAGE", help=help)

    add_images(add("encode", "write the codes of images to a file", "codes.safetensors"))
    add_images(add("masks", "draw where each concept of images is", "masks.png"))
    add_images(
        add("reconstruct", "encode images and decode them again", "reconstruct.png"), "image files, or a file of codes"
    )
    command = add("swap", "give an image some codes of another one", "swap.png")
    command.add_argument("source", metavar="SOURCE", help="image to edit")
    command.add_argument("target", metavar="TARGET", help="image that gives the codes")
    for kind, what in (("content", "what it is"), ("mask", "where it is")):
        command.add_argument(
            f"--{kind}", nargs="+", type=_concept, default=[], metavar="N", help=f'concepts, or "all": {what}'
        )
    add_images(add("grid", "combine the content of each image with the masks of each", "grid.png"))
    command = add("traverse", "move one code of an image along its principal components", "traverse.png")
    command.add_argument("image", metavar="IMAGE", help="image to edit")
    code = command.add_mutually_exclusive_group(required=True)
    code.add_argument("--content", type=int, metavar="N", help="concept whose content code moves")
    code.add_argument("--mask", type=int, metavar="N", help="concept whose mask code moves")
    command.add_argument("--component", type=int, metavar="K", help="0 for the strongest (default: each in a row)")
    command.add_argument("--values", nargs="+", type=float, default=[-2.0, -1.0, 0.0, 1.0, 2.0], metavar="V")
    commands.add_parser("evaluate", help="score a model on a disentanglement benchmark", add_help=False)
    return parser


def about(command: str, description: str = ABOUT) -> dict[str, Any]:
    """What the help of a command says, in the lines that it is written in."""
    return {
        "description": description,
        "epilog": f"examples:\n{EXAMPLES[command]}",
        "formatter_class": argparse.RawDescriptionHelpFormatter,
    }


def _count(text: str) -> int:
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _seed(text: str) -> int:
    if not 0 <= (value := int(text)) < 2**63:
        raise argparse.ArgumentTypeError("must be between 0 and 2^63 - 1")
    return value


def _concept(text: str) -> int | str:
    return text if text == "all" else int(text)


def _file(suffix: str) -> Callable[[str], str]:
    def check(path: str) -> str:
        if not path.endswith(suffix):
            raise argparse.ArgumentTypeError(f"{path} must end in {suffix}")
        return path

    return check
