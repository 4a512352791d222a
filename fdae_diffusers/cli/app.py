"""`fdae app`: the web app of pipelines/space for any model."""

import argparse
import os
import sys
from importlib import import_module
from importlib.util import find_spec

from ..errors import FDAEError
from ..utils.assets import asset_folder


def app(args: argparse.Namespace) -> None:
    """Serve the web app until it is stopped.

    Raises:
        FDAEError: If gradio is not installed, or the model cannot be loaded.
    """
    if find_spec("gradio") is None:
        raise FDAEError('the app needs gradio: pip install "fdae-diffusers[space]"')
    # The app also runs alone, as a Space: it takes its settings from the environment.
    os.environ["FDAE_MODEL"] = args.model
    os.environ["GRADIO_SERVER_PORT"] = str(args.port)
    os.environ["GRADIO_SERVER_NAME"] = args.host
    sys.path.insert(0, str(asset_folder("space")))
    import_module("app").main()
