"""Items of public sets as files, and the suite over them that both contestants evaluate."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet
import yaml
from transformers import AutoTokenizer

ITEMS_PER_TASK = 50
NEW_TOKENS = 48
# Left of the context for the longest choice or answer: an item that does not fit is cut by lm-eval
# and not scored by Temper, so that the two would not do the same work.
_ROOM = 112

_MMLU_LETTERS = (
    "{{question}}\nA. {{choices[0]}}\nB. {{choices[1]}}\nC. {{choices[2]}}\nD. {{choices[3]}}\n"
    "Answer:"
)


def write_fixtures(data: Path, model: Path, folder: Path) -> None:
    """Write the items and `suite.yaml` to `folder`.

    Args:
        data: Folder of the public sets.
        model: Model whose tokenizer and context decide which items fit.
        folder: The folder to create.
    """
    folder.mkdir(parents=True)
    tokenizer = AutoTokenizer.from_pretrained(model)
    context = int(json.loads((model / "config.json").read_text())["max_position_embeddings"])

    def fits(text: str) -> bool:
        return len(tokenizer(text)["input_ids"]) <= context - _ROOM

    sets = {
        name: [row for row in rows if name == "books" or fits(" ".join(_texts(row)))]
        for name, rows in _sets(data).items()
    }
    tasks = []
    for task in _tasks():
        # One file per task: lm-eval takes no part of a file.
        path = folder / f"{task['name']}.jsonl"
        rows = sets[task["data"]][:ITEMS_PER_TASK]
        assert len(rows) == ITEMS_PER_TASK, f"{len(rows)} items of {path.stem} fit"
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        path.write_text(lines, encoding="utf-8")
        tasks.append({**task, "data": path.name})
    document = {"suite": "eight-tasks", "tasks": tasks}
    (folder / "suite.yaml").write_text(yaml.safe_dump(document, sort_keys=False))


def _texts(row: Mapping[str, Any]) -> Iterable[str]:
    for value in row.values():
        yield from value if isinstance(value, list) else [str(value)]


def _sets(data: Path) -> dict[str, list[dict[str, Any]]]:
    mmlu = pyarrow.parquet.read_table(data / "eval/mmlu.parquet").to_pylist()
    with (data / "eval/truthfulqa.csv").open(newline="", encoding="utf-8") as file:
        truthful = [
            {
                "question": row["Question"],
                "choices": [row["Best Answer"], *row["Incorrect Answers"].split("; ")],
                "answer": 0,
            }
            for row in csv.DictReader(file)
        ]
    with gzip.open(data / "eval/bbh.jsonl.gz", "rt", encoding="utf-8") as file:
        bbh = [json.loads(line) for line in file]
    books = pyarrow.parquet.read_table(data / "pretrain/standard_ebooks.parquet").to_pylist()
    return {
        "mmlu": [
            {key: row[key] for key in ("question", "choices", "answer")}
            for row in mmlu
            if row["split"] == "validation"
        ],
        "truthfulqa": truthful,
        "gsm8k": _lines(data / "eval/gsm8k_test.jsonl"),
        "bbh": [{key: row[key] for key in ("input", "target")} for row in bbh],
        # Longer than the context, so that windows are measured, too.
        "books": [{"text": row["text"][:1500]} for row in books],
    }


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _tasks() -> list[dict[str, Any]]:
    choice = [
        _choice("mmlu_letters", "mmlu", _MMLU_LETTERS, ["A", "B", "C", "D"]),
        _choice("mmlu_texts", "mmlu", "Question: {{question}}\nAnswer:", "{{choices}}"),
        _choice("truthfulqa", "truthfulqa", "Q: {{question}}\nA:", "{{choices}}"),
    ]
    texts = [
        _task("books", "perplexity", "books", text="{{text}}"),
        _task("gsm8k_answers", "perplexity", "gsm8k", text="{{question}}\n{{answer}}"),
        _task("true_statements", "perplexity", "truthfulqa", text="{{question}} {{choices[0]}}"),
    ]
    answers = [
        _answer("gsm8k", "gsm8k", "Question: {{question}}\nAnswer:", "{{answer}}"),
        _answer("bbh", "bbh", "Q: {{input}}\nA:", "{{target}}"),
    ]
    return [*choice, *texts, *answers]


def _task(name: str, kind: str, data: str, **keys: Any) -> dict[str, Any]:
    return {"name": name, "kind": kind, "data": data, **keys}


def _choice(name: str, data: str, prompt: str, choices: Any) -> dict[str, Any]:
    target = "{{answer}}"
    return _task(name, "multiple_choice", data, prompt=prompt, choices=choices, target=target)


def _answer(name: str, data: str, prompt: str, target: str) -> dict[str, Any]:
    return _task(
        name, "generation", data, prompt=prompt, target=target, max_new_tokens=NEW_TOKENS,
        stop=["\n\n"], scores=[{"kind": "exact_match"}],
    )  # fmt: skip
