"""Test that no import runs in a circle, imports for types only included."""

from __future__ import annotations

from collections.abc import Iterable

import grimp
import networkx
import pytest

PACKAGES = (
    "account",
    "catalog",
    "containers",
    "emulator",
    "feedback",
    "launch",
    "planning",
    "safety",
    "evaluation",
    "stacks",
    "temper",
    "training",
    "validation",
    "validation",
)


@pytest.fixture(scope="module")
def imports() -> list[tuple[str, str]]:
    graph = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=False)
    return [
        (importer, imported)
        for importer in graph.modules
        for imported in graph.find_modules_directly_imported_by(importer)
    ]


def _cycles(edges: Iterable[tuple[str, str]]) -> list[list[str]]:
    components = networkx.strongly_connected_components(networkx.DiGraph(edges))
    return [sorted(component) for component in components if len(component) > 1]


def _package(module: str) -> str:
    return ".".join(module.split(".")[:2])


def test_modules_do_not_import_in_a_circle(imports: list[tuple[str, str]]) -> None:
    assert len(imports) > 1000, "the import graph is not that of the project"
    assert not _cycles(imports)


def test_packages_do_not_import_in_a_circle(imports: list[tuple[str, str]]) -> None:
    edges = ((_package(importer), _package(imported)) for importer, imported in imports)
    assert not _cycles((a, b) for a, b in edges if a != b)
