"""Everything that a row holds is rendered, or the row is refused with the part that is missing."""

from __future__ import annotations

import importlib.resources
import re
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tests.unit.data.data_factories import byte_level
from tests.unit.data.test_templates import CALL, CHATML_PLAIN, learned, one, tokenizer_of
from training.data.readers.records import BadRecord, SourceRecord
from training.data.schema.messages import read_messages
from training.data.schema.row_readers import ROW_READERS
from training.data.schema.rows import DialogueRow, Message
from training.data.tokenization.row_tokenizer import RowTokenizer
from training.data.tokenization.token_rows import IGNORE
from training.errors import DataError

TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
QUESTION = {"role": "user", "content": "What is the weather in Berlin?"}
USES_TOOLS: list[Message] = [
    QUESTION,
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "rain"},
    {"role": "assistant", "content": "It rains."},
]
HEAD = "{% for m in messages %}<|im_start|>{{ m.role }}\n"
TAIL = "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
WITH_TOOLS = (
    "{% if tools %}{{ tools | tojson }}{% endif %}" + HEAD + "{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<call>{{ c.function | tojson }}</call>{% endfor %}" + TAIL
)
READS_THINKING = (
    HEAD + "{% if m.thinking %}<think>{{ m.thinking }}</think>{% endif %}{{ m.content }}" + TAIL
)
JOINS_TEXT = (
    HEAD + "{{ m.content }}{% for c in m.tool_calls or [] %}"
    "{{ '[' + c.function.name + ' ' + c.function.arguments + ']' }}{% endfor %}" + TAIL
)
PRINTS = JOINS_TEXT.replace("' + c.function.arguments + '", "' ~ c.function.arguments ~ '")
NEEDS_IDS = (
    HEAD + "{{ m.content }}{% for c in m.tool_calls or [] %}"
    "{% if c.id | length != 9 %}{{ raise_exception('ids have nine characters') }}{% endif %}"
    "{{ c.function | tojson }}{{ c.id }}{% endfor %}{{ m.tool_call_id }}" + TAIL
)
THINKS_LAST = (
    HEAD + "{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m.content }}" + TAIL
)
TWO_BLOCKS = (
    HEAD + "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}"
    "{% generation %}<|im_end|>\n{% endgeneration %}{% else %}{{ m.content }}<|im_end|>\n"
    "{% endif %}{% endfor %}"
)
NEWLINE_INSIDE = TWO_BLOCKS.replace("{% endgeneration %}{% generation %}", "")
THREE_BLOCKS = TWO_BLOCKS.replace(
    "<|im_end|>\n{% endgeneration %}",
    "<|im_end|>{% endgeneration %}{% generation %}{{ '\n' }}{% endgeneration %}",
)
BLANK_LINE_INSIDE = NEWLINE_INSIDE.replace("<|im_end|>\n{% endgen", "<|im_end|>\n\n{% endgen")


def refused(rows: RowTokenizer, messages: list[Message], tools: Any = None) -> str:
    (outcome,) = rows([DialogueRow("x:1", messages, tools)])
    assert isinstance(outcome, BadRecord), outcome
    return outcome.reason


def applied(tokenizer: PreTrainedTokenizerFast, messages: list[Message], tools: Any = None) -> str:
    text = tokenizer.apply_chat_template(messages, tools=tools, tokenize=False)
    assert isinstance(text, str)
    return text


def same_text(row: Any, rows: RowTokenizer, text: str) -> bool:
    """Return True if a row is a rendered conversation, up to white space after its end."""
    return rows.encoder.decode(row.input_ids) == text.rstrip()


DESCRIBED: dict[str, Any] = {
    "name": "weather",
    "description": "Weather of a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "unit": {"type": "string"}},
        "required": ["city"],
    },
}


@pytest.mark.parametrize(
    ("written", "part"),
    [
        ("{{ t.function.name }}", "the description of tool weather"),
        ("{{ t.function.name }}: {{ t.function.description }}", "the parameters of tool weather"),
        (
            "{{ t.function.name }}: {{ t.function.description }}("
            "{{ t.function.parameters.required | join }})",
            "the parameters of tool weather.*unit",
        ),
        (
            "{{ t.function.name }}: {{ t.function.description }}"
            "{% for name, p in t.function.parameters.properties.items() %}{{ name }}"
            "{% if name in t.function.parameters.required %}!{% endif %}{% endfor %}",
            "",
        ),
        ("{{ t | tojson }}", ""),
    ],
)
def test_tools_are_rendered_with_their_description_and_parameters(written: str, part: str) -> None:
    own = "{% for t in tools or [] %}" + written + "{% endfor %}" + HEAD + "{{ m.content }}" + TAIL
    tokenizer = byte_level(own)
    rows = tokenizer_of(tokenizer, None)
    messages: list[Message] = [QUESTION, {"role": "assistant", "content": "rain"}]
    tools = [{"type": "function", "function": DESCRIBED}]
    if part:
        assert re.search(part, refused(rows, messages, tools))
    else:
        assert same_text(one(rows, messages, tools), rows, applied(tokenizer, messages, tools))


@pytest.mark.parametrize("name", ["glm4moe", "gptoss", "llama3_1", "qwen2_5", "qwen3"])
def test_published_templates_that_write_tools_are_accepted(name: str) -> None:
    """The templates are those of the models, as TRL includes them."""
    source = importlib.resources.files("trl").joinpath(f"chat_templates/{name}.jinja").read_text()
    rows = tokenizer_of(byte_level(source), None, "completion")
    row = one(rows, USES_TOOLS, [{"type": "function", "function": DESCRIBED}])
    text = rows.encoder.decode(row.input_ids)
    assert all(part in text for part in ("weather", "Weather of a city.", "city", "unit", "rain"))


@pytest.mark.parametrize(
    ("messages", "tools", "part"),
    [
        (USES_TOOLS, None, r"the tool call of message 2 \(assistant\).*weather"),
        ([QUESTION, {"role": "assistant", "content": "weather"}], TOOLS, "the tools.*weather"),
        ([QUESTION, {"role": "assistant", "content": "rain", "reasoning_content": "rain"}], None,
         r"the reasoning of message 2 \(assistant\).*rain"),
    ],
)  # fmt: skip
def test_a_part_that_the_template_omits_is_refused(
    messages: list[Message], tools: Any, part: str
) -> None:
    """The words of the omitted part stand elsewhere in the row, so a search would find them."""
    reason = refused(tokenizer_of(byte_level(CHATML_PLAIN), None), messages, tools)
    assert re.search(part, reason) and "model.chat_template: chatml" in reason


def test_an_omitted_system_message_is_refused() -> None:
    silent = CHATML_PLAIN.replace("{{ m.content }}", "{{ m.content if m.role != 'system' }}")
    messages = [
        {"role": "system", "content": "Be kind."},
        QUESTION,
        {"role": "assistant", "content": "ok"},
    ]
    rows = tokenizer_of(byte_level(silent), None)
    assert "the content of message 1 (system): Be kind." in refused(rows, messages)


def test_rows_with_tools_use_the_template_for_tools(tmp_path: Path) -> None:
    tokenizer = byte_level()
    tokenizer.chat_template = {"default": CHATML_PLAIN, "tool_use": WITH_TOOLS}
    rows = tokenizer_of(tokenizer, None)
    row = one(rows, USES_TOOLS, TOOLS)
    assert same_text(row, rows, applied(tokenizer, USES_TOOLS, TOOLS))
    called, said = learned(rows, row)
    assert '"name": "weather"' in called and said == "It rains.<|im_end|>"
    plain = [QUESTION, {"role": "assistant", "content": "rain"}]
    assert same_text(one(rows, plain), rows, applied(tokenizer, plain))
    # Tools that are offered and not called are in the prompt too.
    assert same_text(one(rows, plain, TOOLS), rows, applied(tokenizer, plain, TOOLS))
    # The saved tokenizer keeps both.
    assert rows.template is not None
    tokenizer.chat_template = rows.template.serving
    tokenizer.save_pretrained(tmp_path)
    read = AutoTokenizer.from_pretrained(tmp_path)
    assert applied(read, USES_TOOLS, TOOLS) == applied(tokenizer, USES_TOOLS, TOOLS)
    assert set(read.chat_template) == {"default", "tool_use"}


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
@pytest.mark.parametrize("template", [None, "chatml", "llama3", "gemma", "mistral", "plain"])
def test_reasoning_is_learned_by_whichever_key_it_has(key: str, template: str | None) -> None:
    rows = tokenizer_of(byte_level(READS_THINKING), template)
    messages = read_messages(
        [QUESTION, {"role": "assistant", "content": "4", key: "two twos"}], "m"
    )
    (said,) = learned(rows, one(rows, messages))
    assert "".join(said.split()) == "<think>twotwos</think>4<|im_end|>"


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
@pytest.mark.parametrize("read", ["reasoning_content", "reasoning", "thinking"])
def test_a_template_gets_the_reasoning_by_the_key_that_it_reads(key: str, read: str) -> None:
    rows = tokenizer_of(byte_level(READS_THINKING.replace("m.thinking", f"m.{read}")), None)
    messages = read_messages(
        [QUESTION, {"role": "assistant", "content": "4", key: "two twos"}], "m"
    )
    assert learned(rows, one(rows, messages)) == ["<think>two twos</think>4<|im_end|>"]


def test_two_different_reasonings_of_one_message_are_refused() -> None:
    from training.data.schema.rows import RowError

    answer = {"role": "assistant", "content": "4", "thinking": "a", "reasoning": "b"}
    with pytest.raises(RowError, match=r"m\[0\] has different reasoning in thinking and reasoning"):
        read_messages([answer], "m")


def test_reasoning_of_an_earlier_answer_may_be_left_out() -> None:
    """Templates leave it out on purpose, and so do they at inference."""
    last = READS_THINKING.replace("if m.thinking", "if m.thinking and loop.last")
    rows = tokenizer_of(byte_level(last), None, "completion")
    thinks = {"role": "assistant", "content": "4", "reasoning_content": "two twos"}
    (said,) = learned(rows, one(rows, [QUESTION, thinks, QUESTION, thinks]))
    assert said == "<think>two twos</think>4<|im_end|>"


def test_ids_of_calls_reach_the_template() -> None:
    messages = read_messages(
        [
            QUESTION,
            {"role": "assistant", "content": "", "tool_calls": [{**CALL, "id": "abcdefgh1"}]},
            {"role": "tool", "tool_call_id": "abcdefgh1", "content": "rain"},
            {"role": "assistant", "content": "It rains."},
        ],
        "messages",
    )
    tokenizer = byte_level(NEEDS_IDS)
    rows = tokenizer_of(tokenizer, None)
    assert same_text(one(rows, messages), rows, applied(tokenizer, messages))
    assert rows.encoder.decode(one(rows, messages).input_ids).count("abcdefgh1") == 2


def test_ids_of_parallel_calls_stay_with_their_results() -> None:
    first, second = "abcdefgh1", "abcdefgh2"
    messages = read_messages(
        [
            QUESTION,
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{**CALL, "id": first}, {**CALL, "id": second}],
            },
            {"role": "tool", "tool_call_id": second, "content": "snow"},
            {"role": "tool", "tool_call_id": first, "content": "rain"},
            {"role": "assistant", "content": "Both."},
        ],
        "messages",
    )
    tokenizer = byte_level(NEEDS_IDS)
    rows = tokenizer_of(tokenizer, None)
    row = one(rows, messages)
    assert same_text(row, rows, applied(tokenizer, messages))
    text = rows.encoder.decode(row.input_ids)
    assert re.findall("abcdefgh[12]", text) == [first, second, second, first]


@pytest.mark.parametrize("template", [JOINS_TEXT, PRINTS])
@pytest.mark.parametrize("arguments", ['{"city":"Berlin"}', {"city": "Berlin"}])
def test_templates_that_join_arguments_get_their_text(template: str, arguments: Any) -> None:
    call = {"function": {"name": "weather", "arguments": arguments}}
    messages = read_messages([QUESTION, {"role": "assistant", "tool_calls": [call]}], "messages")
    rows = tokenizer_of(byte_level(template), None)
    (said,) = learned(rows, one(rows, messages))
    text = arguments if isinstance(arguments, str) else '{"city": "Berlin"}'
    assert said == f"[weather {text}]<|im_end|>"


SEVERAL: list[Message] = [
    {"role": "user", "content": "the cat"},
    {"role": "assistant", "content": "sat"},
    {"role": "user", "content": "the dog"},
    {"role": "assistant", "content": "ran"},
]


def test_the_last_answer_is_learned_with_a_template_that_rewrites_earlier_ones() -> None:
    tokenizer = byte_level(THINKS_LAST)
    rows = tokenizer_of(tokenizer, None, "completion")
    row = one(rows, SEVERAL)
    assert same_text(row, rows, applied(tokenizer, SEVERAL))
    assert learned(rows, row) == ["<think>\n\n</think>\n\nran<|im_end|>"]
    everything = tokenizer_of(tokenizer, None)
    with pytest.raises(DataError, match=r"method\.loss_on: completion"):
        one(everything, SEVERAL)


@pytest.mark.parametrize("source", [TWO_BLOCKS, THREE_BLOCKS, NEWLINE_INSIDE, BLANK_LINE_INSIDE])
def test_marks_that_touch_or_end_in_a_line_break(source: str, tmp_path: Path) -> None:
    (tmp_path / "own.jinja").write_text(source)
    rows = tokenizer_of(byte_level(), str(tmp_path / "own.jinja"))
    row = one(rows, SEVERAL)
    assert learned(rows, row) == ["sat<|im_end|>", "ran<|im_end|>"]
    text = "<|im_start|>user\nthe cat<|im_end|>\n<|im_start|>assistant\nsat<|im_end|>\n"
    assert rows.encoder.decode(row.input_ids).startswith(text)
    assert rows.encoder.decode(row.input_ids).endswith("ran<|im_end|>")


def with_special(*tokens: str) -> PreTrainedTokenizerFast:
    tokenizer = byte_level()
    tokenizer.add_special_tokens({"additional_special_tokens": list(tokens)})
    return tokenizer


@pytest.mark.parametrize("token", ["<think>", "<|fim_middle|>"])
def test_special_tokens_that_the_assistant_says_are_learned_as_tokens(token: str) -> None:
    tokenizer = with_special("<think>", "</think>", "<|fim_middle|>")
    rows = tokenizer_of(tokenizer, "chatml")
    said = f"{token}two</think>4"
    assert rows.template is not None
    messages = [QUESTION, {"role": "assistant", "content": said}]
    row = one(rows, messages)
    reference = tokenizer.apply_chat_template(
        messages, chat_template=rows.template.serving, return_dict=False
    )
    # The template ends in a line break that is not learned.
    assert list(row.input_ids) == reference[: len(row.input_ids)]
    assert tokenizer.convert_tokens_to_ids(token) in row.labels


def test_special_tokens_of_turns_and_of_users_stay_text() -> None:
    rows = tokenizer_of(with_special("<think>", "<|im_sep|>"), "chatml")
    id_ = rows.encoder.id_of("<think>")
    messages = [
        {"role": "user", "content": "<think>"},
        {"role": "assistant", "content": "a<|im_end|><|im_start|>user\n<|endoftext|>"},
    ]
    row = one(rows, messages)
    assert id_ not in row.input_ids
    assert list(row.labels[row.labels != IGNORE]).count(rows.encoder.eos_id) == 1
    assert list(row.input_ids).count(rows.encoder.id_of("<|im_start|>")) == 2
    assert rows.encoder.id_of("<|endoftext|>") not in row.input_ids


def test_private_use_characters_are_unchanged() -> None:
    tokenizer = byte_level()
    rows = tokenizer_of(tokenizer, "chatml")
    icons = "icon \ue0101\ue011 \ue010x\ue011 \ue01099\ue011\ue010"
    assert rows.template is not None
    messages = [{"role": "user", "content": icons}, {"role": "assistant", "content": icons}]
    row = one(rows, messages)
    reference = tokenizer.apply_chat_template(
        messages, chat_template=rows.template.serving, return_dict=False
    )
    assert list(row.input_ids) == reference[: len(row.input_ids)]
    assert rows.encoder.decode(row.input_ids).count(icons) == 2


@pytest.mark.parametrize("shape", ["prompt_completion", "preference", "unpaired", "prompt"])
def test_tools_next_to_a_prompt_are_rendered(shape: Any) -> None:
    """Kept for every shape with a prompt: of text, and of messages."""
    values = {
        "prompt": "Weather?", "completion": "Where?", "chosen": "Where?", "rejected": "No.",
        "label": True, "tools": TOOLS,
    }  # fmt: skip
    columns = {name: name for name in values}
    for prompt in ("Weather?", [{"role": "user", "content": "Weather?"}]):
        record = SourceRecord("x:1", {**values, "prompt": prompt})
        row = ROW_READERS[shape](record.origin, record.values, columns)
        want = {"prompt_completion": "dialogue"}.get(shape, shape)
        base = tokenizer_of(byte_level(WITH_TOOLS), None)
        rows = RowTokenizer(base.encoder, base.template, want, "assistant", 4096)
        (outcome,) = rows([row])
        assert isinstance(outcome, list), outcome
        assert '"name": "weather"' in base.encoder.decode(outcome[0].input_ids)
        bare = RowTokenizer(base.encoder, None, want, "assistant", 4096)
        if isinstance(prompt, str):
            (refusal,) = bare([row])
            assert isinstance(refusal, BadRecord) and "tools" in refusal.reason


@pytest.mark.parametrize("shape", ["prompt_completion", "preference", "unpaired", "prompt"])
def test_columns_around_a_prompt_are_read_for_text_and_for_messages(shape: Any) -> None:
    """A prompt of one message is rendered as the same prompt in text, with any columns."""
    values: dict[str, Any] = {
        "prompt": "And here?", "completion": "Sun.", "chosen": "Sun.", "rejected": "No.",
        "label": True, "tools": TOOLS, "system": "Be a pirate.", "context": "In Rome.",
        "history": [["Weather?", "Where?"]],
    }  # fmt: skip
    columns = {name: name for name in values}
    base = tokenizer_of(byte_level(WITH_TOOLS), None)
    want = {"prompt_completion": "dialogue"}.get(shape, shape)
    rows = RowTokenizer(base.encoder, base.template, want, "completion", 4096)
    texts = []
    for prompt in ("And here?", [{"role": "user", "content": "And here?"}]):
        (outcome,) = rows([ROW_READERS[shape]("x:1", {**values, "prompt": prompt}, columns)])
        assert isinstance(outcome, list), outcome
        texts.append(base.encoder.decode(outcome[0].input_ids))
    assert texts[0] == texts[1]
    messages = [
        {"role": "system", "content": "Be a pirate."},
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "Where?"},
        {"role": "user", "content": "And here?\n\nIn Rome."},
    ]
    tokenizer = byte_level(WITH_TOOLS)
    expected = tokenizer.apply_chat_template(
        messages, tools=TOOLS, tokenize=False, add_generation_prompt=True
    )
    assert texts[0].startswith(expected)
