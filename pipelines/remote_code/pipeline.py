"""The pipeline of a repository that brings its own code, for environments without the package fdae_diffusers.

`DiffusionPipeline.from_pretrained(..., trust_remote_code=True)` executes this file and those of the components.
"""

import inspect
import json
import os
import shutil
from pathlib import Path

from fdae_diffusers.pipeline_fdae import FDAEPipeline

# Where diffusers keeps the code of repositories.
REMOTE_MODULES = "diffusers_modules."


class FDAEPipeline(FDAEPipeline):  # type: ignore[no-redef]
    """FDAEPipeline which takes its code along when it is saved, so that what it saves can be loaded again."""

    # Read now: a later pipeline may put its own code in this file's place.
    _source = Path(__file__).read_text(encoding="utf-8")

    def to_json_string(self) -> str:
        """Return the index, which names files of this repository instead of modules of this process."""
        index = json.loads(super().to_json_string())
        index["_class_name"] = ["pipeline", type(self).__name__]
        for value in index.values():
            if isinstance(value, list) and str(value[0]).startswith(REMOTE_MODULES):
                value[0] = value[0].rpartition(".")[2]
        return json.dumps(index, indent=2, sort_keys=True) + "\n"

    def save_config(self, save_directory: str | os.PathLike, push_to_hub: bool = False, **kwargs) -> None:
        """Save the index and the code that it names."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pipeline.py").write_text(self._source, encoding="utf-8")
        for name, component in self.components.items():
            if type(component).__module__.startswith(REMOTE_MODULES):
                source = Path(inspect.getfile(type(component)))
                (folder / name).mkdir(exist_ok=True)
                shutil.copyfile(source, folder / name / source.name)
        super().save_config(save_directory, push_to_hub=push_to_hub, **kwargs)
