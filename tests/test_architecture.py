"""The rules of docs/architecture.md, read from the sources.

`python tests/test_architecture.py`, which `make lint` runs, lists every breach.
"""

import ast
import re
import sys
from collections.abc import Iterator
from importlib.util import resolve_name
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "fdae_diffusers"
# Imports go only down this list; neighbours in a line never import each other.
LAYERS = [
    {"cli"},
    {"studies"},
    {"training", "evaluation", "export"},
    {"hub", "visualization", "conversion", "health"},
    {"__init__"},
    {"api"},
    {"pipeline_fdae", "objective", "basis"},
    {"models", "data", "pipeline_output"},
    {"schedulers", "losses", "codes", "image_processing", "metrics"},
    {"utils"},
    {"errors"},
]
ORDER = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}
# Who may import from the package inside a function: the package itself, whose command must start without its API.
LAZY = {("fdae_diffusers", "fdae_diffusers.api")}
# What pipelines/remote_code puts into one file, with all that these modules import from the package.
FLATTENED = ["fdae_diffusers.pipeline_fdae", "fdae_diffusers.models", "fdae_diffusers.schedulers.edm_heun"]
MAX_ROOT_MODULES, MAX_SCRIPT_LINES, MAX_FILE_LINES = 10, 25, 480


def modules() -> dict[str, Path]:
    """The file of each module of the package, by its full name."""
    files = {path.relative_to(ROOT).with_suffix(""): path for path in sorted(PACKAGE.rglob("*.py"))}
    return {".".join(name.parts).removesuffix(".__init__"): path for name, path in files.items()}


def imports(module: str, path: Path) -> Iterator[tuple[str, ast.stmt, bool]]:
    """Each module of the package that a module imports, the statement, and whether it stands inside a function."""
    tree = ast.parse(path.read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    inside = {id(node) for function in functions for node in ast.walk(function)}
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package) if node.level else node.module or ""
            names = [name if name in MODULES else base for name in (f"{base}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in dict.fromkeys(names):
            if name.split(".")[0] == PACKAGE.name:
                yield name, node, id(node) in inside


MODULES = modules()


def room(module: str) -> str:
    """The part of the package that a module belongs to, as the layers name it."""
    return module.split(".")[1] if "." in module else "__init__"


def breaches_of_layers() -> list[str]:
    """Imports that go up or to a neighbour, imports inside functions, and rooms without a layer."""
    found = [f"{name} has no layer" for name in sorted({room(module) for module in MODULES} - ORDER.keys())]
    for module, path in MODULES.items():
        for imported, node, is_inside in imports(module, path):
            where = f"{module}:{node.lineno}"
            here, there = room(module), room(imported)
            if here != there and ORDER.get(here, 0) >= ORDER.get(there, 0):
                found.append(f"{where}: {here} imports {there}, which is not below it")
            if is_inside and (module, imported) not in LAZY:
                found.append(f"{where}: imports {imported} inside a function")
    return found


def breaches_of_size() -> list[str]:
    """Too many modules in the root of the package, and files that are too long."""
    found = []
    if (count := len(list(PACKAGE.glob("*.py")))) > MAX_ROOT_MODULES:
        found.append(f"{count} modules in the root of the package, more than {MAX_ROOT_MODULES}")
    folders = ("benchmarks", "fdae_diffusers", "pipelines", "tests", "training")
    for path in sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py")):
        most = MAX_SCRIPT_LINES if path.parent == ROOT / "training" else MAX_FILE_LINES
        if (lines := len(path.read_text().splitlines())) > most:
            found.append(f"{path.relative_to(ROOT)}: {lines} lines, more than {most}")
    return found


def flattened_modules() -> list[str]:
    """The modules that are put into one file."""
    found: list[str] = []
    waiting = list(FLATTENED)
    while waiting:
        if (module := waiting.pop()) not in found:
            found.append(module)
            waiting += [imported for imported, _, _ in imports(module, MODULES[module])]
    return found


def breaches_of_flattening() -> list[str]:
    """What keeps the flattened modules from being one file: `import a.b`, renamed imports and names defined twice."""
    found: list[str] = []
    owners: dict[str, str] = {}
    for module in sorted(flattened_modules()):
        tree = ast.parse(MODULES[module].read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Import) and any("." in alias.name and not alias.asname for alias in node.names):
                found.append(f"{module}:{node.lineno}: {ast.unparse(node)}: import names from it instead")
        for imported, node, is_inside in imports(module, MODULES[module]):
            if is_inside or any(alias.asname or alias.name == "*" for alias in getattr(node, "names", [])):
                found.append(f"{module}:{node.lineno}: {ast.unparse(node)}: cannot follow {imported}")
        for name in {name for node in tree.body for name in _defined(node)} - {"__all__"}:
            if owners.setdefault(name, module) != module:
                found.append(f"{module} defines {name}, as {owners[name]} does")
    return found


def breaches_of_map() -> list[str]:
    """Modules that the tree in docs/architecture.md lacks, and those that it invents."""
    tree = (ROOT / "docs" / "architecture.md").read_text().partition("```\nfdae_diffusers/")[2].partition("```")[0]
    listed: set[str] = set()
    folders: list[str] = []
    for line in tree.splitlines()[1:]:
        if entry := re.match(r"( +)(\w+)(/|\.py)", line):
            folders = folders[: len(entry[1]) // 2 - 1]
            if entry[3] == "/":
                folders.append(entry[2])
            else:
                listed.add("/".join([*folders, f"{entry[2]}.py"]))
    there = {path.relative_to(PACKAGE).as_posix() for path in MODULES.values()}
    there = {name for name in there if not name.endswith("/__init__.py")}
    return [f"docs/architecture.md lacks {name}" for name in sorted(there - listed)] + [
        f"docs/architecture.md lists {name}, which does not exist" for name in sorted(listed - there)
    ]


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    targets = (
        node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    )
    return [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]


def test_breaches_are_found(monkeypatch, tmp_path):
    before = len(breaches_of_layers())
    (tmp_path / "bad.py").write_text(
        "from ..training import train\nfrom ..models.cmfnet import CMFNet\nfrom ..errors import FDAEError\n"
        "def late():\n    from ..utils import files\n"
    )
    monkeypatch.setitem(MODULES, "fdae_diffusers.data.bad", tmp_path / "bad.py")
    upwards, sideways, late = [breach for breach in breaches_of_layers() if "data.bad" in breach]
    assert len(breaches_of_layers()) == before + 3
    assert "training" in upwards
    assert "models" in sideways
    assert "inside a function" in late


def test_imports_go_downwards():
    assert breaches_of_layers() == []


def test_root_is_small_and_files_are_short():
    assert breaches_of_size() == []


def test_flattened_modules_fit_into_one_file():
    assert {"fdae_diffusers.codes", "fdae_diffusers.models.unet"} <= set(flattened_modules())
    assert breaches_of_flattening() == []


def test_map_lists_the_modules_that_exist():
    assert breaches_of_map() == []


if __name__ == "__main__":
    breaches = [*breaches_of_layers(), *breaches_of_size(), *breaches_of_flattening(), *breaches_of_map()]
    print(*breaches, f"{len(breaches)} breaches of the architecture", sep="\n")
    sys.exit(bool(breaches))
