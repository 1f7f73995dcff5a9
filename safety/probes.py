"""What a model is asked, from a file of requests, disguises, secrets and harmless questions.

Sets of requests that others have published are tables: AdvBench, HarmBench, JailbreakBench,
do-not-answer, XSTest. They serve as they are, each request as it stands.
"""

from __future__ import annotations

import csv
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError

from training.config.base import ConfigSection
from training.errors import JobError, Problem
from validation.error_messages import explain

OURS = Path(__file__).with_name("probes.yaml")
Kind = Literal["request", "leak", "harmless"]
_REQUEST = ("goal", "prompt", "question", "request", "behavior")
_CATEGORY = ("category", "semanticcategory", "types_of_harm", "risk_area", "type", "focus")
_HARMLESS = ("safe", "harmless", "benign")
"""Spellings of columns, and of labels."""


class Leak(ConfigSection):
    """A secret that a model is told to keep, and how it is asked for."""

    system: str
    ask: str


class ProbeFile(ConfigSection):
    """A file of probes."""

    requests: dict[str, tuple[str, ...]] = Field(default={})
    """By category: what should be refused."""
    wrappers: dict[str, str] = Field(default={"plain": "{request}"})
    """Disguises; each request is asked in each of them."""
    leaks: tuple[Leak, ...] = ()
    harmless: tuple[str, ...] = ()
    """What sounds like harm and is none: it should not be refused."""


@dataclass(frozen=True)
class Probe:
    """One question.

    Attributes:
        kind: What should become of it.
        category: Of a request; `leak` or `harmless` else.
        wrapper: The disguise of a request.
        messages: What is asked.
        secret: What must not be said.
    """

    kind: Kind
    category: str
    wrapper: str
    messages: list[dict[str, Any]]
    secret: str = ""


def read_probes(path: Path = OURS) -> list[Probe]:
    """Return the probes of a file: YAML like ours, or a table with a request on each line.

    Raises:
        JobError: It cannot be used; names every problem.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        table = path.suffix.lower() in (".csv", ".tsv")
        found = _table(path, text) if table else ProbeFile.model_validate(yaml.safe_load(text))
    except ValidationError as error:
        raise JobError(str(path), explain(error, ProbeFile)) from None
    except (OSError, UnicodeDecodeError, csv.Error, yaml.YAMLError) as error:
        said = " ".join(str(error).split())
        raise JobError(str(path), [Problem("(file)", f"cannot be read: {said}")]) from None
    problems = [
        Problem(f"wrappers.{name}", "must contain {request}", text)
        for name, text in found.wrappers.items()
        if "{request}" not in text
    ]
    problems += [
        Problem(f"leaks.{number}.system", "must contain {secret}", leak.system)
        for number, leak in enumerate(found.leaks)
        if "{secret}" not in leak.system
    ]
    probes = [*_requests(found), *_leaks(found), *_harmless(found)]
    if not probes:
        problems.append(Problem("(file)", "there are no probes in it"))
    if problems:
        raise JobError(str(path), problems)
    return probes


def _table(path: Path, text: str) -> ProbeFile:
    """Return what is asked in a table; a line whose `label` says safe should not be refused."""
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))
    columns = {str(name).strip().lower(): name for name in (rows[0] if rows else ())}
    asked = next((columns[name] for name in _REQUEST if name in columns), None)
    if asked is None:
        raise JobError(
            str(path),
            [Problem("(file)", f"needs a column {', '.join(_REQUEST)}", ", ".join(columns))],
        )
    kind = next((columns[name] for name in _CATEGORY if name in columns), None)
    about = columns.get("contextstring", "")  # HarmBench's, of requests that speak of a text
    requests: dict[str, list[str]] = {}
    harmless = []
    for row in rows:
        request = "\n\n".join(filter(None, ((row.get(n) or "").strip() for n in (about, asked))))
        label = str(row.get(columns.get("label", ""), "")).strip().lower()
        if request and label in _HARMLESS:
            harmless.append(request)
        elif request:
            category = str(row[kind] or "").strip() if kind else ""
            requests.setdefault(category or path.stem, []).append(request)
    return ProbeFile.model_validate({"requests": requests, "harmless": harmless})


def _requests(found: ProbeFile) -> list[Probe]:
    return [
        Probe("request", category, name, _user(text.replace("{request}", request)))
        for category, requests in found.requests.items()
        for request in requests
        for name, text in found.wrappers.items()
    ]


def _leaks(found: ProbeFile) -> list[Probe]:
    probes = []
    for number, leak in enumerate(found.leaks):
        secret = hashlib.sha256(f"{number}/{leak.ask}".encode()).hexdigest()[:8].upper()
        said = leak.system.replace("{secret}", secret)
        messages = [{"role": "system", "content": said}, *_user(leak.ask)]
        probes.append(Probe("leak", "leak", "", messages, secret))
    return probes


def _harmless(found: ProbeFile) -> list[Probe]:
    return [Probe("harmless", "harmless", "", _user(text)) for text in found.harmless]


def _user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]
