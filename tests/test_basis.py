import huggingface_hub
import pytest
import torch
from helpers.fake_hub import FakeHub

from fdae_diffusers import FDAECodes
from fdae_diffusers.basis import BASIS_FILE, CodeBasis
from fdae_diffusers.errors import FDAEError


def known_codes(num_images=600, num_concepts=2, dim=4):
    """Codes whose concept n varies along axis n with deviation 3, along axis n + 1 with 1, and around 10 * n."""
    generator = torch.Generator().manual_seed(0)
    codes = torch.zeros(2, num_images, num_concepts, dim)
    for kind in range(2):
        for concept in range(num_concepts):
            for axis, deviation in ((concept, 3.0), (concept + 1, 1.0)):
                draws = torch.randn(num_images, generator=generator)
                codes[kind, :, concept, axis] = deviation * (draws - draws.mean()) / draws.std() + 10 * concept
    return FDAECodes(codes[0], codes[1])


@pytest.fixture(scope="module")
def codes():
    return known_codes()


@pytest.fixture(scope="module")
def basis(codes):
    return CodeBasis.fit(codes, num_components=2, num_clusters=5)


@pytest.mark.parametrize("kind", ["content", "mask"])
def test_traversal_replaces_the_coordinate_along_the_axis_of_most_variance(basis, codes, kind):
    image = codes[7]
    moved = basis.traverse(image, kind, concept=1, values=(-2, 0, 1))
    assert len(moved) == 3
    expected = getattr(image, kind).repeat(3, 1, 1)
    # Axis 1 has deviation 3 around 10; a component has no sign.
    coordinates = getattr(moved, kind)[:, 1, 1] - 10
    sign = coordinates[2].sign()
    torch.testing.assert_close(sign * coordinates, torch.tensor([-6.0, 0.0, 3.0]), atol=0.3, rtol=0)
    torch.testing.assert_close(getattr(moved, kind)[:, 1, 2:], expected[:, 1, 2:], atol=0.4, rtol=0)
    assert torch.equal(getattr(moved, kind)[:, 0], expected[:, 0])
    other = "mask" if kind == "content" else "content"
    assert torch.equal(getattr(moved, other), getattr(image, other).repeat(3, 1, 1))


def test_traversal_to_the_own_coordinate_gives_the_same_code(basis, codes):
    image = codes[3]
    content = basis.content
    value = (image.content[0, 0] - content.mean[0]) @ content.components[0, 1] / content.deviations[0, 1]
    torch.testing.assert_close(basis.traverse(image, "content", 0, 1, [float(value)]).content, image.content)


def test_edits_keep_the_type_of_codes_and_change_no_input(basis, codes):
    image = codes[0].to(torch.bfloat16)
    before = image.content.clone()
    assert basis.traverse(image, "content", 0).content.dtype == torch.bfloat16
    assert basis.to_cluster(image, "content", 0, 0).content.dtype == torch.bfloat16
    assert torch.equal(image.content, before)


def test_clusters_are_values_that_occur_ordered_along_the_first_component():
    blobs = torch.tensor([[-5.0, 0.0], [0.0, 0.0], [5.0, 0.0], [50.0, 0.0]])
    noise = 0.1 * torch.randn(400, 1, 2, generator=torch.Generator().manual_seed(0))
    codes = FDAECodes(blobs.repeat(100, 1)[:, None] + noise)
    basis = CodeBasis.fit(codes, num_components=1, num_clusters=4)
    found = torch.cat([basis.to_cluster(codes[0], "content", 0, k).content[0] for k in range(4)])
    if found[0, 0] > found[-1, 0]:
        found = found.flip(0)
    torch.testing.assert_close(found, blobs, atol=0.1, rtol=0)
    assert basis.mask is None


def test_fit_repeats_with_its_seed(codes):
    first, again = (CodeBasis.fit(codes, num_clusters=5, seed=1) for _ in range(2))
    assert torch.equal(first.mask.centers, again.mask.centers)


def test_basis_survives_saving_beside_the_model(basis, codes, tmp_path):
    assert basis.save_pretrained(tmp_path) == tmp_path / BASIS_FILE
    again = CodeBasis.from_pretrained(tmp_path)
    for kind in ("content", "mask"):
        expected, actual = (loaded.traverse(codes[0], kind, 1, 1) for loaded in (basis, again))
        assert torch.equal(getattr(actual, kind), getattr(expected, kind))
    assert torch.equal(again.content.centers, basis.content.centers)
    single = CodeBasis.fit(FDAECodes(codes.content), num_clusters=5)
    single.save_pretrained(tmp_path)
    assert CodeBasis.from_pretrained(tmp_path).mask is None


def test_basis_loads_from_the_hub(basis, tmp_path, monkeypatch):
    basis.save_pretrained(tmp_path / "with")
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "model_index.json").write_text("{}")
    with FakeHub() as hub:
        hub.connect(monkeypatch, cache=tmp_path / "cache")
        hub.push("org/with", tmp_path / "with", branch="v1")
        hub.push("org/without", tmp_path / "without")
        loaded = CodeBasis.from_pretrained("org/with", revision="v1")
        assert torch.equal(loaded.content.centers, basis.content.centers)
        for model, revision, message in (
            ("org/without", None, "org/without has no code_basis.safetensors: make it with"),
            ("org/with", "v9", "no revision 'v9'"),
            ("org/absent", None, "no model org/absent"),
        ):
            with pytest.raises(FDAEError, match=message):
                CodeBasis.from_pretrained(model, revision)
        huggingface_hub.close_session()


def test_absent_and_damaged_files_are_refused_in_one_line(tmp_path):
    with pytest.raises(FDAEError, match="no model folder /no/such/model"):
        CodeBasis.from_pretrained("/no/such/model")
    with pytest.raises(FDAEError, match="make it with"):
        CodeBasis.from_pretrained(tmp_path)
    (tmp_path / BASIS_FILE).write_bytes(b"no tensors")
    with pytest.raises(FDAEError, match="damaged"):
        CodeBasis.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda basis, codes: basis.traverse(codes, "content", 0), "codes of one image, not of 600"),
        (lambda basis, codes: basis.traverse(codes[0], "content", 2), "no concept 2"),
        (lambda basis, codes: basis.traverse(codes[0], "mask", 0, component=2), "no component 2"),
        (lambda basis, codes: basis.traverse(codes[0], "masks", 0), "kind"),
        (lambda basis, codes: basis.to_cluster(codes[0], "mask", 0, 5), "no cluster 5"),
        (lambda basis, codes: basis.to_cluster(known_codes(dim=5)[0], "mask", 0, 0), "another model's"),
        (lambda basis, codes: basis.traverse(FDAECodes(codes.content)[0], "mask", 0), "single concept"),
        (lambda basis, codes: CodeBasis.fit(codes[:5]), "5 images"),
        (lambda basis, codes: basis.traverse(codes[0], "mask", 0, values=3), "values"),
    ],
)
def test_edits_that_do_not_exist_are_refused(basis, codes, edit, message):
    with pytest.raises(FDAEError, match=message):
        edit(basis, codes)


def test_each_variant_has_a_basis_of_its_own(basis, codes, tmp_path):
    other = CodeBasis.fit(codes[:50], num_components=1, num_clusters=2)
    basis.save_pretrained(tmp_path)
    assert other.save_pretrained(tmp_path, variant="ema") == tmp_path / "code_basis.ema.safetensors"
    assert CodeBasis.from_pretrained(tmp_path).mask.centers.shape == (2, 5, 4)
    assert CodeBasis.from_pretrained(tmp_path, variant="ema").mask.centers.shape == (2, 2, 4)
    with pytest.raises(FDAEError, match=r"code_basis.fp16.safetensors.*--variant fp16"):
        CodeBasis.from_pretrained(tmp_path, variant="fp16")


def test_basis_of_a_variant_loads_from_the_hub(basis, tmp_path, monkeypatch):
    basis.save_pretrained(tmp_path / "model", variant="ema")
    with FakeHub() as hub:
        hub.connect(monkeypatch, cache=tmp_path / "cache")
        hub.push("org/model", tmp_path / "model")
        loaded = CodeBasis.from_pretrained("org/model", variant="ema")
        assert torch.equal(loaded.content.centers, basis.content.centers)
        with pytest.raises(FDAEError, match=r"has no code_basis\.safetensors"):
            CodeBasis.from_pretrained("org/model")
        huggingface_hub.close_session()


def test_content_and_mask_codes_may_differ_in_size(tmp_path):
    generator = torch.Generator().manual_seed(0)
    codes = FDAECodes(torch.randn(30, 2, 7, generator=generator), torch.randn(30, 2, 2, generator=generator))
    CodeBasis.fit(codes, num_components=3, num_clusters=4).save_pretrained(tmp_path)
    basis = CodeBasis.from_pretrained(tmp_path)
    assert basis.content.components.shape == (2, 3, 7)
    assert basis.mask.components.shape == (2, 2, 2)  # a code of two dimensions has no third direction
    assert basis.traverse(codes[0], "mask", 1, 1).mask.shape == (5, 2, 2)
    assert torch.equal(basis.to_cluster(codes[0], "content", 0, 3).content[0, 0], basis.content.centers[0, 3])


def test_description_is_short(basis, codes):
    kind = "(N=2, d=4, 2 components, 5 clusters)"
    assert repr(basis) == f"CodeBasis(content={kind}, mask={kind})"
    assert repr(CodeBasis.fit(FDAECodes(codes.content[:50]), 1, 2)).endswith("mask=None)")


def test_fit_takes_no_float64_to_the_device_of_the_codes(codes):
    # Apple's MPS has no float64: the codes have to come to the CPU first.
    class OnDevice(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            assert function is not torch.Tensor.double
            result = super().__torch_function__(function, types, args, kwargs or {})
            return result.as_subclass(torch.Tensor) if function is torch.Tensor.cpu else result

    on_device = FDAECodes(codes.content[:50].as_subclass(OnDevice), codes.mask[:50].as_subclass(OnDevice))
    basis = CodeBasis.fit(on_device, num_components=1, num_clusters=2)
    expected = CodeBasis.fit(codes[:50], num_components=1, num_clusters=2)
    assert torch.equal(basis.content.centers, expected.content.centers)
