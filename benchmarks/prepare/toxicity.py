"""Share of texts with a toxic word, in medical, legal, literary and harmful texts."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.prepare.quality import documents
from benchmarks.prepare.results_page import Figure, data_folder, publish
from preparation.steps.toxicity import toxic_spans


def sources(data: Path) -> dict[str, list[str]]:
    """Return texts by source."""
    medical = pq.read_table(data / "sft/medquad_qa.parquet", columns=["output"]).to_pylist()
    with gzip.open(data / "preference/hh_rlhf_harmless_pairs.jsonl.gz", "rt") as stream:
        pairs = [json.loads(line) for line in stream][:3000]
    asked = [pair["chosen"].split("\n\nAssistant:")[0] for pair in pairs]
    return {
        "MedQuAD answers": [row["output"] for row in medical],
        "books, code, answers, PEPs and Wikipedia": documents(data),
        "HH-RLHF harmless, opening questions of red-teamers": asked,
    }


def main() -> None:
    """Measure and publish."""
    figures = []
    for name, texts in sources(data_folder(__doc__)).items():
        share = sum(any(toxic_spans(text)) for text in texts) / len(texts)
        how = f"{name}, {len(texts):,} texts"
        figures.append(Figure("toxicity", "texts with a hit", "", f"{share:.4f}", how))
    publish("toxicity", figures, ())


if __name__ == "__main__":
    main()
