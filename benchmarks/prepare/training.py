"""Held-out loss of a model trained on raw files, and of the same model trained on prepared ones.

Raw files are books, medical questions and answers, code and German law, in which faults of the kind
that web dumps have were planted with a seed: edited copies, mis-decoded text, pages of navigation.
A twentieth of the clean English texts is held out before anything is planted. Both runs see the
same number of tokens.
"""

from __future__ import annotations

import json
import random
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq

from benchmarks.prepare.results_page import Figure, data_folder, publish
from benchmarks.training_runs import train
from preparation.build import build
from preparation.config.load import parse_preparation
from preparation.plan import plan

SEEDS = (1, 2, 3)
_LENGTH = 1_500
_STEPS = 200
RECIPE = [
    {"step": "normalise"},
    {"step": "language", "keep": ["en"], "action": "drop"},
    {"step": "secrets", "action": "replace"},
    {"step": "quality", "rules": ["gopher"], "action": "drop"},
    {"step": "duplicates", "action": "drop"},
]


def english_texts(data: Path) -> Iterator[str]:
    """Yield parts of books, and medical questions with their answers."""
    for section in pq.read_table(data / "pretrain/standard_ebooks.parquet").column("text"):
        text = section.as_py()
        for start in range(0, len(text) - _LENGTH, 6 * _LENGTH):
            yield text[start : start + _LENGTH]
    rows = pq.read_table(data / "sft/medquad_qa.parquet").to_pylist()
    for row in rows[::3]:
        if len(row["output"]) > 300:
            yield f"{row['instruction']}\n\n{row['output'][:_LENGTH]}"


def raw_texts(english: list[str], data: Path, seed: int) -> list[str]:
    """Return the texts with planted faults, German law and navigation, in random order.

    Args:
        english: Clean texts that are not held out.
        data: Folder of the data.
        seed: Seed of the draws.
    """
    generator = random.Random(seed)
    texts = []
    for text in english:
        if generator.random() < 0.1:
            text = text.encode().decode("cp1252", errors="ignore")
        texts.append(text)
        if generator.random() < 0.3:
            texts += [_edited(text, generator) for _ in range(4)]
        if generator.random() < 0.2:
            texts.append("\n".join(["Home | Login | Subscribe to our newsletter | Cart"] * 30))
    for law in pq.read_table(data / "domain/german_law.parquet").column("text"):
        texts += [law.as_py()[:_LENGTH]]
    generator.shuffle(texts)
    return texts


def _edited(text: str, generator: random.Random) -> str:
    words = text.split(" ")
    return " ".join("edited" if generator.random() < 0.01 else word for word in words)


def held_out_loss(train_on: str, held_out: Path, model: Path, folder: Path, seed: int) -> float:
    """Return the held-out loss after training.

    Args:
        train_on: Source of the training rows.
        held_out: File of the held-out rows.
        model: The model to start from.
        folder: Run folder.
        seed: Seed of the run.
    """
    document: dict[str, Any] = {
        "name": "compare",
        "model": {"source": str(model)},
        "data": {
            "train": train_on, "validation": {"source": str(held_out)}, "max_length": 128,
            "packing": True, "on_error": "skip",
        },
        "method": {"kind": "pretrain"},
        "train": {
            "max_steps": _STEPS, "global_batch_size": 8, "learning_rate": 1e-3, "warmup": "5%",
            "seed": seed,
        },
    }  # fmt: skip
    evaluation = train(document, folder)["evaluation"]
    return float(evaluation["after"]["validation"]["loss"])


def main() -> None:
    """Measure and publish."""
    data = data_folder(__doc__)
    model = data / "models/stories260K-hf"
    losses: dict[str, list[float]] = {"raw": [], "prepared": []}
    rows: list[tuple[int, int]] = []
    for seed in SEEDS:
        english = list(english_texts(data))
        random.Random(seed).shuffle(english)
        held_out, rest = english[: len(english) // 20], english[len(english) // 20 :]
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            _write(folder / "held_out.jsonl", held_out)
            _write(folder / "raw.jsonl", raw_texts(rest, data, seed))
            document = {
                "name": "clean",
                "prepare": {
                    "sources": str(folder / "raw.jsonl"), "steps": RECIPE,
                    "output": str(folder / "prepared"), "workers": 1,
                },
            }  # fmt: skip
            prepared = Path(build(plan(parse_preparation(document, "job")), lambda *_: None))
            report = json.loads((prepared / "report.json").read_text())
            rows.append((report["rows_read"], report["rows_written"]))
            sources = {"raw": str(folder / "raw.jsonl"), "prepared": str(prepared)}
            for kind, source in sources.items():
                run = folder / f"run-{kind}"
                loss = held_out_loss(source, folder / "held_out.jsonl", model, run, seed)
                losses[kind].append(loss)
                print(seed, kind, loss, flush=True)
    read, written = rows[0]
    how = f"{_STEPS} steps of 8 × 128 tokens, {len(SEEDS)} seeds, {read:,} rows to {written:,}"
    raw, prepared_loss = (statistics.mean(losses[kind]) for kind in ("raw", "prepared"))
    better = sum(p < r for r, p in zip(losses["raw"], losses["prepared"], strict=True))
    publish(
        "training",
        [
            Figure("all steps", "held-out loss after training on raw files", "", f"{raw:.4f}", how),
            Figure("all steps", "the same on prepared files", "< raw", f"{prepared_loss:.4f}", how),
            Figure("all steps", "seeds with a lower loss", str(len(SEEDS)), str(better), how),
        ],
        ("torch", "transformers"),
    )


def _write(path: Path, texts: list[str]) -> None:
    path.write_bytes(b"".join(orjson.dumps({"text": text}) + b"\n" for text in texts))


if __name__ == "__main__":
    main()
