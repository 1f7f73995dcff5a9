from __future__ import annotations

import json
from typing import Any

import pytest

from training.config.data import Source
from training.config.method_base import RowKind
from training.data.readers.records import SourceRecord
from training.data.schema.messages import read_messages
from training.data.schema.pairs import row_sequences
from training.data.schema.rows import (
    CompletionRow,
    DialogueRow,
    PreferenceRow,
    PromptRow,
    Row,
    RowError,
    TextRow,
    UnpairedRow,
    as_prompt,
)
from training.data.schema.schema_reader import SchemaReader
from training.errors import DataError

USER = {"role": "user", "content": "hi"}
SAID = {"role": "assistant", "content": "hello"}
WORSE = {"role": "assistant", "content": "go away"}


def read(values: dict[str, Any], want: RowKind = "dialogue", **source: Any) -> Row:
    return SchemaReader(Source(source="x", **source), want).read(SourceRecord("x:1", values))


@pytest.mark.parametrize(
    ("values", "prompt", "completion"),
    [
        ({"prompt": "a", "completion": "b"}, "a", "b"),
        ({"prompt": "a", "expected completion": "b"}, "a", "b"),
        ({"Prompt": "a", " Expected-Completion": "b"}, "a", "b"),
        ({"question": "a", "answer": "b"}, "a", "b"),
        ({"Question": "a", "Best Answer": "b", "Source": "s"}, "a", "b"),
        ({"input": "a", "output": "b"}, "a", "b"),
        ({"input": "a", "target": "b"}, "a", "b"),
        ({"query": "a", "response": "b"}, "a", "b"),
        ({"instruction": "a", "response": "b"}, "a", "b"),
        ({"instruction": "a", "input": "", "output": "b"}, "a", "b"),
        ({"instruction": "a", "input": "x", "output": "b"}, "a\n\nx", "b"),
        ({"instruction": "a", "context": "x", "response": "b"}, "a\n\nx", "b"),
        ({"context": "x", "question": "a", "answer": "b"}, "x\n\na", "b"),
        ({"question": "a", "answer": 18}, "a", "18"),
        ({"instruction": "a", "input": None, "output": "b", "text": "a b"}, "a", "b"),
    ],
)
def test_prompt_and_completion_in_many_spellings(
    values: dict[str, Any], prompt: str, completion: str
) -> None:
    assert read(values) == CompletionRow("x:1", prompt, completion)


def test_a_system_column_is_not_lost() -> None:
    row = read({"system_prompt": "be kind", "question": "a", "response": "b"})
    assert row == CompletionRow("x:1", "a", "b", system="be kind")


def test_a_row_unlike_the_others_is_its_own_fault() -> None:
    reader = SchemaReader(Source(source="x"), "dialogue")
    reader.read(SourceRecord("x:1", {"prompt": "a", "completion": "b"}))
    with pytest.raises(RowError, match=r"^the columns fit no known shape.*foo"):
        reader.read(SourceRecord("x:2", {"foo": 1}))


def test_text() -> None:
    assert read({"text": "a", "meta": 1}, "text") == TextRow("x:1", "a")
    assert read({"content": "a"}, "dialogue") == TextRow("x:1", "a")


def test_messages_and_sharegpt_give_the_same_rows() -> None:
    expected = DialogueRow("x:1", [USER, SAID])
    assert read({"messages": [USER, SAID]}) == expected
    turns = [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]
    assert read({"conversations": turns}) == expected
    parts = [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]
    assert read({"messages": [USER, {"role": "assistant", "content": parts}]}) == expected
    # As Parquet gives them back: every field there is, most of them empty.
    columnar = [{**m, "from": None, "value": None, "tool_calls": None} for m in (USER, SAID)]
    assert read({"messages": columnar}) == expected
    system = read({"conversations": turns, "system": "be kind"})
    assert isinstance(system, DialogueRow)
    assert system.messages[0] == {"role": "system", "content": "be kind"}


def test_tool_calls_in_both_forms() -> None:
    call = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Berlin"}}}
    flat = {"name": "weather", "arguments": '{"city": "Berlin"}'}
    wanted = {"role": "assistant", "content": "", "tool_calls": [call]}
    row = read({"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [flat]}]})
    assert isinstance(row, DialogueRow) and row.messages[1] == wanted
    turns = [
        {"from": "human", "value": "hi"},
        {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "Berlin"}}'},
        {"from": "observation", "value": "rain"},
        {"from": "gpt", "value": "It rains."},
    ]
    row = read({"conversations": turns, "tools": '[{"name": "weather", "parameters": {}}]'})
    assert isinstance(row, DialogueRow)
    assert row.messages[1] == wanted and row.messages[2] == {"role": "tool", "content": "rain"}
    assert row.tools == [{"type": "function", "function": {"name": "weather", "parameters": {}}}]


def test_tool_arguments_that_are_not_json_stay_text() -> None:
    flat = {"name": "weather", "arguments": '{"city": ""Berlin""}'}
    row = read({"messages": [USER, {"role": "assistant", "content": "", "tool_calls": [flat]}]})
    assert isinstance(row, DialogueRow)
    assert row.messages[1]["tool_calls"][0]["function"]["arguments"] == flat["arguments"]


def test_a_prompt_of_messages_makes_only_its_answer_count() -> None:
    row = read({"prompt": [USER, SAID, USER], "completion": "hello"})
    assert row == DialogueRow("x:1", [USER, SAID, USER, SAID], None, answers_from=3)


LEAD = {"role": "system", "content": "be kind"}
PARTED = ([USER], [SAID], [WORSE])
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {}}}
HUMAN = "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"prompt": "p", "chosen": "a", "rejected": "b"}, ("p", "a", "b")),
        ({"chosen": HUMAN + " good", "rejected": HUMAN + " bad"}, (HUMAN, " good", " bad")),
        ({"prompt": [USER], "chosen": [SAID], "rejected": [WORSE]}, ([USER], [SAID], [WORSE])),
        ({"chosen": [USER, SAID], "rejected": [USER, WORSE]}, ([USER], [SAID], [WORSE])),
        ({"prompt": "hi", "chosen": [SAID], "rejected": [WORSE]}, ([USER], [SAID], [WORSE])),
        ({"prompt": [USER], "chosen": "hello", "rejected": "go away"}, ([USER], [SAID], [WORSE])),
        # Whole conversations beside their prompt (UltraFeedback), and with a system message.
        ({"prompt": "hi", "chosen": [USER, SAID], "rejected": [USER, WORSE]}, PARTED),
        ({"prompt": [USER], "chosen": [USER, SAID], "rejected": [USER, WORSE]}, PARTED),
        (
            {"prompt": "hi", "chosen": [LEAD, USER, SAID], "rejected": [LEAD, USER, WORSE]},
            ([LEAD, USER], [SAID], [WORSE]),
        ),
        # Messages in a table are JSON.
        (
            {
                "prompt": json.dumps([USER]),
                "chosen": json.dumps([USER, SAID]),
                "rejected": json.dumps([USER, WORSE]),
            },
            PARTED,
        ),
        ({"prompt": "p", "chosen": '[{"a": 1}]', "rejected": "b"}, ("p", '[{"a": 1}]', "b")),
        (
            {"instruction": "sum", "input": "1 1", "chosen": "2", "rejected": "3"},
            ("sum\n\n1 1", "2", "3"),
        ),
        ({"prompt": "p", "chosen": "a", "rejected": "b", "margin": "1.5"}, ("p", "a", "b", 1.5)),
        ({"prompt": "p", "chosen": "a", "rejected": "b", "margin": ""}, ("p", "a", "b")),
        (
            {"system": "s", "prompt": "p", "chosen": "a", "rejected": "b"},
            ("p", "a", "b", None, "s"),
        ),
        (
            {"system": "be kind", "prompt": [USER], "chosen": [SAID], "rejected": [WORSE]},
            ([LEAD, USER], [SAID], [WORSE]),
        ),
        (
            {"prompt": [USER], "chosen": [SAID], "rejected": [WORSE], "tools": [TOOL]},
            ([USER], [SAID], [WORSE], None, "", [TOOL]),
        ),
    ],
)
def test_preferences(values: dict[str, Any], expected: tuple[Any, Any, Any]) -> None:
    assert read(values, "preference") == PreferenceRow("x:1", *expected)


ASKED = {"from": "human", "value": "hi"}
ANSWERED = {"from": "gpt", "value": "hello"}
NO = {"role": "assistant", "content": "no"}


@pytest.mark.parametrize(
    "values",
    [
        # As other trainers have them: a conversation, and two continuations.
        {"conversations": [ASKED], "chosen": ANSWERED, "rejected": {"from": "gpt", "value": "no"}},
        {"messages": [USER], "chosen": SAID, "rejected": [NO]},
        # Pairs beside the chosen conversation on its own.
        {"prompt": "hi", "messages": [USER, SAID], "chosen": [USER, SAID], "rejected": [USER, NO]},
        {"messages": [USER, SAID], "chosen": [USER, SAID], "rejected": [USER, NO]},
    ],
)
def test_preferences_next_to_conversations(values: dict[str, Any]) -> None:
    row = read(values, "preference")
    assert isinstance(row, PreferenceRow)
    assert row.prompt == [USER] and row.chosen == [SAID]
    assert row.rejected == [NO]


def test_a_conversation_with_a_label_is_judged_by_its_last_answer() -> None:
    for values in ({"messages": [USER, SAID]}, {"conversations": [ASKED, ANSWERED]}):
        row = read({**values, "label": False}, "unpaired")
        assert row == UnpairedRow("x:1", [USER], [SAID], False)
    with pytest.raises(RowError, match="does not end with an answer"):
        read({"messages": [USER], "label": True}, "unpaired")


def test_a_prompt_keeps_its_input_and_its_system() -> None:
    row = read({"instruction": "Shorten", "input": "A long one", "output": "One"}, "prompt")
    assert isinstance(row, PromptRow)
    assert (row.prompt, row.reference) == ("Shorten\n\nA long one", "One")
    row = read({"system": "Be short.", "prompt": [USER]}, "prompt")
    assert isinstance(row, PromptRow)
    assert row.prompt == [{"role": "system", "content": "Be short."}, USER]
    assert as_prompt(read({"system": "Be short.", "prompt": "hi"}, "prompt")).prompt == (
        "Be short.\n\nhi"
    )


def test_what_leads_a_pair_leads_both_its_sides() -> None:
    row = read({"system": "s", "prompt": "p", "chosen": "a", "rejected": "b"}, "preference")
    assert row_sequences(row, templated=False) == [
        CompletionRow("x:1", "p\n", answer, "s") for answer in "ab"
    ]
    messages = {"prompt": [USER], "chosen": [SAID], "rejected": [WORSE], "tools": [TOOL]}
    row = read(messages, "preference")
    assert row_sequences(row, templated=True) == [
        DialogueRow("x:1", [USER, answer], [TOOL], 1) for answer in (SAID, WORSE)
    ]
    assert as_prompt(read({**messages, "system": "be kind"}, "preference")).prompt == [LEAD, USER]


def test_answers_that_differ_by_spaces_are_the_same() -> None:
    with pytest.raises(RowError, match="chosen and rejected are the same"):
        read({"prompt": "p", "chosen": "a", "rejected": "a "}, "preference")


@pytest.mark.parametrize(
    ("label", "good"),
    [(1, True), (0, False), ("1", True), (1.0, True), ("👎", False), ("Like", True)],
)
def test_labels_of_good_and_bad(label: Any, good: bool) -> None:
    """Where a method learns from them; elsewhere a number is a class."""
    values = {"prompt": [USER], "completion": [USER, SAID], "label": label}
    assert read(values, "unpaired") == UnpairedRow("x:1", [USER], [SAID], good)


@pytest.mark.parametrize("label", [None, 0.7, 2, "perhaps"])
def test_labels_that_are_neither_true_nor_false(label: Any) -> None:
    with pytest.raises(RowError, match="label is not true or false"):
        read({"prompt": "p", "completion": "c", "label": label}, "unpaired")


def test_unpaired_and_prompts() -> None:
    row = read({"prompt": [USER], "completion": "hello", "label": True}, "unpaired")
    assert row == UnpairedRow("x:1", [USER], [SAID], label=True)
    row = read({"prompt": "p", "completion": "c", "label": "False"}, "unpaired")
    assert row == UnpairedRow("x:1", "p", "c", label=False)
    row = read({"question": "1+1?", "answer": "#### 2"}, "prompt")
    assert isinstance(row, PromptRow) and (row.prompt, row.reference) == ("1+1?", "#### 2")
    assert read({"prompt": "p"}, "prompt") == PromptRow("x:1", "p", None, {})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"prompt": "p", "chosen": "a", "rejected": "b"}, "completion: chosen"),
        ({"prompt": "p", "completion": "c", "label": True}, "bad ones too"),
        ({"prompt": "p"}, "no answers to train on"),
        ({"a": "x", "b": "y"}, r"(?s)Columns found: a, b\. Known shapes:.*data\.train\.columns"),
    ],
)
def test_what_sft_must_not_learn_from_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(values)


def test_columns_name_the_parts() -> None:
    row = read({"a": "x", "b": "y"}, columns={"prompt": "a", "completion": "b"})
    assert row == CompletionRow("x:1", "x", "y")
    pair = {"prompt": "p", "chosen": "a", "rejected": "b"}
    chosen = {"prompt": "prompt", "completion": "chosen"}
    assert read(pair, columns=chosen) == CompletionRow("x:1", "p", "a")
    with pytest.raises(DataError, match="'z', which is not among the columns found: a, b"):
        read({"a": "x", "b": "y"}, columns={"prompt": "z"})
    with pytest.raises(DataError, match="'nonsense' is not a part"):
        read({"a": "x"}, columns={"nonsense": "a"})


def test_a_named_shape_must_fit() -> None:
    assert read({"text": "t", "prompt": "p", "completion": "c"}, shape="text") == TextRow(
        "x:1", "t"
    )
    with pytest.raises(DataError, match="shape messages needs a column for messages"):
        read({"text": "t"}, shape="messages")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"prompt": "p", "completion": " "}, "the completion is empty"),
        ({"prompt": "p", "completion": None}, "is not text"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "role wizard"),
        ({"messages": [USER, {"role": "assistant", "content": ""}]}, "answers are empty"),
        ({"messages": [USER, {"role": "assistant", "content": 3}]}, "not text"),
        ({"messages": [USER, SAID], "tools": "not json"}, "tools is not JSON"),
    ],
)
def test_unusable_rows_are_reported_with_a_reason(values: dict[str, Any], message: str) -> None:
    with pytest.raises(RowError, match=message):
        read(values)


@pytest.mark.parametrize("key", ["weight", "loss_weight", "train"])
def test_answers_marked_as_context_are_not_learned(key: str) -> None:
    row = read({"messages": [USER, {**SAID, key: 0}, USER, {**SAID, key: 1}]})
    assert isinstance(row, DialogueRow)
    assert [m.get("learned", True) for m in row.messages if m["role"] == "assistant"] == [
        False,
        True,
    ]


def test_an_answer_left_empty_is_not_learned() -> None:
    row = read({"messages": [USER, {**SAID, "content": ""}, USER, SAID]})
    assert isinstance(row, DialogueRow)
    assert row.messages[1]["learned"] is False and "learned" not in row.messages[3]


def test_a_call_written_the_old_way_is_a_call() -> None:
    call = {"name": "f", "arguments": '{"a": 1}'}
    row = read({"messages": [USER, {"role": "assistant", "content": None, "function_call": call}]})
    assert isinstance(row, DialogueRow)
    assert row.messages[1]["tool_calls"][0]["function"] == {"name": "f", "arguments": {"a": 1}}


@pytest.mark.parametrize("history", [[["q", "a"]], '[["q", "a"]]'])
def test_history_before_a_prompt_is_kept(history: Any) -> None:
    row = read({"instruction": "b", "output": "c", "system": "s", "history": history})
    assert isinstance(row, DialogueRow)
    assert [m["content"] for m in row.messages] == ["s", "q", "a", "b", "c"]
    assert read({"prompt": "b", "completion": "c", "history": []}) == CompletionRow("x:1", "b", "c")


def test_parts_of_text_are_joined_however_they_are_spelled() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "value": "b"}]
    row = read({"messages": [{"role": "user", "content": parts}, SAID]})
    assert isinstance(row, DialogueRow) and row.messages[0]["content"] == "ab"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"messages": [USER, SAID], "images": ["a.jpg"]}, "images is not text"),
        ({"messages": [USER, {**SAID, "weight": 0.5}]}, "fractions are not supported"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}, SAID]}, "image_url"),
        ({"conversation": [{"human": "a", "assistant": "b"}]}, "its keys are human, assistant"),
        ({"prompt": "a", "completion": "b", "history": [["q"]]}, "not a question and its answer"),
    ],
)
def test_content_that_is_not_text_is_reported(values: dict[str, Any], message: str) -> None:
    with pytest.raises(RowError, match=message):
        read(values)


def test_an_empty_list_of_images_is_accepted() -> None:
    assert isinstance(read({"messages": [USER, SAID], "images": []}), DialogueRow)


def test_labelled_conversations_are_not_all_learned() -> None:
    with pytest.raises(DataError, match="labelled good or bad"):
        read({"messages": [USER, SAID], "label": False})
    kept = read({"messages": [USER, SAID], "label": True}, shape="messages")
    assert isinstance(kept, DialogueRow)


def test_a_conversation_next_to_a_pair_is_its_prompt() -> None:
    values = {"conversations": [USER], "chosen": SAID, "rejected": WORSE}
    row = read(values, "preference")
    assert isinstance(row, PreferenceRow)
    assert (row.prompt, row.chosen, row.rejected) == ([USER], [SAID], [WORSE])


REQUEST = {
    "input": {"messages": [LEAD, USER], "tools": [], "parallel_tool_calls": True},
    "preferred_output": [SAID],
    "non_preferred_output": [WORSE],
}
TOOL = {"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}


def test_preferences_of_a_fine_tuning_service_are_those_of_plain_columns() -> None:
    plain = {"prompt": [LEAD, USER], "chosen": [SAID], "rejected": [WORSE]}
    assert read(REQUEST, "preference") == read(plain, "preference")
    with_tools = {**REQUEST, "input": {**REQUEST["input"], "tools": [TOOL]}}
    assert read(with_tools, "preference") == read({**plain, "tools": [TOOL]}, "preference")


def test_settings_of_a_request_that_nothing_reads_are_noted() -> None:
    reader = SchemaReader(Source(source="x"), "preference")
    reader.read(SourceRecord("x:1", {**REQUEST, "note": "n"}))
    assert reader.unused == {"parallel_tool_calls", "note"}


def test_the_hint_of_a_refused_preference_set_works_for_requests_too() -> None:
    with pytest.raises(DataError, match=r"\{prompt: prompt, completion: chosen\}"):
        read(REQUEST)
    row = read(REQUEST, columns={"prompt": "prompt", "completion": "chosen"})
    assert isinstance(row, DialogueRow) and row.messages == [LEAD, USER, SAID]


def test_thinking_parts_of_a_message_are_its_reasoning() -> None:
    parts = [
        {"type": "thinking", "thinking": "six by seven", "signature": "EqQB"},
        {"type": "text", "text": "42"},
    ]
    [message] = read_messages([{"role": "assistant", "content": parts}], "messages")
    assert message["content"] == "42"
    assert message["reasoning_content"] == "six by seven"
    twice = {"role": "assistant", "content": parts, "reasoning": "another"}
    with pytest.raises(RowError, match="different reasoning"):
        read_messages([twice], "messages")
