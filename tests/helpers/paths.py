"""Places that tests read from."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
TRAINING = ROOT / "training"
FIXTURES = ROOT / "tests" / "fixtures"
# Real images and reference outputs that are not part of the repository; tests that need them are skipped without.
SHARED = ROOT.parent / "shared"
