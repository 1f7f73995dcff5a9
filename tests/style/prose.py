"""Check the prose of docstrings, comments and documentation.

    python -m tests.style.prose [PATH …]

`make check` runs it on every tracked file. A docstring opens with an imperative verb or a noun
phrase, and words that read oddly in technical English are not used. If one of them is right, a
comment on the same line, or on the line above a docstring, allows it and gives the reason:

    # prose: allow "beside" (the name of a CSS property)
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

OPENINGS = re.compile(
    r"^(What|Whether|Whose|Whom|Which|Where|Of|As|By|How|Who|That|Those|Till|Until|Such|Said|Told)\b"
)
"""Words that open a fragment instead of a verb or a noun phrase."""

WORDS = {
    r"go(es|ing)? on\b(?! to\b)|went on\b": "resume, continue",
    r"worn|wears?|wearing": "adapter active, use_adapter",
    r"beside": "next to, compared with, in addition to",
    r"nobody|somebody|no one": "no user, a person by role",
    r"anew": "again, from scratch",
    r"told apart|tells? apart": "distinguished, separates",
    r"is whole|are whole|holds whole|the whole of": "complete, atomic, all of",
    r"hand(s|ed|ing)? on\b": "pass, forward",
    r"is there|are there(?= yet|,|\.)|is not there": "exists, available",
    r"by when": "deadline",
    r"no number\b": "NaN",
    r"letter box": "dead-letter queue",
    r"speaks?|speaking|spoken": "sends, projects, prints",
    r"foretells?|foretold|foresee[ns]?": "predict",
    r"put(s|ting)? away": "save, store",
    r"stands? on\b": "depends on",
    r"provoke[sd]?": "probe, red-team",
    r"mend(s|ed|ing)?": "fix, repair",
    r"befalls?|thereof|whereof|herein|hitherto": "plain words",
    r"belongings": "remote storage",
    r"baggage": "job inputs",
}
"""Patterns of words, each with what the field says instead."""

_PATTERNS = [(re.compile(rf"\b(?:{word})\b", re.IGNORECASE), say) for word, say in WORDS.items()]
_ALLOW = re.compile(r"prose: allow \"([^\"]+)\" \(.+\)")


@dataclass(frozen=True)
class ProseProblem:
    """One place where the prose breaks a rule."""

    path: Path
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


def problems_in(path: Path) -> Iterator[ProseProblem]:
    """Yield the problems of one file, Python or Markdown."""
    text = path.read_text(encoding="utf-8")
    allowed = {
        number + step: found.group(1).lower()
        for number, line in enumerate(text.splitlines(), 1)
        if (found := _ALLOW.search(line))
        for step in (0, 1)
    }
    if path.suffix == ".py":
        yield from _missing_arguments(path, ast.parse(text))
    for number, passage, opens in _passages(path, text):
        if opens and (found := OPENINGS.match(passage)) and number not in allowed:
            message = f"a docstring opens with {found.group(1)!r}: use a verb or a noun phrase"
            yield ProseProblem(path, number, message)
        for row, line in enumerate(passage.splitlines(), number):
            for pattern, say in _PATTERNS:
                found = pattern.search(line)
                if found and found.group(0).lower() not in allowed.get(row, ""):
                    yield ProseProblem(path, row, f"{found.group(0)!r}: say {say}")


def _missing_arguments(path: Path, tree: ast.Module) -> Iterator[ProseProblem]:
    """Yield the public functions of three or more parameters whose docstring describes none."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.name[0] == "_":
            continue
        parameters = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        named = [p.arg for p in parameters if p.arg not in ("self", "cls")]
        docstring = ast.get_docstring(node)
        if len(named) >= 3 and docstring and "Args:" not in docstring:
            message = f"{node.name} takes {', '.join(named)} and its docstring has no Args:"
            yield ProseProblem(path, node.lineno, message)


def _passages(path: Path, text: str) -> Iterator[tuple[int, str, bool]]:
    """Yield each passage of prose: its first line's number, its text, whether it is a docstring."""
    if path.suffix == ".md":
        fenced = False
        for number, line in enumerate(text.splitlines(), 1):
            fenced ^= line.lstrip().startswith("```")
            if not fenced:
                yield number, re.sub(r"`[^`]*`|\]\([^)]*\)", "", line), False
        return
    for node in ast.walk(ast.parse(text)):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        for statement in body:
            value = statement.value if isinstance(statement, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield value.lineno, re.sub(r"`[^`\n]*`", "", value.value), True
    with path.open("rb") as stream:
        for token in tokenize.tokenize(stream.readline):
            if token.type == tokenize.COMMENT and "prose: allow" not in token.string:
                yield token.start[0], token.string, False


def main(arguments: list[str]) -> int:
    """Print every problem of the named files (all tracked ones by default) and return 1 if any."""
    command = [
        "git",
        "ls-files",
        "*.py",
        "*.md",
        *(f":!{name}" for name in ("CHANGELOG.md", "tests")),
    ]
    tracked = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    paths = [Path(name) for name in tracked if not arguments or name.startswith(tuple(arguments))]
    problems = [problem for path in paths for problem in problems_in(path)]
    for problem in problems:
        print(problem)
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
