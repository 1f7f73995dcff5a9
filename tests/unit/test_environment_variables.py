"""Environment variables that hold for a while."""

from __future__ import annotations

import os

import pytest

from training.environment_variables import environment_variables


def test_variables_are_restored_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPER_TEST_OLD", "before")
    changed = {"TEMPER_TEST_OLD": "meanwhile", "TEMPER_TEST_NEW": "meanwhile"}
    with pytest.raises(ValueError, match="x"), environment_variables(changed):
        assert changed.items() <= os.environ.items()
        raise ValueError("x")
    assert os.environ["TEMPER_TEST_OLD"] == "before"
    assert "TEMPER_TEST_NEW" not in os.environ
