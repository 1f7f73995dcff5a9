"""Agreement of the quality rules with datatrove's own tokenizer, and their errors on answers.

The tokenizer needs spaCy, which Temper itself does not install: `pip install spacy`.

The word splitter was chosen on the texts with an even index; the figures are those of the others.
The thresholds of `answer_is_truncated` were chosen on the first half of the answers.
"""

from __future__ import annotations

import gzip
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from datatrove.data import Document
from datatrove.pipeline.filters.c4_filters import C4QualityFilter
from datatrove.pipeline.filters.fineweb_quality_filter import FineWebQualityFilter
from datatrove.pipeline.filters.gopher_quality_filter import GopherQualityFilter
from datatrove.pipeline.filters.gopher_repetition_filter import GopherRepetitionFilter

from benchmarks.prepare.results_page import Figure, data_folder, publish
from preparation.steps.quality.answer_rules import is_truncated
from preparation.steps.quality.c4_quality import C4Filter
from preparation.steps.quality.gopher_quality import QualityFilter
from preparation.steps.quality.gopher_repetition import RepetitionFilter
from preparation.steps.quality.word_splitter import WordSplitter

_CHARACTERS = 1600


def documents(data: Path) -> list[str]:
    """Return texts of at most 1,600 characters: books, code, medical answers, PEPs, Wikipedia."""
    books = [row["text"] for row in pq.read_table(data / "pretrain/standard_ebooks.parquet",
                                                  columns=["text"]).to_pylist()]  # fmt: skip
    answers = pq.read_table(data / "sft/medquad_qa.parquet", columns=["output"]).to_pylist()
    with gzip.open(data / "pretrain/wikitext2_valid.txt.gz", "rt") as stream:
        wikipedia = stream.read()
    texts = [chunk for text in books[:100] for chunk in _chunks(text, 3)]
    texts += [text[:_CHARACTERS] for text in _rows(data / "domain/code_python.jsonl.gz")[:200]]
    texts += [row["output"] for row in random.Random(0).sample(answers, 300)]
    texts += [
        chunk for text in _rows(data / "domain/python_peps.jsonl.gz")[:150]
        for chunk in _chunks(text, 2)
    ]  # fmt: skip
    return [text for text in [*texts, *_chunks(wikipedia, 200)] if text.strip()]


def long_answers(data: Path) -> list[str]:
    """Return answers of people and of models with at least 40 words."""
    medical = pq.read_table(data / "sft/medquad_qa.parquet", columns=["output"]).to_pylist()
    with gzip.open(data / "sft/oasst1_en_threads.jsonl.gz", "rt") as stream:
        threads = [json.loads(line)["messages"] for line in stream]
    chats = [turn["content"] for thread in threads for turn in thread if turn["role"] != "user"]
    answers = [row["output"] for row in medical] + list(dict.fromkeys(chats))
    answers = [answer for answer in answers if len(answer.split()) >= 40]
    random.Random(1).shuffle(answers)
    return answers


def decisions(make: Callable[[Any], Any], splitter: object, texts: Sequence[str]) -> list[Any]:
    """Return the decision of a filter for each text.

    Args:
        make: Constructor of the filter.
        splitter: Its word splitter, or the name of datatrove's language.
        texts: Texts.
    """
    built = make(splitter)
    return [built.filter(Document(text=text, id="")) for text in texts]


FILTERS: Mapping[str, Callable[[Any], Any]] = {
    "Gopher quality": lambda language: GopherQualityFilter(language=language),
    "Gopher repetition": lambda language: GopherRepetitionFilter(language=language),
    "C4": lambda language: C4QualityFilter(filter_no_terminal_punct=False, language=language),
    "FineWeb": lambda language: FineWebQualityFilter(language=language),
}


def _rows(path: Path) -> list[str]:
    with gzip.open(path, "rt") as stream:
        return [json.loads(line)["text"] for line in stream]


def _chunks(text: str, count: int) -> list[str]:
    starts = range(0, len(text) - _CHARACTERS, _CHARACTERS)
    return [text[start : start + _CHARACTERS] for start in starts][:count]


def _agreement(texts: Sequence[str]) -> list[Figure]:
    figures = []
    how = f"{len(texts)} texts of five sources, held-out half, against datatrove's English words"
    for name, make in FILTERS.items():
        reference = decisions(make, "eng", texts)
        start = time.process_time()
        ours = decisions(make, WordSplitter(), texts)
        speed = len(texts) / (time.process_time() - start)
        same = sum(
            (one is True) == (other is True) for one, other in zip(reference, ours, strict=True)
        )
        figures += [
            Figure("quality", f"{name}: same decisions", "", f"{same / len(texts):.3f}", how),
            Figure("quality", f"{name}: documents/s", "", f"{speed:,.0f}", how),
        ]
    fast = {
        "Gopher quality": QualityFilter,
        "Gopher repetition": RepetitionFilter,
        "C4": C4Filter,
    }
    for name, filter_class in fast.items():
        start = time.process_time()
        decisions(filter_class, WordSplitter(), texts)
        speed = f"{len(texts) / (time.process_time() - start):,.0f}"
        figures.append(Figure("quality", f"{name} of this project: documents/s", "", speed, how))
    return figures


def truncation(answers: Sequence[str]) -> tuple[float, float]:
    """Return the shares of cut answers that are found, and of complete ones reported as cut."""
    rng = random.Random(2)
    cut = [answer[: rng.randrange(len(answer) // 2, len(answer) - 1)] for answer in answers]
    found = sum(is_truncated(text, len(text.split())) for text in cut)
    wrong = sum(is_truncated(text, len(text.split())) for text in answers)
    return found / len(cut), wrong / len(answers)


def main() -> None:
    """Measure and publish."""
    data = data_folder(__doc__)
    answers = long_answers(data)
    found, wrong = truncation(answers[len(answers) // 2 :])
    how = f"{len(answers) // 2:,} answers of MedQuAD and OASST1, cut at a random character"
    figures = _agreement(documents(data)[1::2])
    figures += [
        Figure("quality", "cut answers that are found", "", f"{found:.3f}", how),
        Figure("quality", "complete answers reported as cut", "", f"{wrong:.3f}", how),
    ]
    publish("quality", figures, ("datatrove",))


if __name__ == "__main__":
    main()
