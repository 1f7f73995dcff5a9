"""What a teacher is worth: the same student with and without one.

`make bench-distillation`: a small student learns from plain text alone and beside a teacher, in
each way of asking it; and from a few answers alone and beside those that a teacher wrote.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet

from benchmarks.readme_tables import circumstances, table, write_section
from benchmarks.training_runs import DATA, ROOT, train

PAGE = ROOT / "docs/distillation.md"
STORIES = DATA / "models/stories260K-hf"
ANSWERS = DATA / "sft/medquad_qa.parquet"
STUDENT = {
    "architecture": "llama", "hidden_size": 48, "intermediate_size": 128, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
}  # fmt: skip
WAYS: dict[str, dict[str, Any]] = {
    "nobody": {"kind": "pretrain"},
    "forward KL, temperature 1": {"temperature": 1.0},
    "forward KL, temperature 1, nothing else": {"temperature": 1.0, "soft_weight": 1.0},
    "forward KL, temperature 2": {},
    "reverse KL, temperature 2": {"divergence": "reverse_kl"},
    "Jensen–Shannon, temperature 2": {"divergence": "js"},
    "forward KL, temperature 2, a teacher that has not read such text": {"teacher": str(STORIES)},
}
"""By name: the method's keys, beside those of `DISTILL`."""
DISTILL = {"kind": "distill", "temperature": 2.0, "soft_weight": 0.7}
REAL, ASKED, HELD = 60, 300, 60
"""Answers the student has, prompts the teacher answers for it, and rows held out."""


def on_text(model: dict[str, Any], method: dict[str, Any], steps: int) -> dict[str, Any]:
    """Return the job of a model that reads text; all see the same rows in the same order."""
    return {
        "name": "reader",
        "model": model,
        "data": {
            "train": str(DATA / "pretrain/tinyshakespeare.txt.gz"),
            "validation": {"split": "2%"},
            "max_length": 128,
            "packing": True,
        },
        "method": method,
        "train": {"max_steps": steps, "global_batch_size": 16, "learning_rate": 2e-3},
        "tracking": {"mlflow": False},
    }


def on_answers(
    model: Path, sources: list[dict[str, Any]], held: Path, steps: int
) -> dict[str, Any]:
    """Return the job of a model that learns answers."""
    return {
        "name": "answers",
        "model": {"source": str(model)},
        "data": {
            "train": sources,
            "validation": {"source": {"source": str(held)}},
            "max_length": 160,
        },
        "method": {"kind": "sft"},
        "train": {"max_steps": steps, "global_batch_size": 16, "learning_rate": 2e-3},
        "tracking": {"mlflow": False},
    }


def writing(teacher: Path, student: Path, prompts: Path) -> dict[str, Any]:
    """Return the job in which the teacher answers prompts."""
    return {
        "name": "writing",
        "model": {"source": str(student)},
        "data": {"train": str(prompts), "max_length": 160},
        "method": {
            "kind": "distill_text",
            "teacher": {
                "kind": "local", "source": str(teacher), "temperature": 1.0, "max_new_tokens": 96,
            },
            "keep_truncated": True,
        },
        "tracking": {"mlflow": False},
    }  # fmt: skip


def main() -> None:
    """Train every student, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=ROOT / "runs/.distillation")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--fresh", action="store_true")
    options = parser.parse_args()
    if options.fresh:
        shutil.rmtree(options.home, ignore_errors=True)
    home, steps = options.home, options.steps
    read_on = on_text({"source": str(STORIES)}, WAYS["nobody"], 2 * steps)
    teacher = train(read_on, home / "reader")
    nothing = {"source": "scratch", "tokenizer": str(STORIES), "scratch": STUDENT}
    beside = {**DISTILL, "teacher": str(home / "reader/model")}
    asked = {way: home / way.replace(" ", "-").replace(",", "") for way in WAYS}
    found = {
        way: train(on_text(nothing, keys if "kind" in keys else beside | keys, steps), asked[way])
        for way, keys in WAYS.items()
    }
    body = table(
        ["teacher asked by", "held-out loss", "to nobody"],
        [[way, f"{_after(one):.3f}", f"{_after(one) - _after(found['nobody']):+.3f}"]
         for way, one in found.items()],
    )  # fmt: skip
    student = asked["nobody"] / "model"
    text = _from_text(home, student, steps)
    write_section(
        "distillation",
        f"""{circumstances()} `make bench-distillation`.

A student of 0.1M parameters from random weights, {steps} steps of 16 rows of 128 tokens of
Shakespeare. Its teacher is TinyStories' smallest model (0.26M parameters) after {2 * steps} such
steps of its own, with a held-out loss of {_after(teacher):.3f}; {_before(teacher):.3f} before them.
Losses are of the labels alone, in nats per token, on the 2 % held out. Compared at a temperature of
1 the student gains; at 2 so short a run does not, and a teacher that has not read
such text costs much. One run each.

{body}

The first of these students then learns to answer medical questions from {REAL} answers, from
{ASKED} that a teacher wrote (TinyStories' model after {steps} steps on {ASKED} other answers), or
both. {HELD} real answers are held out; all take {steps} steps of 16 rows. A student without answers
of its own gains; one that has some gains nothing more from what so small a teacher writes.

{text}
""",
        PAGE,
    )


def _from_text(home: Path, student: Path, steps: int) -> str:
    """Return the table of students with and without a teacher's answers."""
    rows = _answers()
    real, own, prompts, held = (home / f"{name}.jsonl" for name in ("real", "own", "ask", "held"))
    parts = iter(rows)
    for path, number in ((held, HELD), (real, REAL), (own, ASKED), (prompts, ASKED)):
        some = [next(parts) for _ in range(number)]
        if path == prompts:
            some = [{"prompt": row["prompt"]} for row in some]
        path.write_text("".join(json.dumps(row) + "\n" for row in some))
    sources = {"real": {"source": str(real)}, "own": {"source": str(own)}}
    teacher = train(on_answers(STORIES, [sources["own"]], held, steps), home / "teacher")
    train(writing(home / "teacher/model", student, prompts), home / "written")
    written = {"source": str(home / "written/rows.jsonl")}
    alone = train(on_answers(student, [sources["real"]], held, steps), home / "alone")
    taught = train(on_answers(student, [written], held, steps), home / "taught")
    both = train(on_answers(student, [sources["real"], written], held, steps), home / "both")
    return table(
        ["learned from", "held-out loss"],
        [
            ["nothing (the student as it was)", f"{_before(alone):.3f}"],
            [f"{REAL} answers", f"{_after(alone):.3f}"],
            [f"{ASKED} answers by the teacher", f"{_after(taught):.3f}"],
            [f"{REAL} answers, and {ASKED} by the teacher", f"{_after(both):.3f}"],
            ["the teacher itself", f"{_after(teacher):.3f}"],
        ],
    )


def _answers() -> list[dict[str, str]]:
    """Return as many prompts and answers as are needed, of all topics."""
    rows = pyarrow.parquet.read_table(ANSWERS).to_pylist()
    found = random.Random(0).sample(rows, HELD + REAL + 2 * ASKED)
    return [{"prompt": row["instruction"], "completion": row["output"]} for row in found]


def _before(found: dict[str, Any]) -> float:
    return float(found["evaluation"]["before"]["validation"]["loss"])


def _after(found: dict[str, Any]) -> float:
    return float(found["evaluation"]["after"]["validation"]["loss"])


if __name__ == "__main__":
    main()
