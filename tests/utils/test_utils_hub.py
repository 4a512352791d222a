import huggingface_hub
import pytest
from helpers.fake_hub import FakeHub
from helpers.models import micro_pipeline

from fdae_diffusers import FDAEPipeline


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model in two named variants, one of them in several files, and in the plain one."""
    folder = tmp_path_factory.mktemp("model")
    micro_pipeline().save_pretrained(folder)
    micro_pipeline().save_pretrained(folder, variant="ema")
    micro_pipeline().save_pretrained(folder, variant="fp16", max_shard_size="4KB")
    return folder


def test_wrong_variant_of_a_folder_is_told_the_others(folder):
    with pytest.raises(OSError, match=r"variant 'bf16': its variants are ema, fp16,") as caught:
        FDAEPipeline.from_pretrained(folder, variant="bf16")
    assert "\n" not in str(caught.value)


def test_wrong_variant_on_the_hub_is_told_those_of_its_revision(folder, tmp_path, monkeypatch):
    micro_pipeline().save_pretrained(tmp_path / "plain")
    with FakeHub() as hub:
        hub.connect(monkeypatch, cache=tmp_path / "cache")
        hub.push("org/model", folder, branch="v1")
        hub.push("org/model", tmp_path / "plain")
        with pytest.raises(OSError, match="ema, fp16"):
            FDAEPipeline.from_pretrained("org/model", variant="bf16", revision="v1")
        with pytest.raises(OSError, match="org/model has no weights of the variant 'ema': leave it out"):
            FDAEPipeline.from_pretrained("org/model", variant="ema")
        huggingface_hub.close_session()
