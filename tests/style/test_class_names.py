"""Test that two classes share a name only if one extends the other."""

from __future__ import annotations

import ast
import subprocess
from collections import defaultdict
from pathlib import Path


def _bases(node: ast.ClassDef) -> set[str]:
    return {ast.unparse(base).split("[")[0].rpartition(".")[2] for base in node.bases}


def test_class_names_are_unique() -> None:
    tracked = ["git", "ls-files", "--cached", "*.py", ":!tests", ":!benchmarks"]
    classes: dict[str, list[tuple[str, set[str]]]] = defaultdict(list)
    for name in subprocess.run(tracked, capture_output=True, text=True, check=True).stdout.split():
        for node in ast.walk(ast.parse(Path(name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                classes[node.name].append((name, _bases(node)))
    clashes = {
        name: [path for path, _ in places]
        for name, places in classes.items()
        if sum(name not in bases for _, bases in places) > 1
    }
    assert classes, "git lists no Python file"
    assert not clashes, f"rename one of each: {clashes}"
