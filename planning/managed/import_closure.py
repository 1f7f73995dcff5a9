"""Modules that a module of this project imports, directly or through others."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

_PROJECT = ("catalog", "training", "validation")
"""Packages of this project that the rewards consist of."""


@dataclass
class ImportClosure:
    """Everything that modules need besides the standard library.

    Attributes:
        files: File of each module of this project, by its path in an archive.
        packages: Third-party packages, each with a module that imports it.
    """

    files: dict[str, Path] = field(default_factory=dict)
    packages: dict[str, str] = field(default_factory=dict)


def import_closure(modules: Iterable[str]) -> ImportClosure:
    """Return what modules of this project need; imports for type checkers only are not counted."""
    closure, waiting, seen = ImportClosure(), list(modules), set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        spec = importlib.util.find_spec(name)
        assert spec is not None, name
        assert spec.origin is not None, name
        path = Path(spec.origin)
        is_package = spec.submodule_search_locations is not None
        closure.files[name.replace(".", "/") + ("/__init__.py" if is_package else ".py")] = path
        parent = name.rpartition(".")[0]
        waiting += [parent] if parent else []
        for imported in _imports(ast.parse(path.read_text(encoding="utf-8"))):
            top = imported.partition(".")[0]
            if top in _PROJECT:
                waiting.append(_module_of(imported))
            elif top not in sys.stdlib_module_names:
                closure.packages.setdefault(top, name)
    return closure


def _imports(tree: ast.AST) -> Iterator[str]:
    """Yield imported names: of `from a import b`, `a.b`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield from _imports(node)


def _module_of(name: str) -> str:
    """Return the module of an imported name, which is a module or a name in one."""
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError:  # its parent is no package
        found = None
    return name if found is not None else name.rpartition(".")[0]
