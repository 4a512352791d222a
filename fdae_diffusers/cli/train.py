"""`fdae train`: a training of own pictures in one command, or one with the settings of a YAML file."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from ..data.photos import PreparedPictures, prepare_pictures
from ..errors import FDAEError
from ..hub.files import INDEX_FILE, TRAINING_FILE
from ..training import TrainingConfig, train
from ..training.plan import Plan, plan_training
from ..utils.arguments import parse_config

RECIPE = "own-images"
NUM_NAMED = 5  # files left out that are named on the screen


def train_command(args: argparse.Namespace, flags: Sequence[str]) -> None:
    """Train on the pictures of a folder, or as a YAML file and flags say.

    Args:
        args: The flags of the command itself.
        flags: A folder of pictures first, if one is named, and flags of `TrainingConfig`.

    Raises:
        FDAEError: If the flags contradict each other, or the pictures or settings are unusable.
        RunInterrupted: If Ctrl-C or SIGTERM stopped the run; it has left a checkpoint.
    """
    flags = list(flags)
    photos = flags.pop(0) if flags and not flags[0].startswith("-") else None
    output = ["--output_dir", args.output_dir] if args.output_dir else []
    if args.all_flags:
        parse_config(TrainingConfig, ["--help"], prog="fdae train")
    if photos is None:
        if args.minutes is not None or args.resolution is not None:
            raise FDAEError("--minutes and --resolution go with a folder of pictures: fdae train FOLDER --minutes 20")
        if not flags:
            raise FDAEError(
                "name a folder of pictures, or a --config: fdae train FOLDER, fdae train --config quickstart"
            )
        config = parse_config(TrainingConfig, [*flags, *output], prog="fdae train")
        _check_no_model(Path(config.output_dir), args.overwrite or config.resume_from_checkpoint is not None)
    else:
        output = output or ["--output_dir", f"outputs/{Path(photos).resolve().name}"]
        config = _plan(args, photos, [*flags, *output]).config
    folder = train(config)
    print(_summary(folder))


def _plan(args: argparse.Namespace, photos: str, flags: list[str]) -> Plan:
    """Prepare the pictures, plan their training and say both."""
    if not Path(photos).is_dir():
        raise FDAEError(f"there is no folder {photos}")
    recipe = [] if any(flag.split("=")[0] == "--config" for flag in flags) else ["--config", RECIPE]
    config = parse_config(TrainingConfig, [*recipe, *flags, "--train_data_dir", photos], prog="fdae train")
    folder = Path(config.output_dir)
    _check_no_model(folder, args.overwrite)
    fixed = {flag[2:].split("=")[0].replace("-", "_") for flag in flags if flag.startswith("--")}
    num_files = sum(path.is_file() for path in Path(photos).rglob("*"))
    print(f"trying a few steps for {num_files:,} files ...", flush=True)
    minutes = 20.0 if args.minutes is None else args.minutes
    plan = plan_training(config, max(num_files, 1), minutes, args.resolution, fixed)
    prepared = prepare_pictures(photos, folder / "pictures" / Path(photos).resolve().name, plan.resolution, args.fit)
    batch_size = plan.config.train_batch_size
    if "train_batch_size" not in fixed:
        batch_size = min(batch_size, max(2, prepared.num_pictures // 2))
    config = replace(plan.config, train_data_dir=str(prepared.folder), train_batch_size=batch_size)
    plan = replace(plan, config=config, num_images=prepared.num_pictures)
    print(_told(prepared, args.fit))
    print(plan.describe(datetime.now()), flush=True)
    return plan


def _check_no_model(folder: Path, overwrite: bool) -> None:
    if (folder / INDEX_FILE).exists() and not overwrite:
        raise FDAEError(f"{folder} holds a model: name another --output_dir, or add --overwrite to replace it")


def _told(prepared: PreparedPictures, fit: str) -> str:
    shape = "cropped to their centre" if fit == "crop" else "padded to squares"
    text = f"pictures    {prepared.num_pictures:,}, {shape}"
    if not prepared.left_out:
        return text
    named = [f"            {name}: {reason}" for name, reason in list(prepared.left_out.items())[:NUM_NAMED]]
    if len(prepared.left_out) > NUM_NAMED:
        named.append(f"            all of them: {prepared.folder}/left_out.txt")
    return "\n".join([text, f"left out    {len(prepared.left_out):,}", *named])


def _summary(folder: Path) -> str:
    """What came of a training, and what to do next."""
    record: dict[str, Any] = json.loads((folder / TRAINING_FILE).read_text())
    steps = record["num_inference_steps"]
    psnr = [item["psnr"] for item in record.get("sampling", ()) if item["num_inference_steps"] == steps]
    lines = [f"model and pictures: {folder}"]
    if psnr:
        kind = "it has not seen" if record["sampling_held_out"] else "of its training"
        lines.append(f"reconstruction: {psnr[0]:.1f} dB PSNR on {record['sampling_num_images']} pictures {kind}")
    lines += [
        "next:",
        f"  fdae app --model {folder}            # swap codes in the browser",
        f"  fdae swap - - --model {folder}       # each code of one picture given to another",
        f"  fdae check FOLDER --model {folder}   # how it does on other pictures",
    ]
    return "\n".join(lines)
