"""Implementation of `temper compare`: answers of two models, judged in both orders.

It is an evaluation of a suite with one task. In addition it writes two files of pairs for people,
in the format that `temper feedback` reads: `pairs.jsonl`, those whose verdict is least certain
first, and `random_pairs.jsonl`, whose labels can correct the judge (`human_labels`).
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from evaluation.command import evaluate_suite, result_lines, spent_line
from evaluation.config.scores import LlmJudge
from evaluation.config.suite import Suite
from evaluation.models.sources import ModelSource, find_source, stable_folder
from evaluation.report.formatting import fact_rows
from evaluation.report.page import REPORT
from training.config.data import Source
from training.config.load import read_document
from training.console import say
from training.data.readers.records import BadRecord
from training.data.readers.sources import locate
from training.errors import DataError, JobError, Problem
from training.quiet import quiet
from training.run_folder import write_whole
from validation.error_messages import explain
from validation.json_lines import split_lines

TASK = "answers"
PAIRS, RANDOM_PAIRS = "pairs.jsonl", "random_pairs.jsonl"
_COLUMNS = ("prompt", "question", "instruction", "input", "query")
_RANDOM = 200
_RUBRIC = (
    "The better answer is correct, does what the request asks for, and is no longer than it needs "
    "to be."
)


@dataclass(frozen=True)
class CompareOptions:
    """Options of `temper compare`.

    Attributes:
        model: Run, folder, Hub id or endpoint.
        other: The model that it is compared with.
        prompts: File of prompts.
        judge: File with a judge, or with a rubric and judges.
        out: Folder of the results; one in `evaluations/compare/` if not given.
        column: Column of the prompts; detected if not given.
        chat: Ask through the chat template.
        max_new_tokens: Tokens of the longest answer.
        batch_size: Sequences per forward pass.
        max_cost: Limit in US dollars for judges and endpoints.
    """

    model: str
    other: str
    prompts: Path
    judge: Path
    out: Path | None = None
    column: str | None = None
    chat: bool = True
    max_new_tokens: int = 512
    batch_size: int = 16
    max_cost: float | None = None


def run_comparison(options: CompareOptions) -> int:
    """Compare two models, print the win rate, and write the results and the pairs for people.

    Returns:
        Exit code.

    Raises:
        TemperError: A file or a model cannot be used, or the judge fails.
    """
    quiet()
    score = read_judge(options.judge)
    column = options.column or prompt_column(options.prompts)
    task = {
        "name": TASK,
        "kind": "generation",
        "data": str(options.prompts),
        "prompt": column,
        "chat": options.chat,
        "max_new_tokens": options.max_new_tokens,
        "scores": [score.model_dump(mode="json")],
    }
    suite = Suite.model_validate({"suite": "compare", "tasks": [task]})
    sources = [find_source(options.model, "A", suite), find_source(options.other, "B", suite)]
    out = options.out or _default_folder(options, sources)
    result = evaluate_suite(
        suite, sources, out, batch_size=options.batch_size, max_cost=options.max_cost
    )
    counts = write_pairs(out)
    for line in result_lines(suite, result):
        say(line)
    for label, text in fact_rows(result.tasks[TASK].facts.get("judge", {})):
        say(f"  {label}: {text}")
    if result.spent:
        say(spent_line(result.spent))
    say(f"{counts} pairs for people, the least certain first: {out / PAIRS}")
    say(f"done in {result.seconds:.0f} s: {out / REPORT}")
    return 0


def read_judge(path: Path) -> LlmJudge:
    """Return the judge in a file: a section `judge:` alone, or a rubric and judges.

    Raises:
        JobError: The file cannot be used; lists every problem.
    """
    document = read_document(path)
    if not isinstance(document, dict):
        raise JobError(str(path), [Problem("(file)", "a judge is a mapping: rubric, judge")])
    if document.get("kind", "judge") != "judge":
        document = {"judge": document}
    document = {"rubric": _RUBRIC, **document, "kind": "judge", "mode": "pairwise"}
    try:
        return LlmJudge.model_validate(document)
    except ValidationError as error:
        raise JobError(str(path), explain(error, LlmJudge)) from None


def prompt_column(path: Path) -> str:
    """Return the column of the prompts in a file.

    Raises:
        DataError: The file cannot be read, or no column has one of the usual names.
    """
    for _, record in locate(Source(source=str(path))).records():
        if isinstance(record, BadRecord):
            raise DataError(f"{record.origin}: {record.reason}")
        for name in _COLUMNS:
            if name in record.values:
                return name
        raise DataError(
            f"{path} has no column {', '.join(_COLUMNS[:-1])} or {_COLUMNS[-1]}. Its columns are "
            f"{', '.join(record.values)}: name that of the prompts with --column"
        )
    raise DataError(f"{path} has no rows")


def write_pairs(folder: Path) -> int:
    """Write the pairs for people, and return how many there are.

    Args:
        folder: Folder of the comparison.

    Raises:
        OSError: A file cannot be read or written.
    """
    text = (folder / "items" / f"{TASK}.jsonl").read_text(encoding="utf-8")
    items = [json.loads(line) for line in split_lines(text)]
    judged = [item for item in items if item["answers"] and "other_answer" in item["detail"]]
    # Equal answers have nothing to choose between.
    judged = [item for item in judged if item["answers"][0] != item["detail"]["other_answer"]]
    first = sorted(judged, key=lambda item: (_rank(item["detail"]), _draw(item)))
    write_whole(folder / PAIRS, "".join(map(_pair_line, first)))
    random = sorted(judged, key=_draw)[:_RANDOM]
    write_whole(folder / RANDOM_PAIRS, "".join(map(_pair_line, random)))
    return len(first)


def uncertainty(detail: dict[str, Any]) -> str | None:
    """Return why a verdict is not certain; None if it is."""
    verdicts: Sequence[dict[str, Any]] = detail["verdicts"]
    if detail["preference"] is None:
        return "no usable judgement"
    if len({_both_orders(verdict) for verdict in verdicts}) > 1:
        return "judges disagree"
    if any(verdict["model_first"] != verdict["other_first"] for verdict in verdicts):
        return "the verdict depends on the order"
    return "tie" if detail["preference"] == "tie" else None


_REASONS = ("judges disagree", "the verdict depends on the order", "no usable judgement", "tie")


def _rank(detail: dict[str, Any]) -> int:
    reason = uncertainty(detail)
    return len(_REASONS) if reason is None else _REASONS.index(reason)


def _both_orders(verdict: dict[str, Any]) -> str | None:
    first, second = verdict["model_first"], verdict["other_first"]
    if first is None or second is None:
        return None
    return str(first) if first == second else "tie"


def _draw(item: dict[str, Any]) -> str:
    """Return a value that orders items as if drawn at random, the same each time."""
    return hashlib.sha256(f"{item['id']}\0{item['prompt']}".encode()).hexdigest()


def _pair_line(item: dict[str, Any]) -> str:
    """Return a pair as a line in which neither position belongs to a model."""
    own, other = item["answers"][0], item["detail"]["other_answer"]
    swapped = int(_draw(item)[-1], 16) % 2 == 1
    line = {
        "prompt": item["prompt"],
        "answer_a": other if swapped else own,
        "answer_b": own if swapped else other,
        "choice": "",
        "why": uncertainty(item["detail"]) or "",
    }
    return json.dumps(line, ensure_ascii=False) + "\n"


def _default_folder(options: CompareOptions, sources: Sequence[ModelSource]) -> Path:
    if any(source.endpoint for source in sources):
        model, other = sources
        return stable_folder("compare", model, other, options.prompts, options.judge)
    names = "-".join(Path(source.name).name for source in sources)
    return Path("evaluations") / "compare" / f"{names}-{time.strftime('%Y%m%d-%H%M%S')}"
