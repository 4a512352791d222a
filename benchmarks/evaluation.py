#!/usr/bin/env python
"""CPU time of an evaluation that encodes every image once, against encoding each batch when a metric asks for it.

    python benchmarks/evaluation.py --model model_cards/fdae-shapes3d-rendered-32

The literal version is the released code's: batches of 64 images for each FactorVAE vote and of 16 for the other draws.
It is timed on some batches and multiplied up; ours is the time of everything, on the full grid and with the paper's
counts.
"""

import argparse
import time

import torch

from fdae_diffusers.data import RENDERED_SHAPES3D, load_benchmark
from fdae_diffusers.evaluation.encode import encode_dataset
from fdae_diffusers.hub.loading import load_pipeline
from fdae_diffusers.metrics import factor_vae_score, mig
from fdae_diffusers.utils.memory import keep_freed_memory

NUM_VOTES = 15_000
NUM_DRAWN = 10_000 + 5_000 + 10_000 + 10_000  # DCI, FactorVAE variances, MIG


def main() -> None:
    """Time both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="model_cards/fdae-shapes3d-rendered-32")
    parser.add_argument("--batches", type=int, default=50, help="batches that the literal version is timed on")
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as encode_dataset does: the literal version is not to be slower for that
    encoder = load_pipeline(args.model).encoder
    images, factors = load_benchmark(RENDERED_SHAPES3D, None, encoder.config.sample_size)

    votes = NUM_VOTES * seconds_per_batch(encoder, images, 64, args.batches)
    draws = NUM_DRAWN / 16 * seconds_per_batch(encoder, images, 16, args.batches)
    start = time.process_time()
    codes = encode_dataset(encoder, images, 256)
    once = time.process_time() - start
    start = time.process_time()
    factor_vae_score(codes, factors)
    factor_vae_seconds = time.process_time() - start
    start = time.process_time()
    mig(codes, factors)
    mig_seconds = time.process_time() - start

    print("| | literal, CPU s | once, CPU s | ratio |\n| --- | --- | --- | --- |")
    print(f"| encoding | {votes + draws:.0f} | {once:.0f} | {(votes + draws) / once:.1f} |")
    print(f"| FactorVAE votes on codes | | {factor_vae_seconds:.1f} | |\n| MIG on codes | | {mig_seconds:.1f} | |")


@torch.inference_mode()
def seconds_per_batch(encoder, images, batch_size: int, batches: int) -> float:
    """CPU seconds to read and encode a batch."""
    start = time.process_time()
    for i in range(batches):
        rows = range(i * batch_size, (i + 1) * batch_size)
        encoder.encode(torch.stack([images[row]["pixel_values"] for row in rows]))
    return (time.process_time() - start) / batches


if __name__ == "__main__":
    main()
