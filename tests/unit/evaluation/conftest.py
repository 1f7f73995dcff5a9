"""Fixtures of evaluations."""

from __future__ import annotations

import pytest

from tests.factories import make_tiny_model


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a model with random weights and a context of 256 tokens."""
    return str(make_tiny_model(tmp_path_factory.mktemp("evaluated") / "tiny"))
