"""Messages name commands as the command line spells them, whether make called it or not."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "training",
    "planning",
    "launch",
    "temper",
    "emulator",
    "safety",
    "evaluation",
    "feedback",
    "account",
)
MAKE_ONLY = re.compile(
    r"\b(TARGET|FRESH|RUN|IMAGE|SET|ARCHIVE|CHECKPOINTS)=[…\w]"
    r"|(?<!make plan )\bJOB=[…\w]"
    r"|\bmake (train|status|adopt|logs|stop|resume|fetch|delete|export|doctor|prices|rehearse"
    r"|answer|redteam|bias|feedback|schema)\b"
)
"""Variables of make, and targets that are commands of `temper`. What only make has (deploy, synth,
image, plan in a repair of the installation) is spelled with make."""


def messages(path: Path) -> list[tuple[int, str]]:
    """Return the string constants of a module with their lines, docstrings excluded."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    return [
        (node.lineno, node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in docstrings
        and not node.value.startswith(("#!", "\n#!"))
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_messages_name_commands_of_temper(package: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {match[0]}"
        for path in sorted((ROOT / package).rglob("*.py"))
        for line, text in messages(path)
        if (match := MAKE_ONLY.search(text))
    ]
    assert not wrong, "\n".join(wrong)
