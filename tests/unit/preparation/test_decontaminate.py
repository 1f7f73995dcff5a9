"""Tests of the search for benchmark items in rows."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pytest

from preparation.config.job import PreparationJob
from preparation.plan import plan
from preparation.rows import PreparedRow
from preparation.steps.decontaminate.items import BenchmarkItem, item_of
from preparation.steps.decontaminate.section import DecontaminateStep, Decontamination
from preparation.steps.step import Rule
from training.errors import DataError

PROBLEM = (
    "Travis had 61 apps on his tablet. He deleted 9 apps he did not use anymore and downloaded "
    "18 more. How many apps are on his tablet now?"
)
REPHRASED = (
    "Travis initially had 61 applications on his tablet. He got rid of 9 unused apps and "
    "downloaded 18 new ones. How many apps does his tablet have now?"
)
OTHER = (
    "A baker made 45 rolls in the morning and sold 12 of them before noon. She then baked 30 "
    "more. How many rolls does she have in the evening?"
)
SOLUTION = (
    "After the deletion he has 61 - 9 = 52 apps on his tablet, and after the downloads there are "
    "52 + 18 = 70 of them."
)
SHARED = Path(__file__).parents[4] / "shared/data"


@pytest.fixture(scope="module")
def rule(tmp_path_factory: pytest.TempPathFactory) -> Rule:
    path = tmp_path_factory.mktemp("benchmark") / "bench.jsonl"
    items = [
        {"question": PROBLEM, "answer": SOLUTION},
        {"question": "Who wrote Emma?", "answer": "Jane Austen"},
        {"question": "Name the three states in which water occurs in nature.", "answer": "ice"},
    ]
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    built = DecontaminateStep(step="decontaminate", against=(str(path),)).build()
    assert isinstance(built, Rule)
    return built


def pair(prompt: str, answer: str = "It depends.") -> PreparedRow:
    return PreparedRow("a:1", "a", "prompt_completion", {"prompt": prompt, "completion": answer})


@pytest.mark.parametrize(
    ("row", "reason", "item"),
    [
        (pair(PROBLEM.upper()), "benchmark_copy", 1),
        (pair("Solve this. " + PROBLEM + " Explain."), "benchmark_copy", 1),
        (pair("What is left?", SOLUTION), "benchmark_copy", 1),
        (pair("who wrote  Emma"), "benchmark_copy", 2),
        (pair(REPHRASED), "benchmark_rephrased", 1),
        (PreparedRow("a:1", "a", "text", {"text": f"Intro.\n\n{REPHRASED}\n\nThe end."}),
         "benchmark_rephrased", 1),
    ],
    ids=["letter case", "inside a prompt", "solution", "short", "rephrased", "in a document"],
)  # fmt: skip
def test_a_row_with_an_item_names_it(rule: Rule, row: PreparedRow, reason: str, item: int) -> None:
    result = rule.examine(row)
    assert result.reasons == (reason,)
    assert result.tags["benchmark_item"] == f"bench.jsonl:{item}"


@pytest.mark.parametrize(
    "row",
    [
        pair(OTHER),
        pair("Who wrote Emma and Persuasion?"),
        pair("Which author is meant?", "Jane Austen"),
    ],
    ids=["another problem", "another short question", "a short answer alone"],
)  # fmt: skip
def test_other_rows_pass(rule: Rule, row: PreparedRow) -> None:
    assert rule.examine(row).reasons == ()


def test_rows_are_examined_alike_alone_and_together(rule: Rule) -> None:
    rows = [pair(OTHER), pair(REPHRASED), pair(PROBLEM), pair("Who wrote Emma?")]
    together = rule.examine_all(rows)
    assert together == [rule.examine(row) for row in rows]
    assert [bool(result.reasons) for result in together] == [False, True, True, True]


def test_held_out_rows_are_items_too() -> None:
    rule = Decontamination([item_of(pair(PROBLEM))], similarity=None)
    assert rule.examine(pair(PROBLEM)).reasons == ("benchmark_copy",)
    assert rule.examine(pair(REPHRASED)).reasons == ()


def test_the_content_of_the_benchmark_names_the_result(tmp_path: Path) -> None:
    rows, bench = tmp_path / "rows.jsonl", tmp_path / "bench.jsonl"
    rows.write_text(json.dumps({"text": PROBLEM}) + "\n")
    step = {"step": "decontaminate", "against": [str(bench)]}
    job = PreparationJob.model_validate(
        {"name": "a", "prepare": {"sources": [str(rows)], "steps": [step]}}
    )
    digests = []
    for text in (PROBLEM, OTHER, PROBLEM):
        bench.write_text(json.dumps({"text": text}) + "\n")
        digests.append(plan(job).digest)
    assert digests[0] == digests[2] != digests[1]


def test_missing_files_and_unknown_formats_are_problems(tmp_path: Path) -> None:
    (tmp_path / "a.docx").write_text("x")
    step = DecontaminateStep(
        step="decontaminate", against=(str(tmp_path / "no.jsonl"), str(tmp_path / "a.docx"))
    )
    first, second = step.problems("prepare.steps.0")
    assert first.path == "prepare.steps.0.against.0" and "does not exist" in first.message
    assert second.path == "prepare.steps.0.against.1" and "format" in second.message


def test_a_benchmark_that_cannot_be_read_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "bench.jsonl"
    path.write_text('{"question": "a", "answer": "b"}\n{"score": 1}\n')
    step = DecontaminateStep(step="decontaminate", against=(str(path),))
    with pytest.raises(DataError, match=r"bench\.jsonl:2"):
        step.build()


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared data")
def test_edited_and_rephrased_problems_are_found_and_others_are_not() -> None:
    with gzip.open(SHARED / "neardup/gsm8k_rephrased_contamination.jsonl.gz", "rt") as lines:
        pairs = [json.loads(line) for line in lines]
    with gzip.open(SHARED / "reasoning/gsm8k_train.jsonl.gz", "rt") as lines:
        others = [json.loads(line)["question"] for line in lines][:600]
    items = [BenchmarkItem(str(n), one["original"], "") for n, one in enumerate(pairs)]
    rule = Decontamination(items, similarity=1.11)
    draw = random.Random(3)
    edited = [
        " ".join("word" if draw.random() < 0.05 else word for word in one["original"].split())
        for one in pairs[:100]
    ]

    def share(texts: list[str]) -> float:
        results = rule.examine_all([pair(text) for text in texts])
        return sum(bool(result.reasons) for result in results) / len(texts)

    assert share([one["original"] for one in pairs]) == 1
    assert share(edited) >= 0.98
    assert share([one["rephrased"] for one in pairs]) >= 0.90
    assert share(others) <= 0.005
