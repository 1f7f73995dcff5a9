"""Fixtures of most tests: a tiny model, a tokenizer and data, made here, not downloaded."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.factories import docstring_pairs, make_tiny_model, write_jsonl

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Models here are too small to share among cores; threads that wait for each other cost seconds.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure(config: pytest.Config) -> None:
    if "not gpu" in (config.option.markexpr or ""):
        # These tests compare on the CPU, also on machines with a GPU.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    # Importing what all tests import creates objects that stay; looking through them takes seconds.
    gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests marked `gpu` on a machine without a CUDA device."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked and not _has_gpu():
        items[:] = [item for item in items if not item.get_closest_marker("gpu")]
        config.hook.pytest_deselected(items=marked)


def _has_gpu() -> bool:
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return False
    import torch

    return torch.cuda.is_available()


@pytest.fixture(scope="session", autouse=True)
def cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep tokenized data of the tests apart from the person's."""
    path = tmp_path_factory.mktemp("cache")
    before = os.environ.get("TEMPER_CACHE")
    os.environ["TEMPER_CACHE"] = str(path)
    yield path
    if before is None:
        del os.environ["TEMPER_CACHE"]
    else:
        os.environ["TEMPER_CACHE"] = before


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers with a tokenizer of its own, as a folder."""
    return make_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """96 prompts and answers of many lengths, as JSON Lines."""
    return write_jsonl(tmp_path_factory.mktemp("pairs") / "pairs.jsonl", docstring_pairs(96))


@pytest.fixture
def document(tiny_model: Path, pairs: Path) -> dict[str, Any]:
    """A small job: full fine-tuning in fp32, ten steps of eight rows."""
    return {
        "name": "tiny",
        "model": {"source": str(tiny_model)},
        "data": {"train": str(pairs), "max_length": 96, "workers": 1},
        "method": {"kind": "sft"},
        "train": {
            "max_steps": 10,
            "global_batch_size": 8,
            "micro_batch_size": 8,
            "learning_rate": 1e-3,
        },
        "tracking": {"mlflow": False},
    }
