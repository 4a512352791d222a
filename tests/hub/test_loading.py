import pytest
import torch
from helpers.models import micro_pipeline

from fdae_diffusers.errors import FDAEError
from fdae_diffusers.hub.loading import load_pipeline


def test_folder_is_loaded_to_a_device(tmp_path):
    micro_pipeline().save_pretrained(tmp_path)
    assert load_pipeline(str(tmp_path), device="cpu").device == torch.device("cpu")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("/no/such/model", "no model folder /no/such/model"),
        ("./absent", "no model folder"),
        ("{folder}", "no pipeline|not a"),
    ],
)
def test_what_is_no_model_is_refused_in_one_line(tmp_path, model, message):
    with pytest.raises(FDAEError, match=message) as error:
        load_pipeline(model.format(folder=tmp_path))
    assert "\n" not in str(error.value)
