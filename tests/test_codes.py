import numpy as np
import pytest
import torch

from fdae_diffusers import FDAECodes


def make_codes(batch_size=3, num_concepts=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return FDAECodes(
        torch.randn(batch_size, num_concepts, 5, generator=generator),
        torch.randn(batch_size, num_concepts, 6, generator=generator),
    )


def test_swap_takes_exactly_the_named_codes_and_changes_neither_batch():
    a, b = make_codes(seed=0), make_codes(seed=1)
    a_before, b_before = a.content.clone(), b.content.clone()
    swapped = a.swap(b, content=[2], mask=[0, 3])
    assert torch.equal(swapped.content[:, 2], b.content[:, 2])
    assert torch.equal(swapped.content[:, [0, 1, 3]], a.content[:, [0, 1, 3]])
    assert torch.equal(swapped.mask[:, [0, 3]], b.mask[:, [0, 3]])
    assert torch.equal(swapped.mask[:, [1, 2]], a.mask[:, [1, 2]])
    assert torch.equal(a.content, a_before)
    assert torch.equal(b.content, b_before)


def test_swapping_all_codes_gives_the_other_images():
    a, b = make_codes(seed=0), make_codes(seed=1)
    swapped = a.swap(b, content="all", mask="all")
    assert torch.equal(swapped.content, b.content)
    assert torch.equal(swapped.mask, b.mask)


def test_one_image_gives_its_codes_to_a_whole_batch():
    a, b = make_codes(), make_codes(batch_size=1, seed=1)
    swapped = a.swap(b, content=[1])
    assert torch.equal(swapped.content[:, 1], b.content[:, 1].expand(3, -1))


def test_one_concept_may_be_a_number_of_any_kind():
    a, b = make_codes(seed=0), make_codes(seed=1)
    for concept in (2, np.int64(2), [np.int64(2)], np.array([2]), torch.tensor([2])):
        assert torch.equal(a.swap(b, content=concept).content, a.swap(b, content=[2]).content)
    assert torch.equal(a.swap(b, mask=np.array([0, 3])).mask, a.swap(b, mask=[0, 3]).mask)
    assert torch.equal(a[np.int64(1)].content, a[1].content)
    assert torch.equal(a[torch.tensor(1)].content, a[1].content)


def test_indexing_and_joining_are_inverse():
    codes = make_codes()
    joined = FDAECodes.cat([codes[0], codes[1:]])
    assert len(codes[0]) == 1
    assert torch.equal(joined.content, codes.content)
    assert torch.equal(joined.mask, codes.mask)


@pytest.mark.parametrize("concept", [4, -1, "sky"])
def test_unknown_concepts_are_refused(concept):
    with pytest.raises(ValueError, match="concepts 0 to 3"):
        make_codes().swap(make_codes(seed=1), content=[concept])


def test_codes_of_another_model_are_refused():
    with pytest.raises(ValueError, match="same model"):
        make_codes().swap(make_codes(num_concepts=5), content=[0])


def test_single_concept_codes_have_no_masks_to_swap():
    codes = FDAECodes(torch.randn(2, 1, 5))
    assert codes.swap(codes, content=[0]).mask is None
    with pytest.raises(ValueError, match="single concept"):
        codes.swap(codes, mask=[0])


def test_shapes_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match=r"\(B, N, d_c\)"):
        FDAECodes(torch.randn(2, 5))
    with pytest.raises(ValueError, match="same B and N"):
        FDAECodes(torch.randn(2, 3, 5), torch.randn(2, 4, 5))


def test_single_swaps_take_one_code_each_content_first():
    a, b = make_codes(batch_size=1, seed=0), make_codes(batch_size=1, seed=1)
    swaps = a.single_swaps(b)
    assert len(swaps) == 8
    for index, expected in ((1, a.swap(b, content=1)), (6, a.swap(b, mask=2))):
        assert torch.equal(swaps[index].content, expected.content)
        assert torch.equal(swaps[index].mask, expected.mask)
    assert len(FDAECodes(a.content[:, :1]).single_swaps(FDAECodes(b.content[:, :1]))) == 1
    with pytest.raises(ValueError, match="codes of one image, not of 3"):
        make_codes().single_swaps(b)


def test_interpolation_goes_straight_from_one_code_to_the_other():
    a, b = make_codes(seed=0), make_codes(seed=1)
    half = a.interpolate(b, 0.5, content=[2], mask="all")
    torch.testing.assert_close(half.content[:, 2], (a.content[:, 2] + b.content[:, 2]) / 2)
    assert torch.equal(half.content[:, [0, 1, 3]], a.content[:, [0, 1, 3]])
    torch.testing.assert_close(half.mask, (a.mask + b.mask) / 2)


def test_interpolation_ends_at_the_codes_themselves_and_at_their_swap():
    a, b = make_codes(batch_size=1, seed=0), make_codes(batch_size=1, seed=1)
    row = a.interpolate(b, [0, 0.25, 1], content="all", mask=[1])
    assert len(row) == 3
    for index, end in ((0, a), (2, a.swap(b, content="all", mask=[1]))):
        assert torch.equal(row[index].content, end.content)
        assert torch.equal(row[index].mask, end.mask)


def test_interpolation_without_masks_or_with_impossible_weights():
    a, b = (FDAECodes(make_codes(seed=seed).content) for seed in (0, 1))
    assert a.interpolate(b, 0.5, content=0).mask is None
    for weight in (-0.1, 1.5, float("nan"), []):
        with pytest.raises(ValueError, match=r"in \[0, 1\]"):
            a.interpolate(b, weight, content=0)
    with pytest.raises(ValueError, match="codes of one image, not of 3"):
        a.interpolate(b, [0.1, 0.2], content=0)
