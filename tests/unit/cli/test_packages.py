"""Packages of the wheel: everything but what needs a checkout."""

from __future__ import annotations

import tomllib

import setuptools

from tests.run_commands import ROOT

_CHECKOUT_ONLY = ("benchmarks", "emulator", "stacks", "tests")
"""Top-level folders that need app.py, environments/ or the tests."""


def test_every_package_is_in_the_wheel() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    include = settings["tool"]["setuptools"]["packages"]["find"]["include"]
    packaged = set(setuptools.find_packages(str(ROOT), include=include))
    folders = [
        file.parent.relative_to(ROOT)
        for top in ROOT.iterdir()
        if top.name not in _CHECKOUT_ONLY and (top / "__init__.py").is_file()
        for file in top.rglob("__init__.py")
    ]
    assert {".".join(folder.parts) for folder in folders} - packaged == set()
