"""Warnings about the data, shown before training."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from training.data.readers.sources import ResolvedSource
from training.data.report import DataReport, SourceReport
from training.data.schema.column_names import SPELLINGS, column_key

_WARNING_SHARE = 0.2
"""Share of truncated, dropped or repeated rows from which a warning is given."""


def row_warnings(report: DataReport, *, replay_rounds: int) -> Iterator[str]:
    """Yield warnings about truncated, dropped, skipped, leaked and repeated rows.

    Args:
        report: Report on the data.
        replay_rounds: Maximum repetitions of a replayed row.
    """
    kept = max(1, sum(source.rows_kept for source in report.sources))
    if report.truncated_share >= _WARNING_SHARE:
        yield (
            f"{report.truncated_share:.0%} of the rows lost their end at data.max_length "
            f"{report.max_length}: the model does not see how those answers end"
        )
    yield from _answer_warnings(report)
    if report.rows_dropped >= _WARNING_SHARE * (kept + report.rows_dropped):
        yield (
            f"{report.rows_dropped:,} of {report.rows_read:,} rows were dropped because nothing in "
            f"them can be learned ({'; '.join(report.dropped_reasons)}): see dropped.jsonl"
        )
    if report.rows_skipped:
        yield f"{report.rows_skipped:,} rows could not be read and were skipped: see skipped.jsonl"
    if report.leaked:
        yield (
            f"{report.leaked:,} of the held-out rows are trained on too, word for word: their loss "
            "measures memorization, not generalization. Remove duplicate rows"
        )
    if report.repeated >= _WARNING_SHARE * report.documents:
        yield f"{report.repeated:,} of the training rows repeat another one, word for word"
    if replay_rounds > 1:
        yield (
            f"the replayed text is shorter than the share asked for: each of its rows is repeated "
            f"up to {replay_rounds} times"
        )
    if report.terms and (warning := report.terms.warning()):
        yield warning


def _answer_warnings(report: DataReport) -> Iterator[str]:
    """Yield warnings about answers of long conversations that are not learned."""
    cut = sum(source.answers_cut for source in report.sources)
    dropped = sum(source.parts_dropped for source in report.sources)
    if cut:
        split = any(source.rows_split for source in report.sources)
        fix = "" if split else ", or set data.long_conversations: split to learn them in rows that"
        also = "" if split else " begin with a later turn"
        yield (
            f"{cut:,} answers of long conversations begin behind data.max_length "
            f"{report.max_length} and are not learned. Raise it{fix}{also}"
        )
    if dropped:
        yield (
            f"{dropped:,} parts of split conversations have nothing to learn within "
            f"data.max_length {report.max_length}: see dropped.jsonl"
        )


def markup_warnings(sources: Sequence[SourceReport]) -> Iterator[str]:
    """Yield a warning for each source whose texts hold the chat template's markup already.

    Args:
        sources: Sources of a run.
    """
    for source in sources:
        if source.rows_with_markup:
            yield (
                f"{source.source}: {source.rows_with_markup:,} rows hold markup of the chat "
                f"template already (first {source.markup_example}), and the template writes its "
                "own around it: theirs is learned as ordinary text. Remove it from the data (give "
                "messages of role and content), or, if each row is a text that is rendered "
                "completely, name it as text: data.train.columns: {text: YOUR_COLUMN}"
            )


def left_out_warnings(sources: Sequence[ResolvedSource]) -> Iterator[str]:
    """Yield a warning for each folder of which files belong to other splits.

    Args:
        sources: Training sources.
    """
    for source in sources:
        if source.left_out:
            shown = ", ".join(source.left_out[:4])
            more = len(source.left_out) - 4
            others = f" and {more} more" if more > 0 else ""
            yield (
                f"{source.source.source}: not trained on, because these files belong to other "
                f"splits than {source.source.split}: {shown}{others}. To train on them too, name "
                "them as sources of their own"
            )


def label_warnings(kinds: Sequence[str]) -> Iterator[str]:
    """Yield a warning if all answers have the same label, so there is nothing to distinguish.

    Args:
        kinds: Distinct metadata values of the rows, as JSON.
    """
    if len(kinds) == 1:
        side, other = ("good", "bad") if json.loads(kinds[0])["label"] else ("bad", "good")
        yield (
            f"every answer is labelled {side}, so there is nothing to compare it with: add "
            f"{other} ones, or train on good answers alone with sft"
        )


_METADATA = frozenset(
    {
        "id", "idx", "index", "uuid", "guid", "key", "hash", "source", "url", "link", "date",
        "time", "timestamp", "created", "created_at", "split", "subset", "dataset", "category",
        "topic", "domain", "tags", "language", "lang", "license", "author", "task", "model",
        "model_name", "meta", "metadata", "score", "rating", "length", "num_tokens", "num_turns",
        "token_count", "parallel_tool_calls", "__index_level_0__",
    }
)  # fmt: skip
"""Columns that describe a row and are no part of it; `data.json` lists them too."""
_CONVERSATIONS = frozenset({*SPELLINGS["messages"], *SPELLINGS["conversations"]})


def unread_column_warnings(sources: Sequence[SourceReport]) -> Iterator[str]:
    """Yield a warning for each source that has columns, or keys of messages, that are not read.

    Args:
        sources: Sources of a run.
    """
    for source in sources:
        unread = {
            name: rows
            for name, rows in source.columns_unused.items()
            if column_key(name) not in _METADATA and not column_key(name).endswith("_id")
        }
        if source.shapes == ("text",):
            # Texts have all kinds of metadata; a conversation is certainly meant for learning.
            unread = {name: unread[name] for name in unread if column_key(name) in _CONVERSATIONS}
        if unread and source.role != "replay":
            yield (
                f"{source.source}: not read, so nothing is learned from: {_counted(unread)}. If "
                "one of them belongs to the prompt or the answer, name its part "
                "(data.train.columns: {prompt: …, completion: …}) or join them before"
            )


def _counted(columns: Mapping[str, int]) -> str:
    """Return the names of columns, each with the number of rows in which it holds something."""
    return ", ".join(f"{name} ({rows:,} rows)" for name, rows in columns.items())


def plain_text_warnings(sources: Sequence[SourceReport]) -> Iterator[str]:
    """Yield a warning for each fine-tuning source of plain text that has unused columns.

    Args:
        sources: Sources of a method that trains on answers.
    """
    for source in sources:
        if source.role == "train" and source.columns_unused and source.shapes == ("text",):
            yield (
                f"{source.source}: rows of plain text are trained on in full, without a prompt; "
                f"not read: {_counted(source.columns_unused)}. If one of them is the answer, "
                "name both: data.train.columns: {prompt: …, completion: …}"
            )
