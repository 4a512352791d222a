import json
import shutil

import huggingface_hub
import pytest
import torch
from diffusers import DiffusionPipeline
from helpers.fake_hub import FakeHub
from helpers.models import micro_pipeline
from huggingface_hub import constants

from fdae_diffusers import CMFNet, EDMHeunScheduler, FDAEPipeline, FDAEUNet2DModel

MODEL = "org/fdae-micro"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A repository: the weights have seed 0, in the variant "ema" seed 1; "fp16" are the first in half precision."""
    folder = tmp_path_factory.mktemp("model")
    micro_pipeline(0).save_pretrained(folder)
    micro_pipeline(1).save_pretrained(folder, variant="ema")
    half = micro_pipeline(0)
    half.unet.half()
    half.encoder.half()
    half.save_pretrained(folder, variant="fp16")
    return folder


@pytest.fixture
def hub(folder, tmp_path, monkeypatch):
    """A Hub with the model, that this process talks to."""
    with FakeHub() as hub:
        hub.push(MODEL, folder)
        hub.connect(monkeypatch, cache=tmp_path / "cache")
        yield hub
        huggingface_hub.close_session()


def assert_weights_of(pipeline, seed, dtype=torch.float32):
    expected = micro_pipeline(seed)
    for name in ("unet", "encoder"):
        actual = getattr(pipeline, name).state_dict()
        for key, value in getattr(expected, name).state_dict().items():
            dtype_here = dtype if value.is_floating_point() else value.dtype
            assert torch.equal(actual[key], value.to(dtype_here)), key


def downloads(hub):
    """Names of the files that were downloaded, and forget them."""
    names = [request.split("/", 5)[5] for request in hub.requests if request.startswith("GET /org/")]
    hub.requests.clear()
    return sorted(names)


@pytest.mark.parametrize("loader", [FDAEPipeline, DiffusionPipeline])
def test_pipeline_loads_from_the_hub(hub, loader):
    pipeline = loader.from_pretrained(MODEL)
    assert type(pipeline) is FDAEPipeline
    assert isinstance(pipeline.scheduler, EDMHeunScheduler)
    assert not pipeline.unet.training
    assert_weights_of(pipeline, seed=0)
    assert downloads(hub) == [
        "encoder/config.json",
        "encoder/diffusion_pytorch_model.safetensors",
        "model_index.json",
        "scheduler/scheduler_config.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
    ]
    loader.from_pretrained(MODEL)
    assert downloads(hub) == []


@pytest.mark.parametrize(("variant", "seed", "dtype"), [("ema", 1, torch.float32), ("fp16", 0, torch.float16)])
def test_variant_alone_is_downloaded(hub, variant, seed, dtype):
    pipeline = FDAEPipeline.from_pretrained(MODEL, variant=variant, dtype=dtype)
    assert_weights_of(pipeline, seed, dtype)
    weights = [name for name in downloads(hub) if name.endswith(".safetensors")]
    assert weights == [f"{name}/diffusion_pytorch_model.{variant}.safetensors" for name in ("encoder", "unet")]


def test_pinned_revision_stays_when_the_branch_moves(hub, folder, tmp_path):
    pinned = hub.branches[MODEL]["main"]
    micro_pipeline(2).save_pretrained(tmp_path / "newer")
    hub.push(MODEL, tmp_path / "newer")
    hub.push(MODEL, folder, branch="v1")
    assert_weights_of(FDAEPipeline.from_pretrained(MODEL), seed=2)
    assert_weights_of(FDAEPipeline.from_pretrained(MODEL, revision=pinned), seed=0)
    assert_weights_of(FDAEPipeline.from_pretrained(MODEL, revision="v1"), seed=0)


def test_downloaded_pipeline_loads_without_a_network(hub, monkeypatch):
    FDAEPipeline.from_pretrained(MODEL)
    FDAEPipeline.from_pretrained(MODEL, variant="ema")
    hub.stop()
    assert_weights_of(FDAEPipeline.from_pretrained(MODEL), seed=0)  # the Hub cannot be reached
    assert_weights_of(FDAEPipeline.from_pretrained(MODEL, local_files_only=True), seed=0)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    huggingface_hub.close_session()
    assert_weights_of(FDAEPipeline.from_pretrained(MODEL), seed=0)
    assert_weights_of(FDAEPipeline.from_pretrained(MODEL, variant="ema"), seed=1)
    with pytest.raises(OSError, match="not fully cached"):
        FDAEPipeline.from_pretrained("org/never-seen")


# diffusers passes this argument, which huggingface_hub ignores, when a component is loaded from the Hub by itself.
@pytest.mark.filterwarnings("ignore:The `local_dir_use_symlinks` argument is deprecated")
@pytest.mark.parametrize(
    ("component_class", "name"), [(FDAEUNet2DModel, "unet"), (CMFNet, "encoder"), (EDMHeunScheduler, "scheduler")]
)
def test_component_loads_alone(hub, component_class, name):
    component = component_class.from_pretrained(MODEL, subfolder=name)
    assert type(component) is component_class
    assert all(file.startswith(f"{name}/") for file in downloads(hub))
    expected = getattr(micro_pipeline(0), name)
    if name == "scheduler":
        assert component.to_json_string() == expected.to_json_string()
    else:
        assert all(torch.equal(a, b) for a, b in zip(component.parameters(), expected.parameters(), strict=True))


def test_component_that_is_given_is_not_downloaded(hub):
    encoder = micro_pipeline(3).encoder
    assert FDAEPipeline.from_pretrained(MODEL, encoder=encoder).encoder is encoder
    assert not any(name.startswith("encoder/") for name in downloads(hub))


def without_folder(folder):
    shutil.rmtree(folder / "encoder")


def without_configuration(folder):
    (folder / "encoder" / "config.json").unlink()


def without_weights(folder):
    for file in (folder / "encoder").glob("*.safetensors"):
        file.unlink()


def without_index_entry(folder):
    index = json.loads((folder / "model_index.json").read_text())
    del index["encoder"]
    (folder / "model_index.json").write_text(json.dumps(index))


def without_index(folder):
    (folder / "model_index.json").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without_folder, "no component 'encoder': there is no folder"),
        (without_configuration, "component 'encoder' of .* has no configuration file"),
        (without_weights, "component 'encoder' of .* has no weights"),
        (without_index_entry, "no component 'encoder': its model_index.json"),
        (without_index, "not a pipeline"),
    ],
)
def test_missing_component_is_named(hub, folder, tmp_path, damage, message):
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    damage(broken)
    hub.push("org/broken", broken)
    for model in ("org/broken", broken):
        with pytest.raises(OSError, match=message) as error:
            FDAEPipeline.from_pretrained(model)
        assert "\n" not in str(error.value)


def test_unknown_model_and_revision_are_named(hub):
    with pytest.raises(OSError, match="no model org/absent"):
        FDAEPipeline.from_pretrained("org/absent")
    with pytest.raises(OSError, match=f"{MODEL} has no revision 'v9'"):
        FDAEPipeline.from_pretrained(MODEL, revision="v9")


def test_interrupted_download_leaves_nothing_half_done(hub, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)  # between its own retries
    hub.cut_connections = "unet/diffusion_pytorch_model.safetensors"
    with pytest.raises(Exception, match="closed connection"):
        FDAEPipeline.from_pretrained(MODEL)
    assert not list(tmp_path.rglob("*.incomplete"))
    assert not list(tmp_path.rglob("unet/*.safetensors"))
    with pytest.raises(OSError):  # noqa: PT011  (huggingface_hub names the missing files)
        FDAEPipeline.from_pretrained(MODEL, local_files_only=True)

    hub.cut_connections = None
    assert_weights_of(FDAEPipeline.from_pretrained(MODEL), seed=0)
