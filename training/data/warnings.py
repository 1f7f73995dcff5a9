"""What a person should hear of their data before a model learns from it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from training.data.report import DataReport, SourceReport

_GRAVE_SHARE = 0.2
"""Share of rows truncated, dropped or repeated from which on a person is warned."""


def of_rows(report: DataReport, *, replay_rounds: int) -> Iterator[str]:
    """Yield what went wrong with too many rows.

    Args:
        report: Of the data.
        replay_rounds: How often the same replayed row comes up at most.
    """
    kept = max(1, sum(source.rows_kept for source in report.sources))
    if report.truncated_share >= _GRAVE_SHARE:
        yield (
            f"{report.truncated_share:.0%} of the rows lost their end at data.max_length "
            f"{report.max_length}: the model does not see how those answers end"
        )
    if report.rows_dropped >= _GRAVE_SHARE * (kept + report.rows_dropped):
        yield (
            f"{report.rows_dropped:,} of {report.rows_read:,} rows were dropped because nothing in "
            f"them can be learned ({'; '.join(report.dropped_reasons)}): see dropped.jsonl"
        )
    if report.rows_skipped:
        yield f"{report.rows_skipped:,} rows could not be read and were skipped: see skipped.jsonl"
    if report.leaked:
        yield (
            f"{report.leaked:,} of the held-out rows are trained on too, word for word: their loss "
            "says what was remembered, not what was understood. Remove rows that come twice"
        )
    if report.repeated >= _GRAVE_SHARE * report.documents:
        yield f"{report.repeated:,} of the training rows repeat another one, word for word"
    if replay_rounds > 1:
        yield (
            f"the replayed text is shorter than the share asked for: each of its rows comes up to "
            f"{replay_rounds} times"
        )
    if report.terms and (warning := report.terms.warning()):
        yield warning


def one_sided(kinds: Sequence[str]) -> Iterator[str]:
    """Yield a word where answers are labelled all good or all bad, which are to be told apart.

    Args:
        kinds: What kinds of rows a table has, as JSON.
    """
    if len(kinds) == 1:
        side, other = ("good", "bad") if json.loads(kinds[0])["label"] else ("bad", "good")
        yield (
            f"every answer is labelled {side}, so there is nothing to tell it from: add {other} "
            f"ones, or train on good answers alone by sft"
        )


def learned_whole(sources: Sequence[SourceReport]) -> Iterator[str]:
    """Yield a word where fine-tuning learns plain text, and what beside it is not read.

    Args:
        sources: Of a method that learns answers.
    """
    for source in sources:
        if source.role == "train" and source.columns_unused:
            yield (
                f"{source.source}: rows of plain text are learned whole, with nothing as a prompt; "
                f"not read: {', '.join(source.columns_unused)}. Where one of them is the answer, "
                "name both: data.train.columns: {prompt: …, completion: …}"
            )
