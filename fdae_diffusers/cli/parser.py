"""The pieces that the command line is made of. Imports nothing heavy, so that help and mistakes answer at once."""

import argparse
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import __version__
from ..utils.arguments import Parser
from .inputs import InputFile

MODEL_VARIABLE = "FDAE_MODEL"
ALL = "all"

ABOUT = """\
See and edit what a Factorized Diffusion Autoencoder finds in images: N concepts, each a content code (what)
and a mask code (where)."""
EXAMPLES = """\
  fdae demo                                       # what a model does, in a folder of pictures
  fdae masks -                                    # which concept is where in the model's example pictures?
  fdae swap - - --content 1                       # the first one, with the content of concept 1 of the second
  fdae train photos --minutes 20                  # a model of your own pictures
  fdae masks photos/*.jpg --model outputs/photos  # look at it
  fdae swap --help                                # every command explains itself

A model is a folder, a Hub id, or the name of one that comes with the package: fdae-shapes3d-rendered-32, which also
serves where no pictures are named. The environment variable FDAE_MODEL spares --model."""

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif")
OUTPUT_FORMATS = ("sheet", "images", "gif")

Argument = Callable[[argparse.ArgumentParser], None]


@dataclass(frozen=True)
class Command:
    """One command of `fdae`.

    Attributes:
        name: What is typed after ``fdae``.
        help: Its line in ``fdae --help``.
        function: ``"module:function"`` of this package, imported when the command runs. It takes the parsed arguments,
            and the file to write if there is an ``output``.
        examples: Shown below its help.
        arguments: Add its arguments to a parser.
        output: Default name of the file that it writes; ``None`` if it writes its results elsewhere.
        config: ``"module:dataclass"``, if its flags are the fields of that dataclass, which the function then takes
            instead of parsed arguments.
        about: The text above its arguments.
        needs_model: It works on a model, which is to be named.
        passes_flags: It takes the arguments that it does not know itself as a second argument, in their order.
        usage: Its first line of help, where its arguments alone do not make it.
    """

    name: str
    help: str
    function: str
    examples: str
    arguments: Sequence[Argument] = ()
    output: str | None = None
    config: str | None = None
    about: str = ""
    needs_model: bool = True
    passes_flags: bool = False
    usage: str | None = None

    @property
    def texts(self) -> dict[str, Any]:
        """What its help says, as options of an `argparse.ArgumentParser`."""
        return _texts(self.about or f"{self.help[0].upper()}{self.help[1:]}.", self.examples)


def make_parser(commands: Iterable[Command]) -> Parser:
    """Describe the commands and their arguments, except those of commands that have a config."""
    parser = Parser(prog="fdae", allow_abbrev=False, **_texts(ABOUT, EXAMPLES))
    parser.add_argument("--version", action="version", version=f"fdae {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    for command in commands:
        if command.config is not None:
            subparsers.add_parser(command.name, help=command.help, add_help=False)
            continue
        subparser = subparsers.add_parser(
            command.name, usage=command.usage, help=command.help, allow_abbrev=False, **command.texts
        )
        for add in command.arguments:
            add(subparser)
        if command.output is not None:
            _add_output(subparser, command.output)
    return parser


# --- Arguments


def argument(*names: str, **settings: Any) -> Argument:
    """Describe an argument as `argparse.ArgumentParser.add_argument` does."""

    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument(*names, **settings)

    return add


def one_of(*arguments: Argument) -> Argument:
    """Describe arguments of which exactly one is to be given."""

    def add(parser: argparse.ArgumentParser) -> None:
        group = parser.add_mutually_exclusive_group(required=True)
        for add_to in arguments:
            add_to(group)  # type: ignore[arg-type]  # a group takes arguments as a parser does

    return add


def images(help: str = "image files, folders or patterns; - for the model's examples", nargs: str = "+") -> Argument:
    """Describe the image files that a command reads."""
    return argument("images", nargs=nargs, metavar="IMAGE", type=InputFile, help=help)


def model_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that name a model: those of `hub.loading.ModelConfig`."""
    group = parser.add_argument_group("model")
    default = os.environ.get(MODEL_VARIABLE)
    group.add_argument(
        "--model", default=default, help=f"folder, Hub id or name of a model (default: ${MODEL_VARIABLE})"
    )
    group.add_argument("--variant", help="weights of the model: ema for the averaged ones")
    group.add_argument("--revision", help="branch, tag or commit of a model on the Hub")
    group.add_argument("--device", help="cuda, cpu, ... (default: an accelerator, if there is one)")


def sampler_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the sampler."""
    group = parser.add_argument_group("sampler")
    group.add_argument("--num_inference_steps", type=count, metavar="STEPS", help="(default: the model's own)")
    group.add_argument("--seed", type=seed, default=0, help="of the starting noise (default: %(default)s)")


KEEP_NOISE = argument(
    "--keep_noise", action="store_true", help="start from the image's own noise: keeps what no code holds"
)


def _add_output(parser: argparse.ArgumentParser, name: str) -> None:
    group = parser.add_argument_group("output")
    if (suffix := Path(name).suffix) in PICTURE_SUFFIXES:
        group.add_argument("--output", default=name, type=_file(*PICTURE_SUFFIXES), help="(default: %(default)s)")
        text = "a labelled sheet; the pictures alone, of which further ones are NAME-1, NAME-2, ...; or an animation"
        group.add_argument("--output_format", choices=OUTPUT_FORMATS, help=f"{text} (default: sheet, gif for .gif)")
    else:
        group.add_argument("--output", default=name, type=_file(suffix), help="(default: %(default)s)")
    group.add_argument("--overwrite", action="store_true", help="replace the output if it exists already")


def _texts(about: str, examples: str) -> dict[str, Any]:
    return {
        "description": about,
        "epilog": f"examples:\n{examples}",
        "formatter_class": argparse.RawDescriptionHelpFormatter,
    }


# --- Types of arguments. Each raises ArgumentTypeError itself: argparse would otherwise print the function's name.


def count(text: str) -> int:
    """Read a whole number of at least 1."""
    return _integer(text, 1, None)


def index(text: str) -> int:
    """Read a whole number of at least 0."""
    return _integer(text, 0, None)


def minutes(text: str) -> float:
    """Read a time above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of minutes above 0")
    return value


def seed(text: str) -> int:
    """Read a seed, as torch takes it."""
    return _integer(text, 0, 2**63 - 1)


def concepts(text: str) -> list[int | str]:
    """Read numbers of concepts, ``0,2`` for example, or ``all``."""
    names = [part.strip() for part in text.split(",")]
    if not all(name == ALL or name.isdecimal() for name in names):
        raise argparse.ArgumentTypeError(f"{text!r} names no concepts: give a number, several as 0,2 or {ALL}")
    return [name if name == ALL else int(name) for name in names]


def numbers(text: str) -> list[float]:
    """Read numbers, ``-1.5,0,1.5`` for example."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = [math.nan]
    if not all(map(math.isfinite, values)):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers: give them as -1.5,0,1.5")
    return values


def _integer(text: str, low: int, high: int | None) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
    if value < low or (high is not None and value > high):
        wanted = f"at least {low}" if high is None else f"between {low} and {high}"
        raise argparse.ArgumentTypeError(f"must be {wanted}, not {value}")
    return value


def _file(*suffixes: str) -> Callable[[str], str]:
    def check(path: str) -> str:
        if not path.lower().endswith(suffixes):
            raise argparse.ArgumentTypeError(f"{path} must end in {' or '.join(suffixes)}")
        return path

    return check
