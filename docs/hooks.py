"""Changes to the pages when the site is built: files of the repository are linked where the repository is."""

import re
from typing import Any


def on_page_markdown(markdown: str, config: Any, **kwargs: Any) -> str:
    """Turn links out of `docs/`, which work in a clone, into links to the repository."""
    return re.sub(r"\]\(\.\./([^)]+)\)", rf"]({config.repo_url}/blob/main/\1)", markdown)
