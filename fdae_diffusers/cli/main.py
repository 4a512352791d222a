"""The command `fdae`: encode images, draw their masks and edits, score a model, without writing Python.

    fdae swap a.png b.png --model model_cards/fdae-shapes3d-rendered-32 --content 1

Arguments are parsed and files are looked for before the function of a command is imported, which takes seconds.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from ..errors import FDAEError, first_line
from ..utils.arguments import parse_config, run_script
from ..utils.files import whole_file
from .parser import MODEL_VARIABLE, Command, InputFile, InputPath, make_parser
from .table import COMMANDS

PACKAGE = __name__.split(".")[0]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake ends it with one line and exit status 2."""
    run_script(partial(run, sys.argv[1:] if argv is None else argv))


def run(argv: Sequence[str]) -> None:
    """Run one command.

    Raises:
        FDAEError: If something is wrong with what was asked for.
    """
    parser = make_parser(COMMANDS)
    args, rest = parser.parse_known_args(argv)
    if args.command is None:
        if rest:
            parser.error(f"unknown argument {rest[0]}")
        parser.print_help()
        return
    command = {command.name: command for command in COMMANDS}[args.command]
    if command.config is not None:
        _run_with_config(command, command.config, rest)
        return
    if rest:
        raise FDAEError(f"unknown argument {rest[0]} (fdae {command.name} --help lists what there is)")
    if not args.model:
        raise FDAEError(f"name a model: --model FOLDER_OR_HUB_ID, or the environment variable {MODEL_VARIABLE}")
    _check_inputs(args)
    if command.output is None:
        load(command.function)(args)
    else:
        _write(command, args)
        print(f"written to {args.output}")


def load(name: str) -> Any:
    """Import what ``"module:name"`` stands for; modules are named from the package."""
    module, _, attribute = name.partition(":")
    return getattr(import_module(f"{PACKAGE}.{module}"), attribute)


def _run_with_config(command: Command, config: str, argv: Sequence[str]) -> None:
    """Run a command whose flags are the fields of a dataclass."""
    model = os.environ.get(MODEL_VARIABLE)
    flags = [*(["--model", model] if model else []), *argv]  # what is given overrides the variable
    settings = parse_config(load(config), flags, prog=f"fdae {command.name}", **command.texts)
    load(command.function)(settings)


def _check_inputs(args: argparse.Namespace) -> None:
    """Raise FDAEError for the first file to read that is not there, or is a folder."""
    for value in vars(args).values():
        for path in value if isinstance(value, list) else [value]:
            if not isinstance(path, InputPath):
                continue
            if not Path(path).exists():
                raise FDAEError(f"there is no file {path}")
            if isinstance(path, InputFile) and Path(path).is_dir():
                raise FDAEError(f"{path} is a folder: name the images in it")


def _write(command: Command, args: argparse.Namespace) -> None:
    """Let a command write its output: whole, and over an existing file only if asked to."""
    path = Path(args.output)
    if path.exists() and (path.is_dir() or not args.overwrite):
        raise FDAEError(f"{path} exists already: name another --output, or add --overwrite to replace a file")
    try:
        with whole_file(path) as unfinished:
            unfinished.touch()  # fails now, not after the work
            function: Callable[[argparse.Namespace, Path], None] = load(command.function)
            function(args, unfinished)
    except (OSError, SafetensorError) as error:
        raise FDAEError(f"cannot write {path}: {first_line(error)}") from error


if __name__ == "__main__":
    main()
