"""Scores that exported suites carry with them are Temper's."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter

from evaluation.config.scores import AnyScore, ScoreSection
from evaluation.exports.bundle import bundle_source
from evaluation.exports.portable_scores import PORTABLE_METRICS, score_answer
from evaluation.scores.base import AnsweredItem, ScoreContext, build_score

SECTIONS: list[dict[str, Any]] = [
    {"kind": "exact_match"},
    {"kind": "exact_match", "normalize": "whitespace"},
    {"kind": "exact_match", "normalize": "none", "name": "whole"},
    {"kind": "token_f1", "answer_pattern": r"answer is (.*)"},
    {"kind": "contains"},
    {"kind": "contains", "ignore_case": False},
    {"kind": "rouge"},
    {"kind": "numeric_answer"},
    {"kind": "numeric_answer", "marker": "is", "marked_only": True, "tolerance": 0.1},
    {"kind": "classification", "labels": ["12", "Paris", "the red fox"]},
    {"kind": "refusal", "expected": False},
    {"kind": "refusal", "expected": "should_refuse"},
]
_PARTS = (
    "12", "12.5", "1,200", "Paris", "paris.", "the red fox", "The", "a fox", "answer is", "####",
    "I cannot help", "I'm sorry, but", "ÉTÉ", "  ", "\n", "-7", "3/4", "\\boxed{12}", "red_fox",
)  # fmt: skip
_TARGETS = ("12", "Paris", "the red fox")


def make_items(count: int) -> list[AnsweredItem]:
    draw = random.Random(7)
    items = []
    for number in range(count):
        answer = " ".join(draw.choices(_PARTS, k=draw.randint(0, 5)))
        targets = (draw.choice(_TARGETS), *draw.sample(_TARGETS, k=draw.randint(0, 1)))
        fields = {"should_refuse": draw.choice(["yes", "False", "1"])}
        items.append(AnsweredItem(str(number), fields, "", targets, (answer,)))
    return items


def parsed(section: dict[str, Any]) -> ScoreSection:
    adapter: TypeAdapter[ScoreSection] = TypeAdapter(AnyScore)
    return adapter.validate_python(section)


@pytest.mark.parametrize("section", SECTIONS, ids=lambda s: "-".join(map(str, s.values())))
def test_each_value_is_that_of_the_score(section: dict[str, Any], tmp_path: Path) -> None:
    score = parsed(section)
    items = make_items(400)
    if section["kind"] == "numeric_answer":  # every target needs a number
        items = [item for item in items if set(item.targets) == {"12"}]
    context = ScoreContext(torch.device("cpu"), tmp_path, tmp_path)
    metrics = {m.name: m for m in build_score(score, context).score(items).metrics}
    dumped = score.model_dump(mode="json")
    values = [score_answer([dumped], i.answers[0], i.targets, i.fields) for i in items]
    names = PORTABLE_METRICS[section["kind"]]
    prefix = f"{section['name']}_" if "name" in section else ""
    assert set(values[0]) == {prefix + name for name in names}
    for name in values[0]:
        expected = metrics[name].statistics[:, 0]
        if section["kind"] != "classification":
            assert metrics[name].item_values is not None
        assert [value[name] for value in values] == pytest.approx(list(expected))
        assert 0 < sum(expected) < len(items), f"{name} tells nothing apart"


def test_every_portable_score_is_compared() -> None:
    assert {section["kind"] for section in SECTIONS} == set(PORTABLE_METRICS)


def test_the_bundle_needs_nothing_of_temper(tmp_path: Path) -> None:
    source = bundle_source(("evaluation.exports.portable_scores", "score_answer"))
    module = tmp_path / "scoring.py"
    module.write_text("from __future__ import annotations\n\n" + source, encoding="utf-8")
    section = parsed({"kind": "numeric_answer"}).model_dump(mode="json")
    code = (
        "import scoring, sys\n"
        f"print(scoring.score_answer([{section!r}], 'so #### 1,200', ['1200'], {{}}))\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('evaluation', 'training')])"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{code}"],
        capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.stdout.split("\n")[:2] == ["{'numeric_answer': 1.0}", "[]"]
