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
from collections import Counter
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
        named: Sentences with names, each of which is the slot of a name.
        commands: Commands to an assistant, with slots of persons and places.
        small_words: How often a word is written in small letters.
    """

    plain: tuple[str, ...]
    formal: tuple[str, ...]
    named: tuple[str, ...]
    commands: tuple[str, ...]
    small_words: Counter[str]


def read(data: Path, names: frozenset[str]) -> OrdinaryText:
    """Read the sentences of permissively licensed sets.

    Standard Ebooks (CC0), SNIPS (CC0), GSM8K (MIT), Banking77 (CC BY 4.0), MedQuAD (CC BY 4.0),
    OpenAssistant (Apache-2.0), German federal law and the Universal Declaration of Human Rights
    (public domain).

    A sentence is plain if capitals stand at its beginning only, and its first word is written in
    small letters elsewhere and is no name.

    Args:
        data: Folder of the sets.
        names: Given names.
    """
    sentences = [s for text in _plain_texts(data) for s in _sentences(text)]
    formal = [sentence for text in _formal_texts(data) for sentence in _sentences(text)]
    small = Counter(
        word for s in (*sentences, *formal) for word in _WORD.findall(s) if word.islower()
    )
    only_names = frozenset(name for name in names if small[name.lower()] < 2 and len(name) > 2)
    plain = [
        sentence
        for sentence in sentences
        if not _INNER_CAPITAL.search(sentence) and _is_word(_first_word(sentence), small, names)
    ]
    named = [_slots_of_names(sentence, only_names, small) for sentence in sentences]
    return OrdinaryText(
        plain=tuple(dict.fromkeys(plain)),
        formal=tuple(dict.fromkeys(formal)),
        named=tuple(dict.fromkeys(sentence for sentence in named if sentence)),
        commands=_commands(data, {name.lower() for name in only_names}),
        small_words=small,
    )


def _first_word(sentence: str) -> str:
    words = _WORD.findall(sentence)
    return words[0] if words else ""


def _is_word(word: str, small: Counter[str], names: frozenset[str]) -> bool:
    """Return whether a word that begins a sentence is an ordinary one."""
    return small[word.lower()] > (20 if word.title() in names else 0)


def _slots_of_names(sentence: str, only_names: frozenset[str], small: Counter[str]) -> str:
    """Return a sentence with slots in place of names, or nothing if there are other capitals."""
    found = 0
    pieces: list[str] = []
    position = 0
    for word in _WORD.finditer(sentence):
        text = word.group()
        if not text[0].isupper() or text == "I":
            continue
        if text in only_names:
            joined = pieces and sentence[position : word.start()] == " "
            pieces += [sentence[position : word.start()], "{last}" if joined else "{first}"]
            position = word.end()
            found += 1
        elif word.start() > 1 or small[text.lower()] == 0:
            return ""
    return "".join(pieces) + sentence[position:] if found else ""


_SLOT_OF_COMMAND = {"artist": "name", "city": "city", "country": "country"}


def _commands(data: Path, names: set[str]) -> tuple[str, ...]:
    """Return the commands of SNIPS (CC0) with slots; titles of songs and books stay as they are.

    Commands with names that SNIPS does not mark as such are left out.
    """
    path = data / "classification/snips_intents_slots.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    commands = []
    for row in rows:
        text = row["text"]
        if "{" in text or any(slot["label"] == "entity_name" for slot in row["slots"]):
            continue
        for slot in reversed(row["slots"]):
            name = _SLOT_OF_COMMAND.get(slot["label"])
            if name:
                text = f"{text[: slot['start']]}{{{name}}}{text[slot['end'] :]}"
        if not names.intersection(word.lower() for word in _WORD.findall(text)):
            commands.append(text)
    return tuple(dict.fromkeys(commands))


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
