#!/usr/bin/env python
"""Count how often swapped codes change what they should, and nothing else, on re-rendered Shapes3D.

    python training/evaluate_swaps.py --model outputs/quickstart --num_pairs 200 --seed 0

Prints a table and writes `swaps.json`. See `fdae_diffusers.evaluation.swaps` for what is measured.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from fdae_diffusers.data.shapes3d_factors import Shapes3DReader
from fdae_diffusers.evaluation.swaps import FACTORS, Pairs, find_edits, reader_accuracy, score_edit
from fdae_diffusers.hub.files import SWAPS_FILE
from fdae_diffusers.hub.loading import load_pipeline
from fdae_diffusers.schedulers import choose_num_inference_steps
from fdae_diffusers.utils.arguments import parse_config, run_script
from fdae_diffusers.utils.files import output_file, whole_file


@dataclass
class SwapsConfig:
    """Settings of the measurement."""

    model: str = field(metadata={"help": "Pipeline folder or Hub id, of a model of Shapes3D."})
    num_pairs: int = field(default=200, metadata={"help": "Pairs of images that the rates are of."})
    num_search_pairs: int = field(default=32, metadata={"help": "Other pairs, to find which concept is which on."})
    seed: int = field(default=0, metadata={"help": "Seed of pairs and starting noise."})
    num_inference_steps: int | None = field(default=None, metadata={"help": "Steps of the sampler."})
    keep_noise: bool = field(default=False, metadata={"help": "Start from the images' own noise, by inversion."})
    batch_size: int = field(default=64, metadata={"help": "Pictures decoded at a time."})
    device: str | None = field(default=None, metadata={"help": "cuda, cpu, ...; an accelerator if there is one."})
    output: str | None = field(default=None, metadata={"help": "JSON file; swaps.json in a local model's folder."})


def main() -> None:
    """Measure with the settings of the command line."""
    evaluate(parse_config(SwapsConfig))


def evaluate(config: SwapsConfig) -> dict[str, Any]:
    """Find the concepts, swap their codes, print and write how often the pictures are right.

    Raises:
        FDAEError: If the model cannot be loaded or has a single concept.
    """
    output = output_file(config.output, config.model, SWAPS_FILE)
    pipeline = load_pipeline(config.model, config.device)
    pipeline.set_progress_bar_config(disable=True)
    steps = choose_num_inference_steps(pipeline.scheduler, config.num_inference_steps)
    reader = Shapes3DReader(pipeline.encoder.config.sample_size)
    random_state = np.random.RandomState(config.seed)
    search_pairs, pairs = (
        Pairs(pipeline, num_pairs, random_state, steps, config.keep_noise, config.batch_size)
        for num_pairs in (config.num_search_pairs, config.num_pairs)
    )
    edits = find_edits(pipeline.encoder.config.num_concepts, search_pairs, reader)
    result = {
        **asdict(config),
        "num_inference_steps": steps,
        "reader_accuracy": reader_accuracy(pairs, reader),
        "edits": {edit.name: score_edit(edit, pairs, reader) for edit in tqdm(edits, desc="edits")},
    }
    print_table(result)
    with whole_file(output) as unfinished:
        unfinished.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written to {output}")
    return result


def print_table(result: dict[str, Any]) -> None:
    """Print the share of pictures with the right value of each factor; a star marks those that should change."""
    print(f"\n{result['model']}, {result['num_pairs']} pairs, {result['num_inference_steps']} steps")
    print(f"{'swapped':<37}" + "".join(f"{name:>12}" for name in (*FACTORS, "all", "PSNR (dB)")))
    for name, scores in result["edits"].items():
        codes = " ".join(kind[0] + ",".join(map(str, scores[kind])) for kind in ("content", "mask") if scores[kind])
        rates = [
            f"{rate:.3f}{'*' if factor in scores['changed'] else ' '}"
            for factor, rate in scores["as_expected"].items()
        ]
        cells = [*rates, f"{scores['all_as_expected']:.3f} ", f"{scores['psnr']:.1f} "]
        print(f"{name:<23}{codes:<14}" + "".join(f"{cell:>12}" for cell in cells))
    accuracy = min(result["reader_accuracy"].values())
    print(f"(read off true pictures: {accuracy:.3f} right in every factor, at least)")


if __name__ == "__main__":
    run_script(main)
