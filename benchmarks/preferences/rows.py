"""What people preferred, as files to learn from, to choose settings on and to measure on.

A prompt, with all its answers, is on one side only.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.training_runs import DATA
from training.data.schema.messages import split_transcripts

HARMLESS = DATA / "preference/hh_rlhf_harmless_pairs.jsonl.gz"
LABELLED = DATA / "preference/taskmaster4_reward_binary.jsonl.gz"
SIDES = {"train": 65, "choosing": 10, "held": 25}
"""Percent of the prompts."""
_MOST = 480
"""Characters of a prompt: of longer dialogues the last turns are kept."""
_TURNS = {"user": "Human", "assistant": "Assistant", "system": "System", "tool": "Tool"}

Row = dict[str, Any]


def write_rows(folder: Path) -> None:
    """Write what is learned from each side into a folder, as JSON lines.

    `pairs` and `labels`; `matched`, the labels' good and bad answers to one prompt as pairs; and of
    both kinds the `texts`, the `wanted` answers and the `prompts`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, found in (("pairs", pairs()), ("labels", labels())):
        sides = defaultdict(list)
        for group, row in found:
            sides[_side(group)].append(row)
        for side, rows in sides.items():
            _write(folder / f"{name}-{side}.jsonl", rows)
            _write(folder / f"texts-{name}-{side}.jsonl", _texts(rows))
            _write(folder / f"wanted-{name}-{side}.jsonl", _wanted(rows))
            if name == "labels":
                _write(folder / f"matched-{side}.jsonl", _matched(rows))
            prompts = dict.fromkeys(row["prompt"] for row in rows)
            _write(folder / f"prompts-{name}-{side}.jsonl", ({"prompt": p} for p in prompts))


def pairs() -> Iterator[tuple[str, Row]]:
    """Yield pairs, with what keeps rows together: people chose the less harmful answer."""
    for row in _read(HARMLESS):
        prompt, chosen, rejected = split_transcripts(row["chosen"], row["rejected"])
        prompt = _recent(prompt)
        if chosen.strip() and rejected.strip() and chosen != rejected:
            yield prompt, {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def labels() -> Iterator[tuple[str, Row]]:
    """Yield answers of a coffee bar's agent that people called good or bad."""
    for row in _read(LABELLED):
        prompt = _recent(_transcript(row["prompt"]))
        yield prompt, {"prompt": prompt, "completion": _said(row), "label": row["label"]}


def _said(row: Row) -> str:
    """Return what an agent said to a person or, as JSON, to the shop's menu."""
    turn = json.loads(row["completion"])
    return f" {turn['text']}" if "text" in turn else f" CALL {json.dumps(turn.get('api'))}"


def _matched(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield every good answer to a prompt with every bad one to the same."""
    answers: dict[str, dict[bool, dict[str, None]]] = defaultdict(lambda: {True: {}, False: {}})
    for row in rows:
        answers[row["prompt"]][row["label"]][row["completion"]] = None
    for prompt, kinds in answers.items():
        for chosen, rejected in product(kinds[True], kinds[False]):
            yield {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def _texts(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield whole dialogues, good and bad."""
    for row in rows:
        for name in ("chosen", "rejected", "completion"):
            if name in row:
                yield {"text": (row["prompt"] + row[name]).strip()}


def _wanted(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield prompts with the answers that people liked."""
    for row in rows:
        if row.get("label", True):
            answer = row["chosen"] if "chosen" in row else row["completion"]
            yield {"prompt": row["prompt"], "completion": answer}


def _transcript(messages: list[dict[str, str]]) -> str:
    said = "".join(f"\n\n{_TURNS[m['role']]}: {m['content']}" for m in messages)
    return f"{said}\n\nAssistant:"


def _recent(prompt: str) -> str:
    """Return the last turns of a dialogue, from where a person speaks."""
    starts = [found.start() for found in re.finditer(r"\n\nHuman:", prompt)]
    near = [start for start in starts if len(prompt) - start <= _MOST]
    return prompt[near[0] if near else -_MOST :]


def _side(group: str) -> str:
    place = int.from_bytes(hashlib.sha256(group.encode()).digest()[:8], "big") % 100
    for side, percent in SIDES.items():
        place -= percent
        if place < 0:
            return side
    raise AssertionError("the sides come to 100")


def _read(path: Path) -> Iterator[Row]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _write(path: Path, rows: Iterable[Row]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
