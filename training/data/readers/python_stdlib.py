"""Source `builtin:python-stdlib`: docstrings and code of the running Python interpreter.

It provides English text and code on every machine without a download. Modules are parsed, never
imported. `subset: text` (the default) yields each module's docstrings and source as text;
`subset: qa` yields questions such as "What does textwrap.dedent do?" with the docstring's first
paragraph as the answer. `pairs` prefers that concise answer to a rambling one; `judged` yields one
of the two at a time, labelled good or bad; `questions` yields the questions alone.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import os
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from training.data.readers.records import SourceRecord
from training.errors import DataError

NAME = "builtin:python-stdlib"
_EXCLUDED = frozenset(
    {"test", "tests", "idlelib", "turtledemo", "lib2to3", "site-packages", "dist-packages"}
)
_EXCLUDED |= frozenset({"__pycache__", "ensurepip", "encodings", "pydoc_data"})
_LONGEST_ANSWER = 600
_RAMBLING_WORDS = 90
_Documented = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def digest(subset: str | None) -> str:
    """Return an identifier of the content: the interpreter's exact version and the subset."""
    text = f"{sys.version}:{sysconfig.get_path('stdlib')}:{subset or 'text'}"
    return "stdlib:" + hashlib.sha256(text.encode()).hexdigest()


def records(subset: str | None) -> Iterator[SourceRecord]:
    """Yield rows in a fixed order.

    Raises:
        DataError: The subset does not exist.
    """
    if subset not in (None, *_READ):
        raise DataError(f"{NAME}: subset is one of {', '.join(_READ)} (got {subset})")
    read = _READ[subset or "text"]
    for path in _modules():
        try:
            yield from read(_dotted(path), path)
        except (OSError, UnicodeDecodeError, SyntaxError):
            continue


def _root() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def _modules() -> list[Path]:
    """Return the library's modules without private modules and tests.

    They are ordered by a hash of their names, so that the first rows are a fair sample of all.
    """
    paths = []
    for folder, inner, files in os.walk(_root()):
        # Excluded folders are not walked: site-packages may be large.
        inner[:] = [n for n in inner if n not in _EXCLUDED and not n.startswith(("_", "config-"))]
        paths += [
            Path(folder, name)
            for name in files
            if name.endswith(".py") and (name == "__init__.py" or not name.startswith("_"))
        ]
    return sorted(paths, key=lambda path: hashlib.sha256(_dotted(path).encode()).digest())


def _dotted(path: Path) -> str:
    parts = path.relative_to(_root()).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _texts(module: str, path: Path) -> Iterator[SourceRecord]:
    """Yield the docstrings of a module as one text, then its source."""
    about = [f"{item.name}\n\n{item.text}" for item in _documented(module, path)]
    if about:
        yield SourceRecord(f"python-stdlib/{module}:docs", {"text": "\n\n\n".join(about)})
    yield SourceRecord(f"python-stdlib/{module}:source", {"text": path.read_text(encoding="utf-8")})


def _questions(module: str, path: Path) -> Iterator[SourceRecord]:
    for item in _documented(module, path):
        opening = _opening(item.text)
        if opening and not item.name.rsplit(".", 1)[-1].startswith("_"):
            yield SourceRecord(
                f"python-stdlib/{item.name}",
                {
                    "prompt": f"What does {item.name} do?",
                    "completion": f"It is a {item.kind} in Python's standard library. {opening}",
                },
            )


def _pairs(module: str, path: Path) -> Iterator[SourceRecord]:
    """Yield questions with a concise answer (chosen) and a rambling one (rejected)."""
    longer = {item.name: item.text for item in _documented(module, path)}
    for record in _questions(module, path):
        prompt, short = record.values["prompt"], record.values["completion"]
        words = longer[record.origin.removeprefix("python-stdlib/")].split()
        start = short[: short.index(". ") + 2]
        long = start + " ".join(words[:_RAMBLING_WORDS])
        if len(long) > 1.5 * len(short):
            yield SourceRecord(record.origin, {"prompt": prompt, "chosen": short, "rejected": long})


def _judged(module: str, path: Path) -> Iterator[SourceRecord]:
    for number, record in enumerate(_pairs(module, path)):
        good = number % 2 == 0
        answer = record.values["chosen" if good else "rejected"]
        values = {"prompt": record.values["prompt"], "completion": answer, "label": good}
        yield SourceRecord(record.origin, values)


def _prompts(module: str, path: Path) -> Iterator[SourceRecord]:
    for record in _questions(module, path):
        values = {"prompt": record.values["prompt"], "reference": record.values["completion"]}
        yield SourceRecord(record.origin, values)


_READ = {
    "text": _texts,
    "qa": _questions,
    "pairs": _pairs,
    "judged": _judged,
    "questions": _prompts,
}


class _DocumentedObject(NamedTuple):
    """Documented object: its dotted name, docstring and kind."""

    name: str
    text: str
    kind: str


@functools.cache
def _documented(module: str, path: Path) -> tuple[_DocumentedObject, ...]:
    """Return the documented objects of a module, cached because parsing dominates the time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tuple(_docstrings(module, ast.parse(path.read_text(encoding="utf-8"))))


def _docstrings(module: str, tree: ast.Module) -> Iterator[_DocumentedObject]:
    text = ast.get_docstring(tree)
    if text:
        yield _DocumentedObject(module, text, "module")
    yield from _nested(module, tree)


def _nested(parent: str, node: ast.AST) -> Iterator[_DocumentedObject]:
    seen: set[str] = set()
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, _Documented):
            continue
        name = f"{parent}.{child.name}"
        text = ast.get_docstring(child)
        # Skip a second definition of a name (a property's setter, an overload).
        if text and name not in seen:
            seen.add(name)
            yield _DocumentedObject(name, text, _kind(child, node))
        if isinstance(child, ast.ClassDef):
            yield from _nested(name, child)


def _kind(child: _Documented, parent: ast.AST) -> str:
    if isinstance(child, ast.ClassDef):
        return "class"
    return "method" if isinstance(parent, ast.ClassDef) else "function"


def _opening(docstring: str) -> str:
    """Return the first paragraph of a docstring, unwrapped; empty if it is not prose."""
    text = " ".join(re.split(r"\n\s*\n", inspect.cleandoc(docstring))[0].split())
    prose = text[:1].isalpha() and ">>>" not in text and text.endswith((".", ":", "!", "?"))
    return text if prose and len(text.split()) >= 3 and len(text) <= _LONGEST_ANSWER else ""
