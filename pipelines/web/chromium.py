"""A headless Chromium and the page on a free port, for scripts that measure or record the page."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright
from serve import make_server

from fdae_diffusers.errors import FDAEError

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DRAWN = "main[aria-busy=false] #result[data-quality=refined]"


@contextmanager
def served_page(folder: Path, **context: Any) -> Iterator[tuple[Any, str]]:
    """Give a blank page of a new browser, and the address where the folder is served.

    Args:
        folder: The built page.
        context: Of the browser's `new_context`: viewport, color_scheme.

    Raises:
        FDAEError: If there is no Chromium, or the page is not built.
    """
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    if executable is None:
        raise FDAEError("there is no chromium: apt-get install chromium")
    if not (folder / "index.html").is_file():
        raise FDAEError(f"{folder} holds no page: python pipelines/web/build_page.py")
    with make_server(folder) as server, sync_playwright() as browsers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = browsers.chromium.launch(executable_path=executable, args=list(FLAGS))
        try:
            yield browser.new_context(**context).new_page(), f"http://127.0.0.1:{server.server_port}"
        finally:
            browser.close()
            server.shutdown()
