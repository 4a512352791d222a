"""One module and everything it imports from its own package, as the text of a single Python file.

diffusers copies the files of a repository's custom code one by one to a place of their own, where modules cannot
import each other reliably: each file must hold all it needs. Comments and layout of the sources are kept.
"""

import ast
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path

PACKAGE = "fdae_diffusers"


class FlattenError(Exception):
    """The sources do something that cannot be put into one file."""


def flatten(source: Path, name: str, stand_ins: Mapping[str, str] | None = None) -> str:
    """Put a module and all that it imports from the package into one file.

    Args:
        source: The module's file.
        name: Its full name, which relative imports start from.
        stand_ins: Names that are not brought along, and what is imported in their place, as ``"package.name"``.

    Returns:
        The file's text: the module's docstring, imports, the modules it needs, the module itself.

    Raises:
        FlattenError: If two modules give different meanings to a name, or import in a way that is not understood.
    """
    flattener = _Flattener(stand_ins or {})
    flattener.visit(source, name, is_root=True)
    return flattener.text()


class _Flattener:
    def __init__(self, stand_ins: Mapping[str, str]):
        self.stand_ins = stand_ins
        self.imports: dict[str, str] = {}  # name -> what it means, "package.name" or "package"
        self.definitions: dict[str, str] = {}  # name -> module that defines it
        self.docstring = ""
        self.bodies: list[str] = []
        self.visited: set[str] = set()

    def visit(self, source: Path, module: str, is_root: bool = False) -> None:
        """Take in the modules that this one needs, then this one."""
        self.visited.add(module)
        text = source.read_text(encoding="utf-8")
        tree = ast.parse(text)
        lines = text.splitlines()
        removed: list[ast.stmt] = []
        rebound: set[str] = set()  # what the root imports, it may define anew
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and (base := _internal(node, module, source)):
                rebound |= self._take_in(node, base)
            elif isinstance(node, ast.Import | ast.ImportFrom):
                self._import(node, module)
            elif not (_is_docstring(node) and node is tree.body[0]) and not _defines_all(node):
                for name in _defined_names(node):
                    self._define(name, module, allow=rebound if is_root else set())
                continue
            removed.append(node)
        nested = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node not in tree.body]
        if any(_internal(node, module, source) for node in nested):
            raise FlattenError(f"{module} imports from its package inside of a function")

        docstring = ast.get_docstring(tree) or ""
        if is_root:
            self.docstring = docstring
        for node in removed:
            first, last = node.lineno - 1, node.end_lineno or node.lineno
            lines[first:last] = [""] * (last - first)
        body = "\n".join(lines).strip("\n")
        if body:
            summary = docstring.partition("\n")[0]
            self.bodies.append(body if is_root else f"# --- {module}\n# {summary}\n\n{body}")

    def text(self) -> str:
        """Return the file."""
        for name in self.imports.keys() & self.definitions.keys():
            raise FlattenError(f"{name!r} is both imported and defined, by {self.definitions[name]}")
        parts = [f'"""{self.docstring}\n"""' if self.docstring else "", _import_block(self.imports), *self.bodies]
        return "\n\n\n".join(part for part in parts if part) + "\n"

    def _take_in(self, node: ast.ImportFrom, base: str) -> set[str]:
        for alias in node.names:
            if alias.asname or alias.name == "*":
                raise FlattenError(f"cannot follow: {ast.unparse(node)}")
            if alias.name in self.stand_ins:
                self._bind(alias.name, self.stand_ins[alias.name], base)
        names = {alias.name for alias in node.names} - self.stand_ins.keys()
        if names and base not in self.visited:
            spec = importlib.util.find_spec(base)
            if spec is None or spec.origin is None:
                raise FlattenError(f"there is no module {base}")
            self.visit(Path(spec.origin), base)
        return names

    def _import(self, node: ast.Import | ast.ImportFrom, module: str) -> None:
        for alias in node.names:
            if isinstance(node, ast.ImportFrom):
                self._bind(alias.asname or alias.name, f"{node.module}.{alias.name}", module)
            elif alias.name.split(".")[0] == PACKAGE:
                raise FlattenError(f"{module}: import names from {alias.name} instead")
            elif alias.asname:
                self._bind(alias.asname, alias.name, module)
            elif "." in alias.name:
                raise FlattenError(f"{module}: import names from {alias.name}, or give it a name")
            else:
                self._bind(alias.name, alias.name, module)

    def _bind(self, name: str, meaning: str, module: str) -> None:
        if self.imports.setdefault(name, meaning) != meaning:
            raise FlattenError(f"{name!r} is {meaning} in {module}, but {self.imports[name]} elsewhere")

    def _define(self, name: str, module: str, allow: set[str]) -> None:
        if name not in allow and self.definitions.setdefault(name, module) != module:
            raise FlattenError(f"{name!r} is defined by {module} and by {self.definitions[name]}")


def _internal(node: ast.ImportFrom, module: str, source: Path) -> str | None:
    """Full name of the package's module that is imported from, or None if it is of another package."""
    if node.level == 0:
        return node.module if node.module and node.module.split(".")[0] == PACKAGE else None
    package = module if source.name == "__init__.py" else module.rpartition(".")[0]
    return importlib.util.resolve_name("." * node.level + (node.module or ""), package)


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _defines_all(node: ast.stmt) -> bool:
    return _defined_names(node) == ["__all__"]


def _defined_names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else []
    if isinstance(node, ast.AnnAssign):
        targets = [node.target]
    return [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]


def _import_block(imports: Mapping[str, str]) -> str:
    """Import statements, sorted, the standard library's first."""
    whole: tuple[set[str], set[str]] = (set(), set())
    parts: tuple[dict[str, list[str]], dict[str, list[str]]] = ({}, {})
    for name, meaning in sorted(imports.items(), key=lambda item: (item[1], item[0])):
        package, _, original = meaning.rpartition(".")
        renamed = original if original == name else f"{original} as {name}"
        is_external = meaning.split(".")[0] not in sys.stdlib_module_names
        if package:
            parts[is_external].setdefault(package, []).append(renamed)
        else:
            whole[is_external].add(f"import {renamed}")
    blocks = [
        [*sorted(whole[i]), *(f"from {package} import {', '.join(names)}" for package, names in parts[i].items())]
        for i in (False, True)
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)
