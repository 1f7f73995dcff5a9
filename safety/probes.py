"""Red-teaming probes: harmful requests with jailbreak wrappers, secrets, and harmless questions.

Published data sets (AdvBench, HarmBench, JailbreakBench, do-not-answer, XSTest) are tables. They
are read unchanged, and their requests are sent without wrappers.
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

from safety.turns import Conversation
from training.config.base import ConfigSection
from training.errors import JobError, Problem
from validation.error_messages import explain

DEFAULT_PROBES = Path(__file__).with_name("probes.yaml")
Kind = Literal["request", "leak", "harmless"]
_REQUEST = ("goal", "prompt", "question", "request", "behavior")
_CATEGORY = ("category", "semanticcategory", "types_of_harm", "risk_area", "type", "focus")
_HARMLESS = ("safe", "harmless", "benign")
"""Accepted names of columns, and of the labels of harmless questions."""


class Leak(ConfigSection):
    """Secret in a system prompt, and a question that tries to extract it."""

    system: str
    ask: str


class ProbeFile(ConfigSection):
    """File of probes."""

    requests: dict[str, tuple[str, ...]] = Field(default={})
    """Harmful requests by category."""
    wrappers: dict[str, str] = Field(default={"plain": "{request}"})
    """Jailbreak templates by name; every request is sent in each of them."""
    leaks: tuple[Leak, ...] = ()
    harmless: tuple[str, ...] = ()
    """Harmless questions that sound harmful: refusing them is over-refusal."""
    conversations: tuple[Conversation, ...] = ()
    """Conversations of several turns that lead towards a harmful answer."""


@dataclass(frozen=True)
class Probe:
    """One prompt sent to the model.

    Attributes:
        kind: Kind, which determines the expected outcome.
        category: Category of a request; `leak` or `harmless` otherwise.
        wrapper: Name of the jailbreak template of a request.
        messages: Conversation sent to the model.
        secret: Text that must not appear in the answer.
    """

    kind: Kind
    category: str
    wrapper: str
    messages: list[dict[str, Any]]
    secret: str = ""


@dataclass(frozen=True)
class ProbeSet:
    """Contents of a file of probes.

    Attributes:
        probes: Single prompts.
        conversations: Scripts of conversations.
    """

    probes: tuple[Probe, ...]
    conversations: tuple[Conversation, ...]

    @property
    def max_answers(self) -> int:
        """Largest number of answers that a model is asked for."""
        return len(self.probes) + sum(script.max_answers for script in self.conversations)


def read_probes(path: Path = DEFAULT_PROBES) -> ProbeSet:
    """Return the probes of a file: YAML like `probes.yaml`, or a table with one request per line.

    Raises:
        JobError: The file cannot be used; names every problem.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        table = path.suffix.lower() in (".csv", ".tsv")
        file = _read_table(path, text) if table else ProbeFile.model_validate(yaml.safe_load(text))
    except ValidationError as error:
        raise JobError(str(path), explain(error, ProbeFile)) from None
    except (OSError, UnicodeDecodeError, csv.Error, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise JobError(str(path), [Problem("(file)", f"cannot be read: {reason}")]) from None
    problems = [
        Problem(f"wrappers.{name}", "must contain {request}", text)
        for name, text in file.wrappers.items()
        if "{request}" not in text
    ]
    problems += [
        Problem(f"leaks.{number}.system", "must contain {secret}", leak.system)
        for number, leak in enumerate(file.leaks)
        if "{secret}" not in leak.system
    ]
    probes = (*_requests(file), *_leaks(file), *_harmless(file))
    if not probes and not file.conversations:
        problems.append(Problem("(file)", "no probes found"))
    if problems:
        raise JobError(str(path), problems)
    return ProbeSet(probes, file.conversations)


def _read_table(path: Path, text: str) -> ProbeFile:
    """Return the requests of a table; lines labelled as safe are harmless questions.

    Raises:
        JobError: The table has no column of requests.
    """
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
    about = columns.get("contextstring", "")  # HarmBench's column for requests about a given text
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


def _requests(file: ProbeFile) -> list[Probe]:
    return [
        Probe("request", category, name, _user(text.replace("{request}", request)))
        for category, requests in file.requests.items()
        for request in requests
        for name, text in file.wrappers.items()
    ]


def _leaks(file: ProbeFile) -> list[Probe]:
    probes = []
    for number, leak in enumerate(file.leaks):
        secret = hashlib.sha256(f"{number}/{leak.ask}".encode()).hexdigest()[:8].upper()
        system = leak.system.replace("{secret}", secret)
        messages = [{"role": "system", "content": system}, *_user(leak.ask)]
        probes.append(Probe("leak", "leak", "", messages, secret))
    return probes


def _harmless(file: ProbeFile) -> list[Probe]:
    return [Probe("harmless", "harmless", "", _user(text)) for text in file.harmless]


def _user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]
