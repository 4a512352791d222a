import numpy as np
import PIL.Image
import pytest
import torch

from fdae_diffusers.visualization.figures import (
    CELL_SIZE,
    GAP,
    HEADER_HEIGHT,
    LABEL_WIDTH,
    concept_colors,
    image_grid,
    importance_figure,
    mask_figure,
    single_swap_figure,
    swap_grid_figure,
    traversal_figure,
)

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
PITCH = CELL_SIZE + GAP


def picture(color, size=8):
    return PIL.Image.new("RGB", (size, size), color)


def cell_center(figure, row, column, top=0, left=0):
    return figure.getpixel((left + GAP + column * PITCH + CELL_SIZE // 2, top + GAP + row * PITCH + CELL_SIZE // 2))


def share_of(color, figure, left=0.0, right=1.0):
    """How much of a figure, between two fractions of its width, has a colour of matplotlib's first ten."""
    pixels = np.asarray(figure)[:, int(left * figure.width) : int(right * figure.width)]
    return np.mean(np.abs(pixels - concept_colors(10)[color] * 255).max(-1) < 3)


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


def test_single_swap_figure_has_content_codes_above_mask_codes():
    swaps = [picture(GREEN)] * 3 + [picture(BLUE)] * 3
    figure = single_swap_figure(picture(RED), picture(GREEN), swaps)
    centers = [[cell_center(figure, i, j, HEADER_HEIGHT, LABEL_WIDTH) for j in range(5)] for i in range(2)]
    assert centers == [[RED, GREEN, *[GREEN] * 3], [(255,) * 3, (255,) * 3, *[BLUE] * 3]]
    single_concept = single_swap_figure(picture(RED), picture(GREEN), swaps[:1])
    assert single_concept.height < figure.height


def test_traversal_figure_has_values_in_columns():
    figure = traversal_figure([[picture(RED), picture(GREEN)], [picture(BLUE)] * 2], ["a", "b"], (-1, 1))
    assert figure.size == (LABEL_WIDTH + 2 * PITCH + GAP, HEADER_HEIGHT + 2 * PITCH + GAP)
    assert cell_center(figure, 0, 1, HEADER_HEIGHT, LABEL_WIDTH) == GREEN
    assert cell_center(figure, 1, 1, HEADER_HEIGHT, LABEL_WIDTH) == BLUE
    assert np.asarray(figure)[HEADER_HEIGHT:, :LABEL_WIDTH].min() < 100  # the labels
    for labels, values in ((["a"], (-1, 1)), (["a", "b"], (0,))):
        with pytest.raises(ValueError, match="labels and"):
            traversal_figure([[picture(RED)] * 2] * 2, labels, values)


def test_importance_figure_has_a_panel_per_factor_and_adds_up_the_dimensions_of_a_code():
    importance = np.zeros((12, 3))  # 2 concepts, 3 dimensions per code
    importance[:3, 0] = 0.3, 0.3, 0.4  # content code 0
    importance[9:, 1] = 0.5, 0.2, 0.3  # mask code 1
    importance[2:4, 2] = 0.5  # half of each of two content codes
    figure = importance_figure(importance, ["hue", "shape", "both"], num_concepts=2)
    content, mask = ([share_of(color, figure, i / 3, (i + 1) / 3) for i in range(3)] for color in (0, 1))
    assert min(content[0], content[2], mask[1]) > 0.05
    assert max(content[1], mask[0], mask[2]) < 0.002
    assert content[0] == pytest.approx(content[2], rel=0.1)


def test_importance_figure_without_concepts_has_a_bar_per_dimension():
    figure = importance_figure(np.full((5, 4), 0.2), list("abcd"), num_concepts=1)
    assert share_of(0, figure) > 0.05
    assert share_of(1, figure) == 0
    with pytest.raises(ValueError, match="4 factors and 4 codes"):
        importance_figure(np.full((5, 4), 0.2), list("abcd"), num_concepts=2)


def test_concepts_have_different_colors():
    assert len(np.unique(concept_colors(10), axis=0)) == 10


def test_empty_and_mismatched_figures_are_refused():
    with pytest.raises(ValueError, match="at least one picture"):
        image_grid([])
    with pytest.raises(ValueError, match="1 images and 2 masks"):
        mask_figure([picture(RED)], torch.zeros(2, 3, 8, 8))
