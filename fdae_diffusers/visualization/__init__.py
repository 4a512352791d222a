"""Pictures of codes, masks and edits."""

from .figures import (
    concept_colors,
    image_grid,
    importance_figure,
    mask_figure,
    reconstruction_figure,
    single_swap_figure,
    swap_grid_figure,
    traversal_figure,
)

__all__ = [
    "concept_colors",
    "image_grid",
    "importance_figure",
    "mask_figure",
    "reconstruction_figure",
    "single_swap_figure",
    "swap_grid_figure",
    "traversal_figure",
]
