"""Conversion of a record with compared, ranked or labelled answers into a typed row."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any

import orjson

from training.data.readers.json_values import parse_json
from training.data.readers.records import abbreviate
from training.data.schema.column_values import (
    read_list,
    read_margin,
    read_side,
    read_system,
    read_tools_column,
)
from training.data.schema.labels import parse_label
from training.data.schema.messages import is_transcript, split_transcripts
from training.data.schema.prompts import (
    after_history,
    as_messages,
    prompt_with_context,
    split_conversations,
    split_last_answer,
    split_shared_prompt,
    with_system,
)
from training.data.schema.rankings import parse_rankings, ranked_pairs
from training.data.schema.rows import Message, PreferenceRow, RankingRow, Row, RowError, UnpairedRow


def read_preference(origin: str, values: Mapping[str, Any], columns: Mapping[str, str]) -> Row:
    """Return a preference of one answer over another.

    Args:
        origin: Id of the record.
        values: Values of a record.
        columns: Column of each part.

    Raises:
        RowError: The answers are the same, or one of them is empty.
    """
    chosen = read_side(values[columns["chosen"]], columns["chosen"], "chosen answer")
    rejected = read_side(values[columns["rejected"]], columns["rejected"], "rejected answer")
    if _stripped(chosen) == _stripped(rejected):
        raise RowError("chosen and rejected are the same. Remove the row")
    prompt: str | list[Message]
    if "prompt" in columns:
        prompt = prompt_with_context(values, columns)
        prompt, (chosen, rejected) = split_conversations(prompt, [chosen, rejected])
    elif isinstance(chosen, str) and isinstance(rejected, str):
        prompt = ""
        if is_transcript(chosen) and is_transcript(rejected):
            prompt, chosen, rejected = split_transcripts(chosen, rejected)
    else:
        prompt, chosen, rejected = split_shared_prompt(chosen, rejected)
    if not chosen or not rejected:
        side = "chosen" if not chosen else "rejected"
        raise RowError(f"the {side} answer is empty (column {columns[side]}). Remove the row")
    prompt = after_history(prompt, values, columns)
    if len({isinstance(side, str) for side in (prompt, chosen, rejected)}) > 1:
        prompt = as_messages(prompt, "user")
        chosen, rejected = as_messages(chosen, "assistant"), as_messages(rejected, "assistant")
    prompt, system = with_system(prompt, read_system(values, columns))
    margin, tools = read_margin(values, columns), read_tools_column(values, columns)
    return PreferenceRow(origin, prompt, chosen, rejected, margin, system, tools)


def read_ranking(origin: str, values: Mapping[str, Any], columns: Mapping[str, str]) -> Row:
    """Return the answers of a ranking; `read_ranks`, which knows the weights, makes the pairs.

    Args:
        origin: Id of the record.
        values: Values of a record.
        columns: Column of each part.

    Raises:
        RowError: The answers cannot be ranked.
    """
    column = columns["answers"]
    listed = read_list(values[column], column)
    if len(listed) < 2:
        raise RowError(f"{column} holds {len(listed)} answers; a ranking needs two or more")
    answers = [read_side(value, f"{column}[{n}]", "answer") for n, value in enumerate(listed)]
    for one, other in combinations(range(len(answers)), 2):
        if _stripped(answers[one]) == _stripped(answers[other]):
            raise RowError(f"{column}[{one}] and {column}[{other}] are the same. Remove one")
    prompt, sides = split_conversations(prompt_with_context(values, columns), answers)
    if not all(sides):
        raise RowError(f"an answer is empty (column {column}). Remove it with its rank")
    prompt = after_history(prompt, values, columns)
    if len({isinstance(side, str) for side in (prompt, *sides)}) > 1:
        prompt = as_messages(prompt, "user")
        sides = [as_messages(side, "assistant") for side in sides]
    prompt, system = with_system(prompt, read_system(values, columns))
    return RankingRow(origin, prompt, sides, [], system, read_tools_column(values, columns))


def read_ranks(
    row: RankingRow, value: Any, column: str, weights: Mapping[str, float]
) -> RankingRow:
    """Return a row of ranked answers with the pairs that its ranks make.

    Args:
        row: The row.
        value: Its ranks, as in the source.
        column: Column that holds them, for messages.
        weights: Weights of the dimensions; equal if empty.

    Raises:
        RowError: The ranks cannot be used.
    """
    if isinstance(value, str):
        with contextlib.suppress(orjson.JSONDecodeError):
            value = parse_json(value)
    rankings = parse_rankings(value, column, len(row.answers), weights)
    return replace(row, pairs=ranked_pairs(rankings, weights))


def read_unpaired(origin: str, values: Mapping[str, Any], columns: Mapping[str, str]) -> Row:
    """Return an answer with its label, good or bad.

    Args:
        origin: Id of the record.
        values: Values of a record.
        columns: Column of each part.

    Raises:
        RowError: The label is neither true nor false, or there is no answer.
    """
    label = parse_label(values[columns["label"]])
    if label is None:
        raise RowError(
            f"{columns['label']} is not true or false: {abbreviate(values[columns['label']])}"
        )
    answer = read_side(values[columns["completion"]], columns["completion"], "completion")
    prompt: str | list[Message]
    if "prompt" in columns:
        prompt, (answer,) = split_conversations(prompt_with_context(values, columns), [answer])
    else:
        prompt, answer = split_last_answer(answer, columns["completion"])
    prompt = after_history(prompt, values, columns)
    if isinstance(prompt, str) is not isinstance(answer, str):
        prompt, answer = as_messages(prompt, "user"), as_messages(answer, "assistant")
    prompt, system = with_system(prompt, read_system(values, columns))
    return UnpairedRow(origin, prompt, answer, label, system, read_tools_column(values, columns))


def _stripped(side: str | list[Message]) -> str | list[Message]:
    return side.strip() if isinstance(side, str) else side
