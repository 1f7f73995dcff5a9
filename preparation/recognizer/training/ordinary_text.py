"""Ordinary sentences without personal data, into which names are written.

Templates are few, so that a network that learns from them alone takes any word that it does not
know for a name. Sentences of books, questions to a bank and medical pages show it what words do
without names, and what stands around a name: `he said` becomes `Anna said`.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

from preparation.recognizer.training.corpus import AnnotatedText, fill
from preparation.recognizer.training.values import Values

_SENTENCE = re.compile(r"[^.!?\n]{12,170}[.!?](?=\s|$)")
_INNER_CAPITAL = re.compile(r"(?<=[^.!?“\"'‘(]\s)[“\"'‘(]?(?!I\b|I['’])[A-Z]")
_UNWANTED = re.compile(r"@|https?:|www\.|\b(?:Mr|Mrs|Ms|Dr|St)\b|[{}_|]")
_PRONOUN = re.compile(r"\b(?:[Hh]e|[Ss]he|him|his|[Hh]is)\b(?!['’])")
_NOUN = re.compile(r"\b[Tt]he (?:man|woman|boy|girl|doctor|captain|patient|child|lady|gentleman)\b")
_WORD = re.compile(r"[^\W\d_]+")
_NAMES = ("{first}", "{first}", "{name}", "{name}", "{last}", "{prefix} {last}", "{prefix} {name}")


class OrdinaryText(NamedTuple):
    """Sentences by use.

    Attributes:
        plain: Sentences without a name, in which capitals begin sentences only.
        formal: Sentences with many capitals and numbers and no name: laws, medicine.
    """

    plain: tuple[str, ...]
    formal: tuple[str, ...]


def read(data: Path) -> OrdinaryText:
    """Read the sentences of permissively licensed sets.

    Standard Ebooks (CC0), GSM8K (MIT), Banking77 (CC BY 4.0), MedQuAD (CC BY 4.0), OpenAssistant
    (Apache-2.0), German federal law and the Universal Declaration of Human Rights (public domain).

    A sentence is plain if capitals stand at its beginning only, and its first word is written in
    small letters elsewhere.
    """
    plain = [
        sentence
        for text in _plain_texts(data)
        for sentence in _sentences(text)
        if not _INNER_CAPITAL.search(sentence)
    ]
    small = {word for sentence in plain for word in _WORD.findall(sentence) if word.islower()}
    plain = [sentence for sentence in plain if _first_word(sentence) in small]
    formal = [sentence for text in _formal_texts(data) for sentence in _sentences(text)]
    return OrdinaryText(tuple(dict.fromkeys(plain)), tuple(dict.fromkeys(formal)))


def _first_word(sentence: str) -> str:
    words = _WORD.findall(sentence)
    return words[0].lower() if words else ""


def _plain_texts(data: Path) -> Iterator[str]:
    books = pq.read_table(data / "pretrain/standard_ebooks.parquet", columns=["text"])
    yield from books.column("text").to_pylist()[::3]
    with gzip.open(data / "reasoning/gsm8k_train.jsonl.gz", "rt", encoding="utf-8") as lines:
        yield from (json.loads(line)["question"] for line in lines)
    with (data / "classification/banking77_train.csv").open(encoding="utf-8") as file:
        yield from (row["text"] for row in csv.DictReader(file))
    with gzip.open(data / "sft/oasst1_en_threads.jsonl.gz", "rt", encoding="utf-8") as lines:
        yield from (m["content"] for line in lines for m in json.loads(line)["messages"])


def _formal_texts(data: Path) -> Iterator[str]:
    answers = pq.read_table(data / "sft/medquad_qa.parquet", columns=["instruction", "output"])
    for row in answers.to_pylist()[::4]:
        yield row["instruction"]
        yield row["output"]
    with gzip.open(data / "multilingual/udhr.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    latin = ("fra", "ita", "por_BR", "pol", "dan", "fin", "est", "lav", "ind")
    yield from (row["text"] for row in rows if row["lang"] in latin)
    laws = pq.read_table(data / "domain/german_law.parquet", columns=["text"])
    yield from laws.column("text").to_pylist()


def _sentences(text: str) -> Iterator[str]:
    for match in _SENTENCE.finditer(text):
        sentence = " ".join(match.group().split())
        if len(sentence) > 15 and not _UNWANTED.search(sentence):
            yield sentence


def with_names(sentence: str, values: Values) -> AnnotatedText:
    """Write names in place of one or two pronouns, or around the sentence."""
    places = list(_PRONOUN.finditer(sentence)) + list(_NOUN.finditer(sentence))
    if places and values.chance(0.8):
        for place in sorted({values.one(places), values.one(places)}, key=_start, reverse=True):
            name = values.one(_NAMES)
            possessive = "'s" if place.group().lower() == "his" else ""
            sentence = sentence[: place.start()] + name + possessive + sentence[place.end() :]
        return fill(sentence, values)
    lower = sentence[0].lower() + sentence[1:]
    return fill(values.one(_AROUND).format(sentence=sentence, lower=lower), values)


def _start(match: re.Match[str]) -> int:
    return match.start()


_AROUND = (
    "{{first}}, {lower}",
    "{{first}}: {sentence}\n{{first}}: {sentence}",
    "{{name}}: {sentence}",
    "{sentence}\n\n{{name}}",
    "{sentence}\n{{name}}\n{{org}}",
    "Hi {{first}},\n\n{sentence}\n\n{{first}}",
    "Dear {{prefix}} {{last}},\n{sentence}",
    "{sentence} Ask {{name}}.",
    "{sentence} ({{name}})",
    "“{sentence}” — {{name}}",
    "{{name}} wrote: {sentence}",
    "{{name}} and {{first}} agree: {lower}",
    "{sentence} This was said by {{first}}, {{first}} and {{name}}.",
    "{sentence} Thanks, {{first}}",
    "{sentence} We live at {{address}}. {sentence}",
    "{sentence} {{address}}",
    "{{address}}\n\n{sentence}",
    "{sentence} Call {{phone}}.",
    "{{phone}}\n{sentence}",
    "{sentence} Mail {{email}} in {{city}}.",
    "{sentence} It happened in {{city}}, {{country}}.",
    "{sentence} It was {{org}}.",
    "{{org}}: {lower}",
)
