"""Exchange with Label Studio: tasks with two answers, and the annotations of them.

The labelling configuration has a `Pairwise` control with the names of `CONFIG`; an export is JSON,
as `Export > JSON` writes it (https://labelstud.io/guide/export, https://labelstud.io/tags/pairwise).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from feedback.review.label_file import REASONS, Judgement
from feedback.review.pairs import ReviewPair, other, parse_pair
from training.errors import DataError

_REASONS = "\n".join(f'    <Choice value="{reason}"/>' for reason in REASONS)
CONFIG = f"""\
<View>
  <Text name="prompt" value="$prompt"/>
  <Pairwise name="preference" toName="left,right"/>
  <Text name="left" value="$left"/>
  <Text name="right" value="$right"/>
  <Choices name="verdict" toName="prompt" choice="single">
    <Choice value="tie"/>
    <Choice value="cannot judge"/>
  </Choices>
  <Choices name="reasons" toName="prompt" choice="multiple">
{_REASONS}
  </Choices>
  <TextArea name="comment" toName="prompt" maxSubmissions="1"/>
</View>
"""
_SIDES = "label-studio"
"""Name by which the side of each answer is drawn: all people of a project see the same sides."""


def tasks(pairs: Sequence[ReviewPair]) -> list[dict[str, Any]]:
    """Return the pairs as tasks to import into Label Studio."""
    found = []
    for pair in pairs:
        left = pair.shown_first(_SIDES)
        data = {
            "prompt": pair.prompt,
            "left": pair.answer(left),
            "right": pair.answer(other(left)),
            "left_is": left,
            "topic": pair.topic,
            "gold": pair.gold,
        }
        found.append({"data": data})
    return found


def read_export(path: Path) -> list[Judgement]:
    """Return the judgements of an export.

    Args:
        path: The file.

    Raises:
        DataError: The file is no export of such tasks; names all that is wrong.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(document, list):
        raise DataError(f"{path} is no export of Label Studio: a list of tasks is expected")
    found: list[Judgement] = []
    problems = []
    for number, task in enumerate(document, start=1):
        try:
            found += _judgements(task)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            problems.append(f"task {number}: {error}")
    if problems:
        raise DataError(f"{path}: {len(problems)} tasks cannot be used\n  " + "\n  ".join(problems))
    return found


def _judgements(task: dict[str, Any]) -> list[Judgement]:
    data = task["data"]
    left = data["left_is"]
    answers = {left: data["left"], other(left): data["right"]}
    pair = parse_pair({**data, "answer_a": answers["a"], "answer_b": answers["b"]})
    found = []
    for annotation in task.get("annotations", ()):
        if annotation.get("was_cancelled"):
            continue
        results = {result["from_name"]: result["value"] for result in annotation["result"]}
        choice = _choice(results, left)
        person = annotation.get("completed_by", "")
        name = person.get("email") or person.get("id") if isinstance(person, dict) else person
        seconds = float(annotation.get("lead_time") or 0)
        reasons = tuple(results.get("reasons", {}).get("choices", ()))
        comment = " ".join(results.get("comment", {}).get("text", ()))
        found.append(Judgement(pair, str(name), choice, left, reasons, comment, seconds))
    return found


def _choice(results: Mapping[str, Any], left: str) -> str:
    """Return the choice of an annotation; a verdict counts more than a side that is selected.

    Args:
        results: Values by the name of the control.
        left: The answer on the left.

    Raises:
        ValueError: It has none.
    """
    if verdict := results.get("verdict", {}).get("choices"):
        return "tie" if verdict == ["tie"] else ""
    if "preference" not in results:
        raise ValueError("an annotation chooses nothing")
    return left if results["preference"]["selected"] == "left" else other(left)
