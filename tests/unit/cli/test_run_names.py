"""Commands about a model take the name of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation import command, comparison
from temper.cli import main
from temper.cli.options import run_or_model
from tests.unit.registry.runs import evaluated_run, make_run


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_run(tmp_path, "20260101-080000")
    evaluated_run(tmp_path, "20260102-080000")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs/support"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("support", "runs/support/20260102-080000"),
        ("support/latest", "runs/support/20260102-080000"),
        ("support/20260101-080000", "runs/support/20260101-080000"),
        ("runs/support/20260101-080000", "runs/support/20260101-080000"),
        ("sup", "sup"),
        ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B"),
    ],
)
def test_a_run_is_meant_only_by_its_whole_name(runs: Path, name: str, meant: str) -> None:
    assert run_or_model(name) == meant


def test_a_folder_comes_before_a_run(runs: Path) -> None:
    Path("support").mkdir()
    assert run_or_model("support") == "support"


def test_evaluate_and_compare_take_a_run(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[str, str | None]] = []
    monkeypatch.setattr(
        command, "run_evaluation", lambda options: seen.append((options.model, options.against))
    )
    monkeypatch.setattr(
        comparison, "run_comparison", lambda options: seen.append((options.model, options.other))
    )
    main(["evaluate", "support", "suite.yaml", "--against", "support/20260101-080000"])
    main(["evaluate", "org/base", "suite.yaml"])
    main(["compare", "support", "org/base", "--prompts", "p.jsonl", "--judge", "j.yaml"])
    newest = "runs/support/20260102-080000"
    assert seen == [
        (newest, "runs/support/20260101-080000"),
        ("org/base", None),
        (newest, "org/base"),
    ]
    assert f"support is the run {newest}" in capsys.readouterr().err


def test_register_takes_a_run(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["register", "support"]) == 0
    assert "support@1.0.0" in capsys.readouterr().out
    assert main(["register", "other"]) == 2
    assert "other: no such run in runs. Available: support/2026" in capsys.readouterr().err
