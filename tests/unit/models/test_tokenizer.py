"""A tokenizer trained for a model from scratch: any text comes back, and begins rightly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.factories import docstrings
from training.config.model import Model, trains_tokenizer
from training.errors import ModelError
from training.models.tokenizer import load_tokenizer, train_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("tokenizer") / "made"
    train_tokenizer((text for _, text in docstrings()), 400, folder)
    return load_tokenizer(Model(source=str(folder)))


@given(text=st.text())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_text_comes_back(tokenizer: Any, text: str) -> None:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


def test_it_has_as_many_pieces_as_asked(tokenizer: Any) -> None:
    assert len(tokenizer) == 400


def test_one_beginning(tokenizer: Any) -> None:
    assert tokenizer("text")["input_ids"].count(tokenizer.bos_token_id) == 1
    assert len({tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}) == 3


def test_the_same_texts_make_the_same_tokenizer(tmp_path: Path) -> None:
    made = []
    for name in ("one", "two"):
        train_tokenizer((text for _, text in docstrings()), 300, tmp_path / name)
        made.append((tmp_path / name / "tokenizer.json").read_bytes())
    assert made[0] == made[1]


def test_too_few_pieces(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"vocab_size is 200.*at least 259"):
        train_tokenizer(["text"], 200, tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_what_a_kill_left_half_written_is_no_tokenizer(tmp_path: Path) -> None:
    (tmp_path / ".writing-made").mkdir()
    (tmp_path / ".writing-made/junk").write_text("half")
    train_tokenizer((text for _, text in docstrings()), 300, tmp_path / "made")
    assert not (tmp_path / ".writing-made").exists()
    assert not (tmp_path / "made/junk").exists()


def test_only_scratch_without_a_tokenizer_needs_one() -> None:
    assert trains_tokenizer(Model(source="scratch"))
    assert not trains_tokenizer(Model(source="scratch", tokenizer="owner/name"))
    assert not trains_tokenizer(Model(source="owner/name"))
