"""Statistics of a tokenizer on the data: how long rows become, and which words it splits."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import nlargest
from pathlib import Path
from typing import Any, Literal, Self

from preparation.rows import PreparedRow
from preparation.steps.step import FactTable, Measurement, StepSection
from preparation.tokenizer_file import tokenizer_file, tokenizer_problems
from preparation.words import WORD
from training.config.types import PositiveInt
from validation.problem import Problem

WORDS_OF_A_UNIT = 5000
"""Split words that a unit passes on: those with the most tokens beyond one per occurrence."""
_LISTED_WORDS = 50
_MIN_OCCURRENCES = 5
_BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")


class TokenizerStatisticsStep(StepSection):
    """Measures how a tokenizer divides the rows into tokens; changes nothing."""

    step: Literal["tokenizer_statistics"]
    tokenizer: str
    """Local folder of a model or tokenizer, its `tokenizer.json`, or the Hub id of a model in the
    local cache."""
    max_length: PositiveInt | None = None
    """Number of tokens above which a row is counted as too long."""

    def problems(self, key: str) -> Iterable[Problem]:
        """Yield a tokenizer that does not exist."""
        yield from tokenizer_problems(self.tokenizer, f"{key}.tokenizer")

    def files(self) -> Mapping[str, Path]:
        """Return the tokenizer, whose content the result depends on."""
        return {self.tokenizer: tokenizer_file(self.tokenizer)}

    def with_files(self, names: Mapping[str, str]) -> Self:
        """Return the section with its tokenizer named otherwise."""
        return self.model_copy(update={"tokenizer": names[self.tokenizer]})

    def facts(self, totals: Mapping[str, Any], hide_values: bool) -> Iterable[FactTable]:
        """Return a table by source, and one of the words that are split most."""
        yield _by_source(totals.get("sources", {}), self.max_length)
        if not hide_values:
            yield _split_words(totals.get("words", {}))

    def build(self) -> Measurement:
        """Return the measurement, with the tokenizer loaded."""
        return TokenizerStatistics(tokenizer_file(self.tokenizer), self.max_length)


class TokenizerStatistics(Measurement):
    """Counts of the tokens, bytes and words of rows.

    Args:
        file: The `tokenizer.json`.
        max_length: Number of tokens above which a row is counted as too long.
    """

    def __init__(self, file: Path, max_length: int | None):
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(file))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._bytes, self._unknown = special_ids(self._tokenizer)
        self._max_length = max_length
        self._sources: dict[str, Counter[str]] = defaultdict(Counter)
        self._words: Counter[str] = Counter()
        self._tokens_of_words: Counter[str] = Counter()

    def add(self, row: PreparedRow) -> None:
        """Count a row: all its texts, without the tokens of a chat template."""
        counts = self._sources[row.source]
        length = 0
        for part in row.content():
            encoding = self._tokenizer.encode(part.text, add_special_tokens=False)
            ids = encoding.ids
            length += len(ids)
            spans = [match.span() for match in WORD.finditer(part.text)]
            counts["bytes"] += len(part.text.encode())
            counts["words"] += len(spans)
            counts["byte_tokens"] += sum(map(self._bytes.__contains__, ids))
            counts["unknown_tokens"] += sum(map(self._unknown.__contains__, ids))
            for (start, end), tokens in zip(spans, _overlaps(spans, encoding.offsets), strict=True):
                if tokens > 1:
                    word = part.text[start:end]
                    self._words[word] += 1
                    self._tokens_of_words[word] += tokens
        counts["rows"] += 1
        counts["tokens"] += length
        if self._max_length is not None:
            counts["rows_over_max_length"] += length > self._max_length

    def to_json(self) -> dict[str, Any]:
        """Return the counts by source, and those of the words that are split most."""
        most = nlargest(
            WORDS_OF_A_UNIT,
            self._words,
            key=lambda word: (self._tokens_of_words[word] - self._words[word], word),
        )
        words = {w: {"count": self._words[w], "tokens": self._tokens_of_words[w]} for w in most}
        return {"sources": {k: dict(v) for k, v in self._sources.items()}, "words": words}


def special_ids(tokenizer: Any) -> tuple[frozenset[int], frozenset[int]]:
    """Return the tokens that are bytes of a divided character, and the unknown token.

    Args:
        tokenizer: A tokenizer of the package `tokenizers`.
    """
    settings = json.loads(tokenizer.to_str())
    vocabulary = tokenizer.get_vocab(with_added_tokens=False)
    if '"ByteLevel"' in json.dumps([settings["pre_tokenizer"], settings["decoder"]]):
        of_character = _byte_of_character()
        divided = {id_ for token, id_ in vocabulary.items() if _is_divided(token, of_character)}
    else:
        divided = {id_ for token, id_ in vocabulary.items() if _BYTE_TOKEN.fullmatch(token)}
    model = settings["model"]
    unknown = model.get("unk_id")  # of Unigram; other models name the token
    if unknown is None and model.get("unk_token") is not None:
        unknown = tokenizer.token_to_id(model["unk_token"])
    return frozenset(divided), frozenset(() if unknown is None else (unknown,))


def _byte_of_character() -> dict[str, int]:
    """Return the byte that each character of a byte-level vocabulary stands for.

    Printable characters of Latin-1 stand for their own byte, the others follow from U+0100 on, as
    in GPT-2 (https://github.com/openai/gpt-2/blob/master/src/encoder.py).
    """
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in own]
    return {chr(byte): byte for byte in own} | {
        chr(0x100 + number): byte for number, byte in enumerate(others)
    }


def _is_divided(token: str, of_character: Mapping[str, int]) -> bool:
    """Return True if the bytes of a token are not whole characters."""
    try:
        bytes(of_character[character] for character in token).decode()
    except UnicodeDecodeError:
        return True
    except KeyError:  # a special token, which is text
        return False
    return False


def _overlaps(
    spans: Sequence[tuple[int, int]], offsets: Sequence[tuple[int, int]]
) -> Iterator[int]:
    """Yield the number of tokens that overlap each word."""
    first = 0
    for start, end in spans:
        while first < len(offsets) and offsets[first][1] <= start:
            first += 1
        after = first
        while after < len(offsets) and offsets[after][0] < end:
            after += 1
        yield after - first


def _by_source(sources: Mapping[str, Mapping[str, int]], max_length: int | None) -> FactTable:
    total: Counter[str] = Counter()
    for counts in sources.values():
        total.update(counts)
    named = [*sorted(sources.items()), *([("all", total)] if len(sources) > 1 else [])]
    columns = ["source", "rows", "tokens", "bytes per token", "tokens per word"]
    columns += ["share of byte tokens", "share of unknown tokens"]
    rows = []
    for name, counts in named:
        tokens = counts["tokens"]
        shares = (counts["byte_tokens"] / max(1, tokens), counts["unknown_tokens"] / max(1, tokens))
        per_token, per_word = counts["bytes"] / max(1, tokens), tokens / max(1, counts["words"])
        row = (name, counts["rows"], tokens, per_token, per_word, *shares)
        rows.append(row if max_length is None else (*row, counts["rows_over_max_length"]))
    if max_length is not None:
        columns.append(f"rows over {max_length:,} tokens")
    return FactTable("Tokens by source", tuple(columns), tuple(rows))


def _split_words(words: Mapping[str, Mapping[str, int]]) -> FactTable:
    """Return the words with the most tokens beyond one; rare words and codes are left out."""
    beyond = {
        word: counts["tokens"] - counts["count"]
        for word, counts in words.items()
        if counts["count"] >= _MIN_OCCURRENCES
        and not any(character.isdigit() or character == "_" for character in word)
    }
    ordered = sorted(beyond, key=lambda word: (-beyond[word], word))[:_LISTED_WORDS]
    rows = tuple(
        (word, words[word]["count"], words[word]["tokens"] / words[word]["count"], beyond[word])
        for word in ordered
    )
    columns = ("word", "occurrences", "tokens per occurrence", "tokens beyond one")
    return FactTable("Words that are split most", columns, rows)
