from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.unit.data.data_factories import byte_level, sentencepiece_like
from training.config.method_base import RowKind
from training.data import templates
from training.data.schema.rows import CompletionRow, DialogueRow, Message, Row, TextRow
from training.data.tokenization.encoder import Encoder
from training.data.tokenization.row_tokenizer import RowTokenizer
from training.data.tokenization.token_rows import IGNORE, Dropped, TokenRow
from training.errors import DataError

LLAMA, QWEN = sentencepiece_like(), byte_level()


def rows_of(
    tokenizer: PreTrainedTokenizerFast, want: RowKind = "dialogue", size: int = 4096
) -> RowTokenizer:
    return RowTokenizer(Encoder(tokenizer), None, want, "assistant", size)


def parts(rows: RowTokenizer, row: Row) -> list[TokenRow]:
    (outcome,) = rows([row])
    assert isinstance(outcome, list), outcome
    return outcome


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300)


@settings(max_examples=80, deadline=None)
@given(text=texts.filter(str.strip), size=st.integers(8, 64), kind=st.sampled_from([0, 1]))
def test_a_text_is_cut_without_losing_a_token(text: str, size: int, kind: int) -> None:
    tokenizer = (LLAMA, QWEN)[kind]
    whole = tokenizer(text)["input_ids"]
    if tokenizer.bos_token_id is not None:
        whole = whole[1:]
    if whole[-1:] != [tokenizer.eos_token_id]:
        whole = [*whole, tokenizer.eos_token_id]
    found = parts(rows_of(tokenizer, "text", size), TextRow("x:1", text))
    begin = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    joined: list[int] = []
    learned = 0
    for number, row in enumerate(found, start=1):
        assert len(row.input_ids) <= size
        assert list(row.input_ids[: len(begin)]) == begin
        body = list(row.input_ids[len(begin) :])
        if begin:
            assert begin[0] not in body
        joined += body
        assert row.labels[0] == IGNORE
        same = row.labels != IGNORE
        assert (row.labels[same] == row.input_ids[same]).all() and same.any()
        learned += int(same.sum())
        assert row.id == ("x:1" if len(found) == 1 else f"x:1#{number}")
    assert joined == [token for token in whole if token not in begin]
    # Only the first token of a later part (and of all, without BOS) has nothing to predict it.
    assert learned == len(joined) - (len(found) - 1 if begin else len(found))


@pytest.mark.parametrize("tokenizer", [LLAMA, QWEN])
@pytest.mark.parametrize(
    ("prompt", "completion", "between"),
    [
        ("What is it?", "A cat.", "\n"),
        ("What is it? ", "A cat.", ""),
        ("What is it?\n", "A cat.", ""),
        ("What is it?", " A cat.", ""),
    ],
)
def test_a_completion_is_learned_and_nothing_else(
    tokenizer: PreTrainedTokenizerFast, prompt: str, completion: str, between: str
) -> None:
    rows = rows_of(tokenizer)
    (row,) = parts(rows, CompletionRow("x:1", prompt, completion))
    split = int((row.labels != IGNORE).argmax())
    assert (row.labels[:split] == IGNORE).all() and (row.labels[split:] != IGNORE).all()
    # The prompt is what the tokenizer makes of it, so what a model will be given.
    assert list(row.input_ids[:split]) == tokenizer(prompt + between)["input_ids"]
    assert list(row.input_ids[:split]) == rows.prompt_ids(prompt) or between != "\n"
    assert tokenizer.decode(row.input_ids[split:], skip_special_tokens=True) == completion.lstrip(
        " " if tokenizer is LLAMA else ""
    )
    assert row.input_ids[-1] == tokenizer.eos_token_id
    assert not row.truncated


@pytest.mark.parametrize("tokenizer", [LLAMA, QWEN])
def test_a_system_text_comes_first(tokenizer: PreTrainedTokenizerFast) -> None:
    row = CompletionRow("x:1", "What is it?", "A cat.", system="Be kind.")
    (written,) = parts(rows_of(tokenizer), row)
    assert "Be kind.\n\nWhat is it?\nA cat." in tokenizer.decode(written.input_ids)


@pytest.mark.parametrize("tokenizer", [LLAMA, QWEN])
def test_begin_and_end_written_in_the_data_are_not_doubled(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    bos, eos = tokenizer.bos_token or "", tokenizer.eos_token
    rows = rows_of(tokenizer)
    written = parts(rows, CompletionRow("x:1", f"{bos}What is it?", f"A cat.{eos}"))
    plain = parts(rows, CompletionRow("x:1", "What is it?", "A cat."))
    assert list(written[0].input_ids) == list(plain[0].input_ids)
    texts = rows_of(tokenizer, "text")
    written = parts(texts, TextRow("x:1", f"{bos}A cat.{eos}"))
    assert list(written[0].input_ids) == list(parts(texts, TextRow("x:1", "A cat."))[0].input_ids)
    struck = parts(texts, TextRow("x:1", "old <s>price</s> new <s>price"))[0]
    assert list(struck.input_ids).count(tokenizer.bos_token_id or -1) == bool(bos)


def test_an_answer_that_ends_in_an_unknown_word_still_ends() -> None:
    words = Tokenizer(models.WordLevel({"<unk>": 0, "</s>": 1, "yes": 2}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unk>", eos_token="</s>", pad_token="</s>"
    )
    (row,) = parts(rows_of(tokenizer), CompletionRow("x:1", "yes", "yes whatever"))
    assert list(row.input_ids) == [2, 2, 0, 1] and list(row.labels) == [-100, 2, 0, 1]


def test_a_truncated_answer_is_not_given_an_end() -> None:
    row = CompletionRow("x:1", "What is it?", "A cat and a dog and a river and a park " * 5)
    (whole,) = parts(rows_of(LLAMA), row)
    (cut,) = parts(rows_of(LLAMA, size=24), row)
    assert cut.truncated and len(cut.input_ids) == 24
    assert list(cut.input_ids) == list(whole.input_ids[:24])
    assert LLAMA.eos_token_id not in cut.input_ids


def test_a_row_whose_answer_is_cut_off_is_reported_with_a_fix() -> None:
    row = CompletionRow("x:1", "the cat sat on a mat " * 10, "yes")
    (outcome,) = rows_of(LLAMA, size=16)([row])
    assert isinstance(outcome, Dropped)
    (kept,) = rows_of(LLAMA, size=outcome.required_length)([row])
    assert isinstance(kept, list) and (kept[0].labels != IGNORE).sum() == 1
    (still,) = rows_of(LLAMA, size=outcome.required_length - 1)([row])
    assert isinstance(still, Dropped)


def test_an_answer_of_megabytes_is_cut_as_a_shorter_one_is() -> None:
    said = "the cat sat on a mat and ran to the river "
    for tokenizer in (LLAMA, QWEN):
        rows = rows_of(tokenizer, size=512)
        (long,) = parts(rows, CompletionRow("x:1", "What is it?", said * 200_000))
        (short,) = parts(rows, CompletionRow("x:1", "What is it?", said * 2_000))
        assert list(long.input_ids) == list(short.input_ids)
        assert list(long.labels) == list(short.labels)
        assert long.truncated and short.truncated


def test_rows_without_anything_to_learn_are_dropped() -> None:
    rows = rows_of(LLAMA, "text")
    assert rows([TextRow("x:1", " \n ")]) == [Dropped("x:1", "the text is empty")]


def test_an_empty_prompt_still_gives_a_row() -> None:
    (row,) = parts(rows_of(QWEN), CompletionRow("x:1", "", "A cat."))
    assert (row.labels[1:] != IGNORE).all() and row.labels[0] == IGNORE


def test_conversations_without_a_template_are_refused() -> None:
    row = DialogueRow("x:1", [{"role": "user", "content": "hi"}])
    with pytest.raises(DataError, match=r"x:1: this is a conversation.*chat_template: chatml"):
        rows_of(LLAMA)([row])


@pytest.mark.parametrize(("tokenizer", "times"), [(LLAMA, 240_000), (QWEN, 24_000)])
@pytest.mark.slow
def test_ten_megabytes_in_a_row_take_seconds(
    tokenizer: PreTrainedTokenizerFast, times: int
) -> None:
    text = "the cat sat on a mat and ran to the river " * times
    start = time.monotonic()
    found = parts(rows_of(tokenizer, "text", 2048), TextRow("x:1", text))
    assert time.monotonic() - start < 60
    body = np.concatenate([row.input_ids[tokenizer.bos_token_id is not None :] for row in found])
    assert tokenizer.decode(body[:-1]).strip() == text.strip()


def test_encoding_in_parts_gives_back_the_text() -> None:
    for tokenizer in (LLAMA, QWEN):
        encoder = Encoder(tokenizer)
        rows = rows_of(tokenizer, "text", 10**6)
        text = "word\n" * 30_000 + "x" * 60_000
        (row,) = parts(rows, TextRow("x:1", text))
        body = [token for token in row.input_ids if token not in (encoder.bos_id, encoder.eos_id)]
        assert encoder.decode(body) == text


def test_an_answer_marked_as_context_is_masked_and_adds_no_end() -> None:
    encoder = Encoder(QWEN)
    template = templates.resolve("chatml", QWEN, encoder)
    rows = RowTokenizer(encoder, template, "dialogue", "assistant", 4096)
    said: list[Message] = [
        {"role": "user", "content": "the cat"},
        {"role": "assistant", "content": "sat"},
        {"role": "user", "content": "the dog"},
        {"role": "assistant", "content": "ran", "learned": False},
    ]
    (row,) = parts(rows, DialogueRow("x:1", said))
    learned = [int(token) for token in row.labels if token != IGNORE]
    assert QWEN.decode(learned).strip() == "sat<|im_end|>"
    said[1]["learned"] = False
    (outcome,) = rows([DialogueRow("x:1", said)])
    assert isinstance(outcome, Dropped) and "marked as not trained on" in outcome.reason
