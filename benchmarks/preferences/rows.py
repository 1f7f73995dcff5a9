"""Human preferences as files for training, tuning and measurement.

All answers to a prompt are on the same side.
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
"""The sides and their percentage of the prompts."""
_MOST = 480
"""The most characters of a prompt: the last turns of longer dialogues are kept."""
_TURNS = {"user": "Human", "assistant": "Assistant", "system": "System", "tool": "Tool"}

Row = dict[str, Any]


def write_rows(folder: Path) -> None:
    """Write the rows of each side to a folder, as JSON Lines.

    The files are `pairs`, `labels`, `matched` (pairs of good and bad labeled answers to the same
    prompt), and for both sources `texts`, `wanted` (preferred answers) and `prompts`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, source in (("pairs", pairs()), ("labels", labels())):
        sides = defaultdict(list)
        for group, row in source:
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
    """Yield each pair with its group key, the prompt; the chosen answer is the less harmful one."""
    for row in _read(HARMLESS):
        prompt, chosen, rejected = split_transcripts(row["chosen"], row["rejected"])
        prompt = _recent(prompt)
        if chosen.strip() and rejected.strip() and chosen != rejected:
            yield prompt, {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def labels() -> Iterator[tuple[str, Row]]:
    """Yield answers of a coffee shop's ordering agent that people labeled good or bad."""
    for row in _read(LABELLED):
        prompt = _recent(_transcript(row["prompt"]))
        yield prompt, {"prompt": prompt, "completion": _agent_turn(row), "label": row["label"]}


def _agent_turn(row: Row) -> str:
    """Return the text of an agent's turn or, for a tool call, its JSON."""
    turn = json.loads(row["completion"])
    return f" {turn['text']}" if "text" in turn else f" CALL {json.dumps(turn.get('api'))}"


def _matched(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield each good answer to a prompt paired with each bad answer to it."""
    answers: dict[str, dict[bool, dict[str, None]]] = defaultdict(lambda: {True: {}, False: {}})
    for row in rows:
        answers[row["prompt"]][row["label"]][row["completion"]] = None
    for prompt, kinds in answers.items():
        for chosen, rejected in product(kinds[True], kinds[False]):
            yield {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def _texts(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield complete dialogues, with good and bad answers."""
    for row in rows:
        for name in ("chosen", "rejected", "completion"):
            if name in row:
                yield {"text": (row["prompt"] + row[name]).strip()}


def _wanted(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield prompts with preferred answers."""
    for row in rows:
        if row.get("label", True):
            answer = row["chosen"] if "chosen" in row else row["completion"]
            yield {"prompt": row["prompt"], "completion": answer}


def _transcript(messages: list[dict[str, str]]) -> str:
    turns = "".join(f"\n\n{_TURNS[m['role']]}: {m['content']}" for m in messages)
    return f"{turns}\n\nAssistant:"


def _recent(prompt: str) -> str:
    """Return the last turns of a dialogue, starting with a human turn."""
    starts = [match.start() for match in re.finditer(r"\n\nHuman:", prompt)]
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
