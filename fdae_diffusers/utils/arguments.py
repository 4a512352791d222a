"""Command lines from dataclasses: one dataclass gives the flags, the YAML keys and the help of a script."""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_type_hints

from ..errors import FDAEError, RunInterrupted
from .assets import config_names, find_config

ConfigT = TypeVar("ConfigT")

_NEGATIVE_FIRST = re.compile(r"-[\d.]+,[\d.,eE+-]*")  # numbers of which the first is negative


class JSONMapping(dict[str, Any]):
    """A mapping that may be given as JSON, as it must be on a command line."""

    def __init__(self, value: str | Mapping[str, Any] | Iterable[tuple[str, Any]] = ()):
        super().__init__(json.loads(value) if isinstance(value, str) else value)


class Parser(argparse.ArgumentParser):
    """Reports a wrong flag as one line instead of the usage text, and takes flags with hyphens or underscores.

    The help of a field may be a function that returns the text, where it lists what may be registered later.
    """

    def add_argument(self, *names: Any, **settings: Any) -> Any:
        """Add a flag, as `argparse.ArgumentParser.add_argument`."""
        if callable(text := settings.get("help")):
            settings["help"] = text()
        return super().add_argument(*names, **settings)

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing and exiting."""
        raise FDAEError(f"{message} (--help lists the flags)")

    def parse_known_args(self, args=None, namespace=None):
        """Parse arguments after their flags are spelled as they are declared."""
        return super().parse_known_args(spell_flags(sys.argv[1:] if args is None else args), namespace)


def spell_flags(argv: Iterable[str]) -> list[str]:
    """Write ``--keep-noise`` as ``--keep_noise``, and ``--values -1,2`` as ``--values=-1,2``, which is a value.

    What follows a bare ``--`` stays as it is.
    """
    spelled: list[str] = []
    rest = iter(argv)
    for argument in rest:
        if argument == "--":
            return [*spelled, argument, *rest]
        if argument.startswith("--"):
            name, *value = argument.split("=", 1)
            argument = "=".join(["--" + name[2:].replace("-", "_"), *value])
        elif (
            _NEGATIVE_FIRST.fullmatch(argument) and spelled and spelled[-1].startswith("--") and "=" not in spelled[-1]
        ):
            argument = f"{spelled.pop()}={argument}"
        spelled.append(argument)
    return spelled


def parse_config(config_class: type[ConfigT], argv: Sequence[str] | None = None, **parser_options: Any) -> ConfigT:
    """Fill a dataclass from ``--config FILE.yaml`` and flags; flags override the file.

    ``--config quickstart`` is the file of that name that comes with the package, see :mod:`.assets`.

    Where the class attribute ``alternatives`` names fields that exclude each other, tuple by tuple, a flag for one
    replaces whichever of them the file has.

    Args:
        config_class: The dataclass; its fields are the flags and the keys of the file.
        argv: The arguments, those of the process by default.
        parser_options: Of `argparse.ArgumentParser`: what its help says.

    Raises:
        FDAEError: If the file cannot be read, or a key, flag or value is unknown.
    """
    from transformers.hf_argparser import HfArgumentParser  # slow to import, and not needed by the command `fdae`

    class ConfigParser(Parser, HfArgumentParser):
        """Makes flags of the fields of a dataclass."""

    argv = list(sys.argv[1:] if argv is None else argv)
    parser = ConfigParser(config_class, allow_abbrev=False, **parser_options)  # type: ignore[arg-type]
    parser.add_argument(
        "--config",
        help="YAML file, or name of one in the package, with values for the flags below; flags override it",
    )
    config_parser = Parser(add_help=False, allow_abbrev=False)
    config_parser.add_argument("--config")
    known, _ = config_parser.parse_known_args(argv)
    if known.config is not None:
        # As flags ahead of the real ones, the file's values go through the same types and checks, and are overridden.
        values = _read_yaml(find_config(known.config), get_type_hints(config_class))
        given = {token.split("=")[0].removeprefix("--").replace("-", "_") for token in argv if token.startswith("--")}
        for names in getattr(config_class, "alternatives", ()):
            if given & set(names):
                values = {key: value for key, value in values.items() if key not in names}
        argv = _as_flags(values, get_type_hints(config_class)) + argv
    _, unknown = parser.parse_known_args(argv)
    if unknown:
        parser.error(f"unknown flag {unknown[0]}")
    return parser.parse_args_into_dataclasses(argv, look_for_args_file=False)[0]


def check_at_least_one(config: Any, names: Iterable[str]) -> None:
    """Raise FDAEError for the first of a dataclass's numbers that is below one; None is none."""
    for name in names:
        value = getattr(config, name)
        if value is not None and value < 1:
            raise FDAEError(f"{name} must be at least 1, not {value}")


def run_script(main: Callable[[], Any]) -> None:
    """Run a script's main function; a user's mistake ends it with one line and exit status 2, not a traceback."""
    try:
        main()
    except (FDAEError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except RunInterrupted as interruption:
        print(interruption, file=sys.stderr)
        sys.exit(interruption.exit_status)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def _read_yaml(path: Path, keys: dict[str, Any]) -> dict[str, Any]:
    import yaml

    try:
        values = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise FDAEError(f"there is no file {path}; with the package come {', '.join(config_names())}") from None
    except OSError as error:
        raise FDAEError(f"cannot read the configuration {path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise FDAEError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise FDAEError(f"{path} must map names of flags to values")
    for key in values:
        if key not in keys:
            raise FDAEError(f"{path} has an unknown key {key!r} (--help lists the flags)")
    return values


def _as_flags(values: dict[str, Any], keys: dict[str, Any]) -> list[str]:
    flags: list[str] = []
    for key, value in values.items():
        if value is False and keys[key] is not bool:
            value = "no"  # which YAML reads as False
        if isinstance(value, list):
            flags += [f"--{key}", *map(str, value)]
        elif value is not None:
            # One token, so that a negative number is no flag.
            flags.append(f"--{key}={json.dumps(value) if isinstance(value, dict) else value}")
    return flags
