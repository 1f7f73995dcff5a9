from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from tests.unit.data import data_factories
from training.data.prepare import Prepared, prepare


@pytest.fixture(scope="session")
def llama() -> PreTrainedTokenizerFast:
    return data_factories.sentencepiece_like()


@pytest.fixture(scope="session")
def qwen() -> PreTrainedTokenizerFast:
    return data_factories.byte_level()


@pytest.fixture
def prepared(tmp_path: Path, llama: PreTrainedTokenizerFast) -> Callable[..., Prepared]:
    """Prepares a job's data in folders of the test's own."""

    def run(train: Any, tokenizer: PreTrainedTokenizerFast | None = None, **job: Any) -> Prepared:
        return prepare(
            data_factories.make_job(train, **job),
            tokenizer or llama,
            cache_dir=tmp_path / "cache",
            run_dir=tmp_path / "run",
        )

    return run
