"""Disentanglement metrics on plain arrays: codes and factors in, dicts of floats and arrays out."""

from .attributes import attribute_accuracy
from .beta_vae import beta_vae_score
from .dci import dci
from .factor_grid import FactorGrid
from .factor_vae import factor_vae_score
from .irs import irs
from .leak import leak
from .mask_quality import mask_quality
from .mig import mig, self_mig
from .modularity import modularity_explicitness
from .nearest import read_factors, swap_effects
from .pictures import grain, psnr
from .sap import sap
from .segmentation import mask_statistics, segmentation_scores
from .suite import evaluate_codes

__all__ = [
    "FactorGrid",
    "attribute_accuracy",
    "beta_vae_score",
    "dci",
    "evaluate_codes",
    "factor_vae_score",
    "grain",
    "irs",
    "leak",
    "mask_quality",
    "mask_statistics",
    "mig",
    "modularity_explicitness",
    "psnr",
    "read_factors",
    "sap",
    "segmentation_scores",
    "self_mig",
    "swap_effects",
]
