"""Teacher that the tests of a synthesis share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_llm_server import serving
from tests.unit.preparation.synthesis.teachers import FakeTeacher
from training.judges import retries


@pytest.fixture
def teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTeacher]:
    """A teacher on this machine, and a cache that no other test has written."""
    monkeypatch.setattr(retries, "_FIRST_WAIT_S", 0.001)
    monkeypatch.setenv("TEMPER_CACHE", str(tmp_path / "cache"))
    with serving() as server:
        yield FakeTeacher(server)
