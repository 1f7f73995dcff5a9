"""Functions of Temper as the source of one file that imports nothing of Temper.

Other tools run this file to score answers, so that a score there is computed by the same code.
"""

from __future__ import annotations

import ast
import importlib.util
from dataclasses import dataclass, field
from pathlib import Path

_PROJECT = frozenset({"evaluation", "safety", "training"})


@dataclass(frozen=True)
class ModuleSource:
    """Source of a module, by the names that it defines and imports.

    Attributes:
        text: The source.
        definitions: Statement that defines each name.
        project: Module and name in it of each name that is imported from this project.
        external: Import statement of each other imported name.
    """

    text: str
    definitions: dict[str, ast.stmt] = field(default_factory=dict)
    project: dict[str, tuple[str, str]] = field(default_factory=dict)
    external: dict[str, str] = field(default_factory=dict)


@dataclass
class SourceBundle:
    """Definitions that are collected, each after those that it needs.

    Attributes:
        imports: Import statements.
        parts: Source of each definition, by module and name.
    """

    imports: set[str] = field(default_factory=set)
    parts: dict[tuple[str, str], str] = field(default_factory=dict)
    _modules: dict[str, ModuleSource] = field(default_factory=dict)
    _visiting: set[tuple[str, str]] = field(default_factory=set)

    def add(self, module: str, name: str) -> None:
        """Add a definition of a module, and all that it needs."""
        key = (module, name)
        if key in self.parts or key in self._visiting:
            return
        if module not in self._modules:
            self._modules[module] = _read(module)
        source = self._modules[module]
        if name in source.external:
            self.imports.add(source.external[name])
        elif name in source.project:
            owner, original = source.project[name]
            self.add(owner, original)
            if original != name:
                self.parts[key] = f"{name} = {original}"
        elif name in source.definitions:
            self._visiting.add(key)
            statement = source.definitions[name]
            for needed in sorted(_needed(statement)):
                self.add(module, needed)
            self.parts[key] = ast.get_source_segment(source.text, statement) or ""

    @property
    def text(self) -> str:
        """The source of all definitions."""
        names = [name for _, name in self.parts]
        assert len(set(names)) == len(names), f"two modules define a name: {sorted(names)}"
        imports = "\n".join(sorted(self.imports))
        return "\n\n\n".join([imports, *self.parts.values()]) + "\n"


def bundle_source(*functions: tuple[str, str]) -> str:
    """Return the source of functions, by module and name, and of all that they call here."""
    bundle = SourceBundle()
    for module, name in functions:
        bundle.add(module, name)
    return bundle.text


def _read(module: str) -> ModuleSource:
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None, module
    text = Path(spec.origin).read_text(encoding="utf-8")
    source = ModuleSource(text)
    for statement in ast.parse(text).body:
        match statement:
            case ast.FunctionDef(name=name):
                source.definitions[name] = statement
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                source.definitions[name] = statement
            case ast.ImportFrom(module=str(origin), names=aliases) if origin != "__future__":
                for alias in aliases:
                    bound = alias.asname or alias.name
                    if origin.partition(".")[0] in _PROJECT:
                        source.project[bound] = (origin, alias.name)
                    else:
                        source.external[bound] = f"from {origin} import {_written(alias)}"
            case ast.Import(names=aliases):
                for alias in aliases:
                    source.external[alias.asname or alias.name] = f"import {_written(alias)}"
    return source


def _written(alias: ast.alias) -> str:
    return alias.name if alias.asname is None else f"{alias.name} as {alias.asname}"


def _needed(statement: ast.stmt) -> set[str]:
    """Return the names that a statement uses when it runs, which annotations do not."""
    annotations = {
        id(node)
        for part in ast.walk(statement)
        for annotation in _annotations(part)
        for node in ast.walk(annotation)
    }
    return {
        node.id
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and id(node) not in annotations
    }


def _annotations(node: ast.AST) -> list[ast.expr]:
    found: list[ast.expr | None] = []
    if isinstance(node, ast.FunctionDef):
        found = [node.returns]
    elif isinstance(node, ast.arg | ast.AnnAssign):
        found = [node.annotation]
    return [annotation for annotation in found if annotation is not None]
