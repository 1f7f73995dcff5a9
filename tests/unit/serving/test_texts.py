"""Text while it is generated: its parts, stop texts, and the texts of tokens."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from serving.engine.text_stream import TextStream
from serving.engine.token_texts import TokenTexts
from tests.run_commands import ROOT

STORIES = ROOT.parent / "shared/data/models/stories260K-hf"
TEXTS = ["Grüße an alle, 你好! 👩‍👩‍👧 fin", "a  b\n\n c", "x", "naïve café — “quoted”", "\t\ttabs"]


@pytest.fixture(scope="module", params=["byte_level", "byte_fallback"])
def tokenizer(request: pytest.FixtureRequest, chat_folder: str) -> Any:
    if request.param == "byte_level":
        return AutoTokenizer.from_pretrained(chat_folder)
    if not STORIES.is_dir():
        pytest.skip("needs the tokenizer of ../shared/data")
    return AutoTokenizer.from_pretrained(STORIES)


def streamed(tokenizer: Any, ids: list[int], stop: tuple[str, ...] = ()) -> tuple[list[str], bool]:
    stream = TextStream(tokenizer, stop)
    parts = []
    for token in ids:
        parts.append(stream.push(token))
        if stream.stopped:
            return parts, True
    parts.append(stream.finish())
    return parts, stream.stopped


@pytest.mark.parametrize("text", TEXTS)
def test_the_parts_are_the_text_and_no_character_is_torn(tokenizer: Any, text: str) -> None:
    ids = tokenizer(text)["input_ids"]
    parts, stopped = streamed(tokenizer, ids)
    assert "".join(parts) == tokenizer.decode(ids, skip_special_tokens=True)
    assert not stopped
    assert not any("\ufffd" in part for part in parts)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_tokens_give_the_text_that_they_decode_to(chat_tokenizer: Any, data: Any) -> None:
    ids = data.draw(st.lists(st.integers(0, len(chat_tokenizer) - 1), max_size=30))
    parts, _ = streamed(chat_tokenizer, ids)
    whole = chat_tokenizer.decode(ids, skip_special_tokens=True)
    # Bytes that are no character may be split differently once they are known to be none.
    assert "".join(parts).replace("\ufffd", "") == whole.replace("\ufffd", "")


@given(
    text=st.text(alphabet="abn \n", max_size=40),
    stop=st.lists(st.text(alphabet="abn \n", min_size=1, max_size=4), min_size=1, max_size=3),
)
@settings(max_examples=200, deadline=None)
def test_an_answer_ends_before_the_first_stop_text(
    chat_tokenizer: Any, text: str, stop: list[str]
) -> None:
    ids = chat_tokenizer(text, add_special_tokens=False)["input_ids"]
    parts, stopped = streamed(chat_tokenizer, ids, tuple(stop))
    found = "".join(parts)
    places = [text.find(one) for one in stop if one in text]
    assert stopped == bool(places)
    if not places:
        assert found == text
    else:
        assert text.startswith(found)
        assert not any(one in found for one in stop)


def test_texts_of_tokens_differ_and_keep_their_space(tokenizer: Any) -> None:
    texts = TokenTexts(tokenizer)
    ids = tokenizer("the ball and the park", add_special_tokens=False)["input_ids"]
    joined = "".join(texts[token] for token in ids)
    assert joined.strip() == "the ball and the park"
    pieces = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    # A byte that is a character has two tokens in a vocabulary with byte fallback.
    single = [token for token, piece in enumerate(pieces) if not piece.startswith("<0x")]
    assert len({texts[token] for token in single}) == len(single)
    ids = tokenizer("你", add_special_tokens=False)["input_ids"]
    raw = b"".join(texts.bytes_of(token) for token in ids)
    assert raw.decode().strip() == "你"


@pytest.fixture(scope="module")
def chat_tokenizer(chat_folder: str) -> Any:
    return AutoTokenizer.from_pretrained(chat_folder)
