"""Examples of good and bad rows, read, compared and divided into folds."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import xxhash

from preparation.rows import PreparedRow
from preparation.words import WORD
from training.data.readers.formats import read_file
from training.data.readers.records import BadRecord
from training.data.schema.rows import RowError
from training.errors import DataError

if TYPE_CHECKING:
    from preparation.steps.quality_classifier.section import QualityClassifierStep

LEAST_EXAMPLES = 50
MOST_EXAMPLES = 20_000
"""Most examples of a side that are used: those with the lowest hashes."""
FOLDS = 5
_BANDS, _BAND_HASHES, _SHINGLE_WORDS = 10, 4, 3
"""MinHash of word triples: texts of a Jaccard similarity of 0.7 share a band in 94 % of cases."""
_LISTED = 3
_ANSWERS = ("answer", "assistant")


class Example(NamedTuple):
    """Example of a side.

    Attributes:
        origin: File and line.
        text: Its text.
        key: Hash of the text, apart from white space.
        prompt: Hash of what it answers; empty without a prompt.
    """

    origin: str
    text: str
    key: str
    prompt: str


def text_of(row: PreparedRow, texts: Literal["all", "answers"]) -> str:
    """Return the text of a row that is judged; empty without one.

    Args:
        row: The row.
        texts: Which of its texts.
    """
    parts = row.content()
    if texts == "answers":
        parts = [part for part in parts if part.role in _ANSWERS and part.path[0] != "rejected"]
    return "\n".join(part.text for part in parts)


def key_of(text: str) -> str:
    """Return a hash of a text, apart from white space."""
    return xxhash.xxh3_128_hexdigest(" ".join(text.split()).encode())


def read_examples(section: QualityClassifierStep) -> tuple[list[Example], list[Example]]:
    """Return the good and the bad examples, each text once, in the order of their hashes.

    Raises:
        DataError: With everything that makes them unusable.
    """
    sides = [_read_side(files, section.texts) for files in (section.good, section.bad)]
    good, bad = sides
    problems = []
    for name, side in (("good", good), ("bad", bad)):
        if len(side) < LEAST_EXAMPLES:
            problems.append(
                f"{name}: {len(side)} different examples with text"
                + (" of an assistant" if section.texts == "answers" else "")
                + f"; at least {LEAST_EXAMPLES} are needed"
            )
    both = sorted(good.keys() & bad.keys())
    if both:
        listed = "; ".join(f"{good[key].origin} = {bad[key].origin}" for key in both[:_LISTED])
        more = f" and {len(both) - _LISTED} more" if len(both) > _LISTED else ""
        problems.append(f"{len(both)} examples are both good and bad: {listed}{more}")
    if problems:
        raise DataError("quality_classifier: " + ". ".join(problems) + ". Correct the examples")
    first, second = ([side[key] for key in sorted(side)[:MOST_EXAMPLES]] for side in (good, bad))
    return first, second


def _read_side(files: Sequence[str], texts: Literal["all", "answers"]) -> dict[str, Example]:
    examples = (
        Example(row.id, text, key_of(text), _prompt_of(row))
        for file in files
        for row in _rows(Path(file))
        if (text := text_of(row, texts)).strip()
    )
    first: dict[str, Example] = {}
    for example in examples:
        first.setdefault(example.key, example)
    return first


def _prompt_of(row: PreparedRow) -> str:
    """Return a hash of the prompt of a row, which several examples may answer."""
    asked = [part.text for part in row.content() if part.role in ("prompt", "user")]
    return key_of("\n".join(asked)) if asked else ""


def _rows(path: Path) -> Iterator[PreparedRow]:
    from preparation.config.source import PreparedSource
    from preparation.row_conversion import RowConverter

    converter = RowConverter(PreparedSource(source=str(path)), path.name)
    for record in read_file(path, path.name):
        if isinstance(record, BadRecord):
            raise DataError(f"quality_classifier: {record.origin}: {record.reason}")
        try:
            yield converter.convert(record)
        except RowError as error:
            raise DataError(f"quality_classifier: {record.origin}: {error}") from None


def folds(examples: Sequence[Example]) -> list[int]:
    """Return the fold of each example; answers to one prompt and near copies share a fold.

    Otherwise an example would be judged by a model that has learned from its sibling.
    """
    groups: dict[str, int] = {}
    parents = list(range(len(examples)))

    def root(index: int) -> int:
        while parents[index] != index:
            parents[index] = parents[parents[index]]
            index = parents[index]
        return index

    for index, example in enumerate(examples):
        for key in (example.prompt, *_bands(example.text)):
            if key:
                parents[root(index)] = root(groups.setdefault(key, index))
    members: dict[int, list[int]] = defaultdict(list)
    for index in range(len(examples)):
        members[root(index)].append(index)
    sizes = Counter(dict.fromkeys(range(FOLDS), 0))
    result = [0] * len(examples)
    for group in sorted(members.values(), key=lambda group: (-len(group), examples[group[0]].key)):
        fold = min(sizes, key=lambda fold: (sizes[fold], fold))
        sizes[fold] += len(group)
        for index in group:
            result[index] = fold
    return result


def _bands(text: str) -> Iterator[str]:
    """Yield keys that near copies of a text share."""
    import numpy as np

    words = [match[0].lower() for match in WORD.finditer(text)]
    shingles = {
        " ".join(words[start : start + _SHINGLE_WORDS])
        for start in range(max(1, len(words) - _SHINGLE_WORDS + 1))
    }
    hashes = np.fromiter(map(xxhash.xxh64_intdigest, shingles), np.uint64, len(shingles))
    numbers = np.arange(1, _BANDS * _BAND_HASHES + 1, dtype=np.uint64)
    # Odd factors make permutations of 64-bit numbers; the golden ratio spreads them.
    factors = numbers * np.uint64(0x9E3779B97F4A7C15) | np.uint64(1)
    mixed = (hashes[None, :] ^ (hashes[None, :] >> np.uint64(29))) * factors[:, None]
    least = (mixed ^ (mixed >> np.uint64(32))).min(axis=1).reshape(_BANDS, _BAND_HASHES)
    for number, band in enumerate(least):
        yield f"{number}:{band.tobytes().hex()}"
