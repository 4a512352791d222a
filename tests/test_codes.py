import os
import stat

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fdae_diffusers import FDAECodes
from fdae_diffusers.errors import FDAEError


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
    for weight in (float("inf"), float("nan"), []):
        with pytest.raises(FDAEError, match="finite"):
            a.interpolate(b, weight, content=0)
    with pytest.raises(ValueError, match="codes of one image, not of 3"):
        a.interpolate(b, [0.1, 0.2], content=0)


def test_interpolation_goes_on_beyond_both_ends():
    a, b = make_codes(batch_size=1, seed=0), make_codes(batch_size=1, seed=1)
    before, after = a.interpolate(b, [-0.5, 2], mask=1).mask[:, 1]
    torch.testing.assert_close(before, 1.5 * a.mask[0, 1] - 0.5 * b.mask[0, 1])
    torch.testing.assert_close(after, 2 * b.mask[0, 1] - a.mask[0, 1])


@pytest.mark.parametrize("edit", [FDAECodes.swap, lambda a, b, **concepts: a.interpolate(b, 0.5, **concepts)])
@pytest.mark.parametrize("concepts", [{}, {"content": []}, {"content": (), "mask": ()}])
def test_an_edit_of_no_concept_is_refused(edit, concepts):
    with pytest.raises(FDAEError, match="content="):
        edit(make_codes(), make_codes(seed=1), **concepts)


@pytest.mark.parametrize("other", [torch.zeros(3, 3, 8, 8), np.zeros((8, 8, 3)), None, "wall"])
def test_what_is_no_codes_is_refused_by_its_type(other):
    for edit in (make_codes().swap, make_codes(1).single_swaps, lambda other: FDAECodes.cat([other])):
        with pytest.raises(FDAEError, match=f"a {type(other).__name__} is no codes"):
            edit(other)


def test_codes_are_tensors():
    with pytest.raises(FDAEError, match="content codes must be a tensor, not a ndarray"):
        FDAECodes(np.zeros((1, 2, 3)))
    with pytest.raises(FDAEError, match="mask codes must be a tensor, not a list"):
        FDAECodes(torch.zeros(1, 2, 3), [1])


def test_masks_of_another_size_are_refused():
    a = make_codes()
    with pytest.raises(FDAEError, match="same model"):
        a.swap(FDAECodes(a.content, a.mask[..., :3]), content=0)
    with pytest.raises(FDAEError, match="different models"):
        FDAECodes.cat([a, FDAECodes(a.content)])
    with pytest.raises(FDAEError, match="empty"):
        FDAECodes.cat([])


def test_equality_is_one_answer():
    codes = make_codes()
    assert codes == make_codes()
    assert codes != make_codes(seed=1)
    assert codes != codes[:2]
    assert codes != FDAECodes(codes.content)
    assert FDAECodes(codes.content) == FDAECodes(codes.content.clone())
    assert codes != FDAECodes(codes.content, codes.mask + 1)
    assert codes != "codes"
    with pytest.raises(TypeError, match="unhashable"):
        hash(codes)


def test_description_is_short_whatever_the_number_of_codes():
    assert repr(make_codes(batch_size=1000)) == (
        "FDAECodes(content=(1000, 4, 5), mask=(1000, 4, 6), num_concepts=4, dtype=torch.float32, device='cpu')"
    )
    assert "mask=None" in repr(FDAECodes(torch.zeros(1, 1, 2)))


def test_dimensions_of_content_and_mask_codes_are_named():
    codes = make_codes()
    assert (codes.num_concepts, codes.content_dim, codes.mask_dim) == (4, 5, 6)
    assert FDAECodes(codes.content).mask_dim is None


def test_stack_puts_content_before_masks_and_pads_the_shorter_codes():
    codes = make_codes()
    stacked = codes.stack()
    assert stacked.shape == (3, 8, 6)
    assert torch.equal(stacked[:, :4, :5], codes.content)
    assert not stacked[:, :4, 5:].any()
    assert torch.equal(stacked[:, 4:], codes.mask)
    assert FDAECodes.unstack(stacked, 4, content_dim=5) == codes


@pytest.mark.parametrize(
    "codes",
    [
        FDAECodes(torch.randn(2, 3, 4), torch.randn(2, 3, 4)),
        FDAECodes(torch.randn(2, 3, 7), torch.randn(2, 3, 4)),
        FDAECodes(torch.randn(2, 1, 4)),
        FDAECodes(torch.randn(2, 1, 4), torch.randn(2, 1, 2)),
    ],
)
def test_unstack_undoes_stack(codes):
    assert FDAECodes.unstack(codes.stack(), codes.num_concepts, codes.content_dim, codes.mask_dim) == codes


def test_stacked_codes_of_another_shape_are_refused():
    for shape, options in (((2, 5, 4), {}), ((2, 12), {}), ((2, 6, 4), {"mask_dim": 5})):
        with pytest.raises(FDAEError, match="stacked codes"):
            FDAECodes.unstack(torch.zeros(shape), 3, **options)


@pytest.mark.parametrize("with_masks", [True, False])
def test_codes_survive_their_file_with_their_metadata(tmp_path, with_masks):
    codes = make_codes() if with_masks else FDAECodes(make_codes().content)
    codes = codes.to(torch.bfloat16)
    codes.save(tmp_path / "new" / "codes.safetensors", {"model": "m"})
    loaded = FDAECodes.load(tmp_path / "new" / "codes.safetensors")
    assert loaded == codes
    assert loaded.content.dtype == codes.content.dtype
    assert FDAECodes.read_metadata(tmp_path / "new" / "codes.safetensors") == {"model": "m"}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["codes.safetensors"]
    codes[:1].save(tmp_path / "new" / "codes.safetensors")
    assert len(FDAECodes.load(str(tmp_path / "new" / "codes.safetensors"))) == 1
    assert FDAECodes.read_metadata(tmp_path / "new" / "codes.safetensors") == {}


def test_others_may_read_the_file_as_the_umask_says(tmp_path):
    before = os.umask(0o022)
    try:
        make_codes().save(tmp_path / "codes.safetensors")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "codes.safetensors").stat().st_mode) == 0o644


def test_views_that_need_gradients_can_be_saved(tmp_path):
    content = torch.randn(4, 2, 3, requires_grad=True)
    FDAECodes(content.transpose(0, 1)).save(tmp_path / "codes.safetensors")
    assert torch.equal(FDAECodes.load(tmp_path / "codes.safetensors").content, content.detach().transpose(0, 1))


def test_files_that_hold_no_codes_are_refused(tmp_path):
    (tmp_path / "text").write_text("text")
    save_file({"weight": torch.zeros(1)}, tmp_path / "weights")
    save_file({"content": torch.zeros(1)}, tmp_path / "vector")
    for name in ("absent", "text", "weights", "vector"):
        with pytest.raises(FDAEError):
            FDAECodes.load(tmp_path / name)
    with pytest.raises(FDAEError, match="strings"):
        make_codes().save(tmp_path / "codes.safetensors", {"images": ["a"]})
    assert not (tmp_path / "codes.safetensors").exists()


def test_joined_codes_go_where_the_first_are():
    codes = make_codes()
    meta = codes.to("meta")
    assert FDAECodes.cat([meta, codes]).content.device.type == "meta"
