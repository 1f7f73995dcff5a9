"""Long conversations split at turns, compared with `apply_chat_template` of each part."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planning.dataset_stats import read_dataset_stats
from planning.model_shape import ModelShape
from tests.unit.data.data_factories import byte_level, make_job, write_jsonl
from training.data import templates
from training.data.prepare import Prepared
from training.data.schema.rows import DialogueRow, Message
from training.data.storage import stream
from training.data.tokenization.encoder import Encoder
from training.data.tokenization.row_tokenizer import RowTokenizer
from training.data.tokenization.token_rows import IGNORE, Dropped, SplitRow
from training.errors import JobError

Prepare = Callable[..., Prepared]

TOKENIZER = byte_level(
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SYSTEM: Message = {"role": "system", "content": "Be kind."}
SAID = "the cat sat on a mat and the dog ran to the river "


def splitter(size: int) -> RowTokenizer:
    encoder = Encoder(TOKENIZER)
    template = templates.resolve(None, TOKENIZER, encoder)
    return RowTokenizer(encoder, template, "dialogue", "assistant", size, splits_conversations=True)


def ids_of(messages: list[Message]) -> list[int]:
    """The ids by Transformers, up to the end of the last answer."""
    ids: list[int] = TOKENIZER.apply_chat_template(messages, return_dict=False)
    end = TOKENIZER.eos_token_id
    return ids[: len(ids) - ids[::-1].index(end)]


def turn(number: int, words: int) -> list[Message]:
    return [
        {"role": "user", "content": f"question {number}? " + SAID[: words * 3]},
        {"role": "assistant", "content": f"answer {number}: " + SAID[: words * 3]},
    ]


def joined(turns: list[list[Message]]) -> list[Message]:
    return list(itertools.chain.from_iterable(turns))


@settings(max_examples=20, deadline=None)
@given(words=st.lists(st.integers(0, 16), min_size=2, max_size=9), system=st.booleans())
def test_each_answer_is_learned_once_in_the_longest_parts_of_whole_turns(
    words: list[int], system: bool
) -> None:
    turns = [turn(number, count) for number, count in enumerate(words)]
    opening = [SYSTEM] if system else []
    size = max(len(ids_of(opening + one)) for one in turns)
    (outcome,) = splitter(size)([DialogueRow("x:1", opening + joined(turns))])
    if len(ids_of(opening + joined(turns))) <= size:
        assert isinstance(outcome, list) and len(outcome) == 1
        return
    assert isinstance(outcome, SplitRow) and not outcome.dropped
    left = list(turns)
    for number, row in enumerate(outcome.rows, start=1):
        held = [left.pop(0)]
        while left and len(ids_of(opening + joined([*held, left[0]]))) <= size:
            held.append(left.pop(0))
        assert row.input_ids.tolist() == ids_of(opening + joined(held))
        said = [int(token) for token in row.labels if token != IGNORE]
        expected = [f"{one[1]['content']}<|im_end|>" for one in held]
        assert TOKENIZER.decode(said) == "".join(expected)
        assert row.id == f"x:1#{number}" and not row.truncated
    assert not left


def test_a_turn_keeps_its_calls_and_results_and_each_part_its_tools() -> None:
    tools = [{"type": "function", "function": {"name": "weather", "description": "Weather."}}]
    encoder = Encoder(TOKENIZER)
    call = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Berlin"}}}
    asked: list[Message] = [
        {"role": "user", "content": "What is the weather?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "rain"},
        {"role": "assistant", "content": "It rains."},
    ]
    template = templates.resolve("chatml", TOKENIZER, encoder)
    whole = RowTokenizer(encoder, template, "dialogue", "assistant", 4096)
    ((row,),) = whole([DialogueRow("x:1", [SYSTEM, *asked], tools)])  # type: ignore[misc]
    size = len(row.input_ids)
    rows = RowTokenizer(encoder, template, "dialogue", "assistant", size, splits_conversations=True)
    (outcome,) = rows([DialogueRow("x:1", [SYSTEM, *asked, *asked, *asked], tools)])
    assert isinstance(outcome, SplitRow)
    assert [part.input_ids.tolist() for part in outcome.rows] == [row.input_ids.tolist()] * 3


def test_a_turn_that_is_too_long_is_cut_or_dropped_and_counted(
    prepared: Prepare, tmp_path: Path
) -> None:
    long_answer = [turn(1, 1)[0], {"role": "assistant", "content": SAID * 5}]
    long_question = [{"role": "user", "content": SAID * 5}, turn(2, 1)[1]]
    rows = [
        {"messages": [SYSTEM, *turn(0, 4), *long_answer, *long_question, *turn(3, 4)]},
        {"messages": [SYSTEM, *turn(4, 4)]},
    ]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    data = {"max_length": 64, "long_conversations": "split"}
    report = prepared(path, TOKENIZER, shuffle=False, **data).report
    (source,) = report.sources
    assert (source.rows_read, source.rows_kept, source.rows_dropped) == (2, 2, 0)
    assert (source.rows_split, source.parts, source.parts_dropped) == (1, 3, 1)
    assert source.rows_truncated == 1
    assert report.documents == report.rows_train == 4
    dropped = [json.loads(line) for line in (tmp_path / "run/dropped.jsonl").open()]
    assert [row["id"] for row in dropped] == ["a.jsonl:1#3"]
    summary = "\n".join(report.summary())
    assert "1 long conversations split at turns into 3 rows, 1 parts dropped" in summary
    assert "1 parts of split conversations have nothing to learn" in summary


def test_answers_that_truncation_loses_are_counted(prepared: Prepare, tmp_path: Path) -> None:
    rows = [{"messages": [SYSTEM, *turn(0, 4), *turn(1, 4), *turn(2, 4)]}] * 2
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    size = len(ids_of([SYSTEM, *turn(0, 4)]))
    report = prepared(path, TOKENIZER, max_length=size).report
    assert report.sources[0].answers_cut == 4
    assert any("set data.long_conversations: split" in line for line in report.warnings)
    split = prepared(path, TOKENIZER, max_length=size, long_conversations="split").report
    assert split.sources[0].answers_cut == 0
    assert split.rows_train == 6 and not any("not learned" in line for line in split.warnings)


def test_context_is_not_learned_and_parts_of_context_alone_are_listed() -> None:
    messages = [SYSTEM, *turn(0, 4), *turn(1, 4), *turn(2, 4)]
    size = len(ids_of([SYSTEM, *turn(0, 4)]))
    (outcome,) = splitter(size)([DialogueRow("x:1", messages, answers_from=5)])
    assert isinstance(outcome, SplitRow)
    assert [row.id for row in outcome.rows] == ["x:1#2"]
    assert [part.id for part in outcome.dropped] == ["x:1#1"]
    (none,) = splitter(16)([DialogueRow("x:1", messages)])
    assert isinstance(none, Dropped) and none.required_length > 16


def test_parts_of_one_conversation_stay_on_one_side(prepared: Prepare, tmp_path: Path) -> None:
    rows = [{"messages": [*turn(n, 4), *turn(100 + n, 4), *turn(200 + n, 4)]} for n in range(12)]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    result = prepared(
        path, TOKENIZER, max_length=48, long_conversations="split", validation={"split": "25%"}
    )
    sides = []
    for table in (result.train, result.validation):
        assert table is not None
        ids = [table[index]["ids"][0] for index in range(len(table))]  # type: ignore[arg-type]
        sides.append({id_.partition("#")[0] for id_ in ids})
    assert not sides[0] & sides[1] and len(sides[1]) == 3


def test_a_stream_splits_too(
    prepared: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "WINDOW", 2)
    path = write_jsonl(tmp_path / "a.jsonl", [{"messages": [*turn(0, 4), *turn(1, 4)]}])
    data: dict[str, Any] = {"max_length": 48, "long_conversations": "split", "streaming": True}
    run = prepared(path, TOKENIZER, shuffle=False, **data)
    table = run.train
    assert run.report.sources[0].parts == 4
    assert "2 long conversations split at turns into 4 rows" in run.report.summary()[1]
    assert [table[index]["ids"] for index in range(2)] == [["a.jsonl:1#1"], ["a.jsonl:1#2"]]


def test_a_stream_counts_the_answers_that_truncation_loses_by_source(
    prepared: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "WINDOW", 4)
    long = [{"messages": [*turn(0, 4), *turn(1, 4), *turn(2, 4)]}] * 2
    sources = [
        {"source": str(write_jsonl(tmp_path / "a.jsonl", [{"messages": turn(0, 1)}] * 2))},
        {"source": str(write_jsonl(tmp_path / "b.jsonl", long))},
    ]
    report = prepared(sources, TOKENIZER, max_length=48, streaming=True).report
    assert [source.answers_cut for source in report.sources] == [0, 4]
    assert [source.rows_read for source in report.sources] == [2, 2]
    assert report.truncated_share == 0.5
    assert any(line.startswith("4 answers of long conversations") for line in report.warnings)


def test_the_plan_counts_the_parts(tmp_path: Path) -> None:
    messages = [SYSTEM, *(message for n in range(20) for message in turn(n, 16))]
    path = write_jsonl(tmp_path / "a.jsonl", [{"messages": messages}] * 5)
    shape = ModelShape("llama", 64, 64, 2, 2, 2, 32, 300, tied=True, context=128, linears={})
    rows = {
        key: read_dataset_stats(make_job(path, max_length=128, long_conversations=key), shape).train
        for key in ("truncate", "split")
    }
    assert rows["truncate"] == 5 and rows["split"] > 15


@pytest.mark.parametrize(
    ("job", "reason"),
    [
        ({"loss_on": "completion"}, "learns the last answer"),
        ({"loss_on": "all"}, "the system message again"),
        ({"method": "pretrain"}, "cut into rows without a loss"),
        ({"method": "dpo"}, "one prompt, which stays whole"),
    ],
)
def test_splitting_is_refused_where_it_would_not_learn_each_answer_once(
    job: dict[str, str], reason: str
) -> None:
    with pytest.raises(JobError, match=reason):
        make_job("x.jsonl", long_conversations="split", **job)  # type: ignore[arg-type]
