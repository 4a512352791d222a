import numpy as np
import PIL.Image
import pytest
from helpers.models import micro_pipeline

from fdae_diffusers import FDAECodes
from fdae_diffusers.basis import CodeBasis
from fdae_diffusers.visualization.figures import CELL_SIZE, GAP, HEADER_HEIGHT, LABEL_WIDTH
from fdae_diffusers.visualization.samples import TRAVERSAL_VALUES, make_edit_figures

PITCH = CELL_SIZE + GAP


def pictures(count):
    noise = np.random.default_rng(0).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)
    return [PIL.Image.fromarray(array) for array in noise]


def cell(figure, row, column):
    left, top = LABEL_WIDTH + GAP + column * PITCH, HEADER_HEIGHT + GAP + row * PITCH
    return np.asarray(figure.crop((left, top, left + CELL_SIZE, top + CELL_SIZE)))


@pytest.mark.parametrize("num_concepts", [1, 3])
def test_edit_figures_show_every_code_of_the_model(num_concepts):
    pipeline = micro_pipeline(num_concepts=num_concepts)
    images = pictures(6)
    basis = CodeBasis.fit(pipeline.encode(images), num_clusters=2)
    figures = make_edit_figures(pipeline, images[0], images[1], 1, basis)
    num_rows = 1 if num_concepts == 1 else 2
    assert figures["single_swaps"].width == LABEL_WIDTH + (2 + num_concepts) * PITCH + GAP
    assert figures["single_swaps"].height == HEADER_HEIGHT + num_rows * PITCH + GAP
    assert figures["traversal"].width == LABEL_WIDTH + len(TRAVERSAL_VALUES) * PITCH + GAP
    assert figures["traversal"].height == HEADER_HEIGHT + num_rows * num_concepts * PITCH + GAP
    assert list(make_edit_figures(pipeline, images[0], images[1], 1)) == ["single_swaps"]


def test_all_edits_of_a_figure_start_from_the_same_noise():
    pipeline = micro_pipeline()
    image = pictures(1)[0]
    figure = make_edit_figures(pipeline, image, image, 1)["single_swaps"]  # swaps with itself change nothing
    cells = [cell(figure, row, column) for row in range(2) for column in range(2, 5)]
    assert all(np.abs(np.int16(other) - cells[0]).max() <= 1 for other in cells)
    assert np.array_equal(cell(figure, 0, 0), cell(figure, 0, 1))


def test_traversal_rows_follow_the_basis():
    pipeline = micro_pipeline()
    images = pictures(6)
    codes = pipeline.encode(images)
    far = FDAECodes(codes.content * 100, codes.mask)
    figure = make_edit_figures(pipeline, images[0], images[1], 1, CodeBasis.fit(far, num_clusters=2))["traversal"]
    spread = [np.abs(np.int16(cell(figure, row, 0)) - cell(figure, row, 4)).mean() for row in range(6)]
    assert min(spread[:3]) > max(spread[3:])
