import numpy as np
import PIL.Image
import pytest
import torch

from fdae_diffusers.visualization import (
    CELL_SIZE,
    GAP,
    HEADER_HEIGHT,
    concept_colors,
    image_grid,
    mask_figure,
    swap_grid_figure,
)

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
PITCH = CELL_SIZE + GAP


def picture(color, size=8):
    return PIL.Image.new("RGB", (size, size), color)


def cell_center(figure, row, column, top=0):
    return figure.getpixel((GAP + column * PITCH + CELL_SIZE // 2, top + GAP + row * PITCH + CELL_SIZE // 2))


def test_grid_places_pictures_by_row_and_column_and_leaves_gaps_empty():
    figure = image_grid([[picture(RED), None], [picture(GREEN), picture(BLUE, size=300)]])
    assert figure.size == (2 * PITCH + GAP, 2 * PITCH + GAP)
    assert cell_center(figure, 0, 0) == RED
    assert cell_center(figure, 0, 1) == (255, 255, 255)
    assert cell_center(figure, 1, 0) == GREEN
    assert cell_center(figure, 1, 1) == BLUE


def test_mask_figure_shows_image_heat_maps_and_strongest_concept():
    masks = torch.zeros(1, 2, 8, 8)
    masks[:, 1] = 1
    figure = mask_figure([picture(RED)], masks)
    assert figure.width == 4 * PITCH + GAP
    assert cell_center(figure, 0, 0, HEADER_HEIGHT) == RED
    assert sum(cell_center(figure, 0, 1, HEADER_HEIGHT)) < 60 < sum(cell_center(figure, 0, 2, HEADER_HEIGHT))
    strongest = np.round(concept_colors(2)[1] * 255)
    np.testing.assert_allclose(cell_center(figure, 0, 3, HEADER_HEIGHT), strongest, atol=1)


def test_swap_grid_figure_has_content_sources_left_and_mask_sources_above():
    sources = [picture(RED), picture(GREEN)]
    figure = swap_grid_figure(sources, [[picture(BLUE)] * 2] * 2)
    assert cell_center(figure, 0, 1) == RED
    assert cell_center(figure, 0, 2) == GREEN
    assert cell_center(figure, 1, 0) == RED
    assert cell_center(figure, 2, 0) == GREEN
    assert cell_center(figure, 2, 2) == BLUE


def test_concepts_have_different_colors():
    assert len(np.unique(concept_colors(10), axis=0)) == 10


def test_empty_and_mismatched_figures_are_refused():
    with pytest.raises(ValueError, match="at least one picture"):
        image_grid([])
    with pytest.raises(ValueError, match="1 images and 2 masks"):
        mask_figure([picture(RED)], torch.zeros(2, 3, 8, 8))
