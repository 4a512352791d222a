"""The command `fdae`: encode images, draw their masks and edits, score a model, without writing Python.

    fdae swap a.png b.png --model outputs/photos --content 1

Arguments are parsed and files are looked for before the function of a command is imported, which takes seconds.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from glob import escape
from importlib import import_module
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from ..errors import FDAEError, first_line
from ..utils.arguments import parse_config, run_script
from ..utils.assets import SHIPPED_MODEL, find_model
from ..utils.files import whole_file
from .inputs import EXAMPLE, expand_inputs, input_files
from .parser import MODEL_VARIABLE, Command, make_parser
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
    if command.passes_flags:
        load(command.function)(args, rest)
        return
    if rest:
        raise FDAEError(f"unknown argument {rest[0]} (fdae {command.name} --help lists what there is)")
    expand_inputs(args)
    if command.needs_model:
        args.model = find_model(args.model or _default_model(args))
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


def _default_model(args: argparse.Namespace) -> str:
    """The model of a command that names none: the one that comes with the package, but not for anybody's pictures."""
    if (
        any(path != EXAMPLE and not path.endswith(".safetensors") for path in input_files(args))
        or getattr(args, "dataset", None) is not None
    ):
        raise FDAEError(f"name a model: --model FOLDER_OR_HUB_ID, or the environment variable {MODEL_VARIABLE}")
    return SHIPPED_MODEL


def _write(command: Command, args: argparse.Namespace) -> None:
    """Let a command write its output: whole, and over an existing file only if asked to."""
    path = _choose_format(args)
    names = [escape(path.name)]
    if getattr(args, "output_format", None) == "images":  # further pictures
        names.append(f"{escape(path.stem)}-[0-9]*{path.suffix}")
    found = [file for name in names for file in path.parent.glob(name)] if path.parent.is_dir() else []
    if found and (path.is_dir() or not args.overwrite):
        raise FDAEError(f"{found[0]} exists already: name another --output, or add --overwrite to replace a file")
    try:
        with whole_file(path) as unfinished:
            unfinished.touch()  # fails now, not after the work
            function: Callable[[argparse.Namespace, Path], None] = load(command.function)
            function(args, unfinished)
    except (OSError, SafetensorError) as error:
        raise FDAEError(f"cannot write {path}: {first_line(error)}") from error


def _choose_format(args: argparse.Namespace) -> Path:
    """Settle the format of pictures and the suffix of their file, either of which may name an animation."""
    path = Path(args.output)
    if "output_format" not in args:
        return path
    if args.output_format is None:
        args.output_format = "gif" if path.suffix.lower() == ".gif" else "sheet"
    if args.output_format == "gif" and path.suffix.lower() != ".gif":
        args.output = str(path := path.with_suffix(".gif"))
    return path


if __name__ == "__main__":
    main()
