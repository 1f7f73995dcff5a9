"""Items of an evaluation that stand in the training data of the evaluated run.

An item is contaminated if a training row covers at least half of its words by runs of eight words
(the rule of Tülu 3, Lambert et al. 2024, https://arxiv.org/abs/2411.15124), in lower case and
without punctuation. A question of up to forty words is contaminated too if a sentence or paragraph
of a row is an edited copy of it. A question of fewer than eight words is contaminated only if the
row holds its answer too. Rephrased items are not found.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from evaluation.items import Item
from training.config.data import Source
from training.config.job import Pipeline
from training.console import say
from training.data.contamination.answers import holds_answer
from training.data.contamination.edits import PASSAGE_LENGTHS, EditIndex
from training.data.contamination.passages import passages
from training.data.readers.records import BadRecord
from training.data.readers.sources import locate
from training.errors import TemperError
from training.run_folder import RunFolder

NGRAM_WORDS = 8
_MIN_SHARE = 0.5
_COMMON_ITEMS = 10
"""A run of words in more items than these is a phrase of the task, not of an item."""
_WORD = re.compile(
    # Characters of scripts that write no spaces are words by themselves.
    r"[\u4e00-\u9fff\u3040-\u30ff\u0e00-\u0eff\u1780-\u17ff\u1000-\u109f]"
    r"|[^\W\u4e00-\u9fff\u3040-\u30ff\u0e00-\u0eff\u1780-\u17ff\u1000-\u109f]+"
)


class SearchedItem(NamedTuple):
    """Text of an item, as it is searched for.

    Attributes:
        question: Its question or text, without instructions and examples.
        answer: A correct answer; empty if it has none.
    """

    question: str
    answer: str = ""


def searched_item(item: Item) -> SearchedItem:
    """Return the text of an item without the words that its template adds to every item."""
    columns = [str(value) for value in item.fields.values() if isinstance(value, str | int)]
    shown = [text for text in columns if text.strip() and text in item.question]
    question = "\n".join(sorted(shown, key=item.question.index)) or item.question
    return SearchedItem(question, item.targets[0] if item.targets else "")


@dataclass(frozen=True)
class ContaminationReport:
    """Outcome of the search.

    Attributes:
        contaminated: The item of each number: the row that holds it, such as `train.jsonl:17`.
        rows: Number of rows that were searched.
        unread: Training sources that could not be read, with the reason.
    """

    contaminated: Mapping[int, str]
    rows: int
    unread: tuple[str, ...] = ()

    def flags(self, items: int) -> list[bool]:
        """Return True for each contaminated item."""
        return [number in self.contaminated for number in range(items)]


def search_training_data(model: str, items: Sequence[SearchedItem]) -> ContaminationReport | None:
    """Return which items stand in the training data of a run.

    Args:
        model: Run folder, or its model; anything else has no training data that is known.
        items: The items.

    Returns:
        None if it is no run, or none of its training data can be read.
    """
    run = run_folder_of(Path(model))
    if run is None:
        return None
    index = ItemIndex(items)
    rows, read, unread = 0, 0, []
    for source in training_sources(run):
        try:
            for cursor_and_record in locate(source).records():
                record = cursor_and_record[1]
                if not isinstance(record, BadRecord):
                    rows += 1
                    index.search(record.origin, list(texts_of(record.values)))
            read += 1
        except (TemperError, OSError) as error:
            unread.append(f"{source.source}: {str(error).splitlines()[0]}")
    return ContaminationReport(index.found, rows, tuple(unread)) if read else None


def find_contaminated(
    model: str, items: Mapping[str, Sequence[Item]]
) -> dict[str, list[bool]] | None:
    """Return which items of each task stand in the training data of a model, and say how many.

    Args:
        model: The evaluated model, as the user wrote it.
        items: Items of each task.

    Returns:
        None if the training data are not known.
    """
    found = search_training_data(
        model, [searched_item(item) for task in items.values() for item in task]
    )
    if found is None:
        return None
    for source in found.unread:
        say(f"not searched for items of the suite, because it cannot be read: {source}")
    say(
        f"searched {found.rows:,} training rows for items of the suite: {len(found.contaminated)} "
        f"of {sum(map(len, items.values()))} are in them"
    )
    flags = iter(found.flags(sum(map(len, items.values()))))
    return {name: [next(flags) for _ in task] for name, task in items.items()}


def run_folder_of(path: Path) -> Path | None:
    """Return the run folder that a path is, or is a part of; None if there is none."""
    for folder in (path, path.parent):
        ran = (folder / "manifest.json").is_file() or (folder / "stages").is_dir()
        if ran and (folder / "job.yaml").is_file():
            return folder
    return None


def training_sources(run: Path) -> list[Source]:
    """Return the training sources of a run, for a stage those of the earlier stages too.

    Empty if the job cannot be read by this version.
    """
    folders = [run]
    if run.parent.name == "stages":
        folders = sorted(folder for folder in run.parent.iterdir() if folder.name <= run.name)
    sources: list[Source] = []
    for folder in folders:
        try:
            job = RunFolder(folder).job
        except (TemperError, OSError):
            continue
        stages = job.stages if isinstance(job, Pipeline) else (job,)
        sources += [source for stage in stages for source in stage.data.train]
    return sources


def texts_of(value: Any) -> Iterator[str]:
    """Yield the texts in a row, however it is nested."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from texts_of(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from texts_of(inner)


def normalized_words(text: str) -> list[str]:
    """Return the words of a text, in lower case and without punctuation."""
    return _WORD.findall(text.lower())


class ItemIndex:
    """Runs of words of items, in which the texts of rows are looked up.

    Attributes:
        found: Origin of the first row that holds an item, by the number of the item.

    Args:
        items: The items.
    """

    def __init__(self, items: Sequence[SearchedItem]):
        self.found: dict[int, str] = {}
        self._short: dict[tuple[str, ...], list[tuple[int, tuple[str, ...]]]] = defaultdict(list)
        self._lengths: dict[int, int] = {}
        places: dict[tuple[str, ...], list[tuple[int, int]]] = defaultdict(list)
        self._answers = [normalized_words(item.answer) for item in items]
        self._edits = EditIndex([normalized_words(item.question) for item in items])
        for number, item in enumerate(items):
            words = normalized_words(item.question)
            self._lengths[number] = len(words)
            if 0 < len(words) < NGRAM_WORDS:
                answer = tuple(normalized_words(item.answer))
                self._short[tuple(words)].append((number, answer))
            for start in range(len(words) - NGRAM_WORDS + 1):
                places[tuple(words[start : start + NGRAM_WORDS])].append((number, start))
        self._places = {
            ngram: found
            for ngram, found in places.items()
            if len({number for number, _ in found}) <= _COMMON_ITEMS
        }

    def search(self, origin: str, texts: Sequence[str]) -> None:
        """Look up the texts of one row.

        Args:
            origin: Position of the row, for the report.
            texts: Its texts.
        """
        covered: dict[int, set[int]] = defaultdict(set)
        all_words = [normalized_words(text) for text in texts]
        for words in all_words:
            for start in range(len(words) - NGRAM_WORDS + 1):
                for number, at in self._places.get(tuple(words[start : start + NGRAM_WORDS]), ()):
                    covered[number].update(range(at, at + NGRAM_WORDS))
            for number, answer in self._short.get(tuple(words), ()):
                if not answer or any(_contains(other, answer) for other in all_words):
                    self.found.setdefault(number, origin)
        for number, positions in covered.items():
            if len(positions) >= _MIN_SHARE * self._lengths[number]:
                self.found.setdefault(number, origin)
        self._search_edited(origin, texts, all_words)

    def _search_edited(
        self, origin: str, texts: Sequence[str], all_words: Sequence[Sequence[str]]
    ) -> None:
        for text in texts:
            for passage in passages(text, normalized_words, PASSAGE_LENGTHS):
                for match in self._edits.find(passage):
                    alone = match.sure and self._lengths[match.item] >= NGRAM_WORDS
                    if alone or self._holds_answer(match.item, all_words, sure=match.sure):
                        self.found.setdefault(match.item, origin)

    def _holds_answer(self, item: int, texts: Sequence[Sequence[str]], *, sure: bool) -> bool:
        """Return True if a row holds the answer of an item; a short one if its question is sure."""
        answer = self._answers[item]
        if sure and any(_contains(text, answer) for text in texts):
            return True
        return holds_answer(texts, answer)


def _contains(words: Sequence[str], part: Sequence[str]) -> bool:
    size = len(part)
    return any(
        tuple(words[start : start + size]) == tuple(part) for start in range(len(words) - size + 1)
    )
