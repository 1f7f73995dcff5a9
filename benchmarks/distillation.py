"""Compare the same student with and without a teacher: `make bench-distillation`.

A small student learns from plain text, without a teacher and with each distillation loss; and from
a few answers, without and with additional answers that a teacher wrote.
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
SETTINGS: dict[str, dict[str, Any]] = {
    "no teacher": {"kind": "pretrain"},
    "forward KL, temperature 1": {"temperature": 1.0},
    "forward KL, temperature 1, without the label loss": {"temperature": 1.0, "soft_weight": 1.0},
    "forward KL, temperature 2": {},
    "reverse KL, temperature 2": {"divergence": "reverse_kl"},
    "Jensen–Shannon, temperature 2": {"divergence": "js"},
    "forward KL, temperature 2, a teacher that was not trained on such text": {
        "teacher": str(STORIES)
    },
}
"""Keys of the method by name, in addition to those of `DISTILL`."""
DISTILL = {"kind": "distill", "temperature": 2.0, "soft_weight": 0.7}
REAL, ASKED, HELD = 60, 300, 60
"""Numbers of real answers, of prompts that the teacher answers, and of held-out rows."""


def text_job(model: dict[str, Any], method: dict[str, Any], steps: int) -> dict[str, Any]:
    """Return the job of a model that learns from text; all see the same rows in the same order.

    Args:
        model: The model section.
        method: The method section.
        steps: Optimizer steps.
    """
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


def answers_job(
    model: Path, sources: list[dict[str, Any]], held: Path, steps: int
) -> dict[str, Any]:
    """Return the job of a model that learns from answers.

    Args:
        model: The model to fine-tune.
        sources: The training data.
        held: The held-out rows.
        steps: Optimizer steps.
    """
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


def generation_job(teacher: Path, student: Path, prompts: Path) -> dict[str, Any]:
    """Return the job in which the teacher answers prompts.

    Args:
        teacher: The model that answers.
        student: The model whose job it is.
        prompts: The prompts.
    """
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
    """Train every student and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=ROOT / "runs/.distillation")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--fresh", action="store_true")
    options = parser.parse_args()
    if options.fresh:
        shutil.rmtree(options.home, ignore_errors=True)
    home, steps = options.home, options.steps
    teacher_job = text_job({"source": str(STORIES)}, SETTINGS["no teacher"], 2 * steps)
    teacher = train(teacher_job, home / "reader")
    student_model = {"source": "scratch", "tokenizer": str(STORIES), "scratch": STUDENT}
    distill = {**DISTILL, "teacher": str(home / "reader/model")}
    folders = {way: home / way.replace(" ", "-").replace(",", "") for way in SETTINGS}
    results = {
        way: train(
            text_job(student_model, keys if "kind" in keys else distill | keys, steps), folders[way]
        )
        for way, keys in SETTINGS.items()
    }
    body = table(
        ["loss", "held-out loss", "vs no teacher"],
        [[way, f"{_after(result):.3f}", f"{_after(result) - _after(results['no teacher']):+.3f}"]
         for way, result in results.items()],
    )  # fmt: skip
    student = folders["no teacher"] / "model"
    text = _from_text(home, student, steps)
    write_section(
        "distillation",
        f"""{circumstances()} `make bench-distillation`.

A student of 0.1M parameters with random weights is trained for {steps} steps of 16 rows of 128
tokens of Shakespeare. Its teacher is the smallest TinyStories model (0.26M parameters) after
{2 * steps} steps on the same text, with a held-out loss of {_after(teacher):.3f}, down from
{_before(teacher):.3f}. The losses are label losses in nats per token on the 2 % held out. At a
temperature of 1 the student gains; at 2 so short a run does not, and a teacher that was not trained
on such text makes the student much worse. One run each.

{body}

The student without a teacher then learns to answer medical questions from {REAL} real answers, from
{ASKED} answers that a teacher wrote (the TinyStories model after {steps} steps on {ASKED} other
answers), or from both. {HELD} real answers are held out; all runs take {steps} steps of 16 rows. A
student without real answers gains; one that has some gains nothing more from so small a teacher.

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
    teacher = train(answers_job(STORIES, [sources["own"]], held, steps), home / "teacher")
    train(generation_job(home / "teacher/model", student, prompts), home / "written")
    written = {"source": str(home / "written/rows.jsonl")}
    alone = train(answers_job(student, [sources["real"]], held, steps), home / "alone")
    taught = train(answers_job(student, [written], held, steps), home / "taught")
    both = train(answers_job(student, [sources["real"], written], held, steps), home / "both")
    return table(
        ["training data", "held-out loss"],
        [
            ["none (the student before)", f"{_before(alone):.3f}"],
            [f"{REAL} answers", f"{_after(alone):.3f}"],
            [f"{ASKED} answers by the teacher", f"{_after(taught):.3f}"],
            [f"{REAL} answers, and {ASKED} by the teacher", f"{_after(both):.3f}"],
            ["the teacher itself", f"{_after(teacher):.3f}"],
        ],
    )


def _answers() -> list[dict[str, str]]:
    """Return the prompts and answers to split, sampled from all topics."""
    rows = pyarrow.parquet.read_table(ANSWERS).to_pylist()
    sampled = random.Random(0).sample(rows, HELD + REAL + 2 * ASKED)
    return [{"prompt": row["instruction"], "completion": row["output"]} for row in sampled]


def _before(result: dict[str, Any]) -> float:
    return float(result["evaluation"]["before"]["validation"]["loss"])


def _after(result: dict[str, Any]) -> float:
    return float(result["evaluation"]["after"]["validation"]["loss"])


if __name__ == "__main__":
    main()
