"""`temper export-suite`: formats, folders, and what cannot be exported."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from evaluation.exports.command import EXPORTS
from temper.cli import main
from tests.unit.evaluation.exports.suites import JUDGE, TASKS, write_suite


def export(suite: Path, to: str, *options: str) -> int:
    return main(
        ["export-suite", str(suite), "--to", to, "--out", str(suite.parent / "out"), *options]
    )


def test_a_format_that_does_not_exist_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(write_suite(tmp_path, "facts"), "helm") == 4
    message = capsys.readouterr().err
    assert all(name in message for name in ("helm", *EXPORTS))


def test_a_folder_of_something_else_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = write_suite(tmp_path, "facts")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/notes.txt").write_text("mine")
    assert export(suite, "lm-eval") == 4
    assert "exists and is not an export" in capsys.readouterr().err
    assert (tmp_path / "out/notes.txt").read_text() == "mine"


def test_an_earlier_export_is_replaced_as_a_whole(tmp_path: Path) -> None:
    assert export(write_suite(tmp_path, "facts", "choices"), "lm-eval") == 0
    assert (tmp_path / "out/choices.jsonl").is_file()
    assert export(write_suite(tmp_path, "facts"), "lm-eval") == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        "export.json", "facts.jsonl", "demo_facts.yaml", "group_demo.yaml", "scoring.py",
    }  # fmt: skip
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_fault_in_the_data_leaves_an_earlier_export(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(write_suite(tmp_path, "facts"), "lm-eval") == 0
    before = (tmp_path / "out/facts.jsonl").read_bytes()
    assert export(write_suite(tmp_path, "facts", target="{{answer}}"), "lm-eval") == 3
    assert "'{{answer}}' is undefined. The columns are a, " in capsys.readouterr().err
    assert (tmp_path / "out/facts.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("to", "options", "message"),
    [
        ("lm-eval", ("--s3", "s3://bucket/x"), "--s3: lm-eval has no use for it"),
        ("inspect", ("--accept-eula",), "--accept-eula: inspect has no use for it"),
        ("bedrock", ("--base", "arn:x"), "--base: bedrock has no use for it (got arn:x)"),
        ("sagemaker", ("--answers", "out"), "--answers: sagemaker has no use for it (got out)"),
        ("bedrock", ("--answers", "a", "--model", "b"), "either asks a model or judges answers"),
    ],
)
def test_options_that_a_format_would_ignore_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], to: str, options: tuple[str, ...],
    message: str,
) -> None:  # fmt: skip
    assert export(write_suite(tmp_path, "facts"), to, *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


RATING: dict[str, Any] = TASKS["talk"]["scores"][0]
PANEL = {key: value for key, value in RATING.items() if key != "judge"} | {"judges": [JUDGE, JUDGE]}
PAIRWISE = {"kind": "judge", "mode": "pairwise", "rubric": "Shorter.", "judge": JUDGE}


@pytest.mark.parametrize(
    ("to", "task", "changes", "message"),
    [
        ("lm-eval", "facts", {"scores": [RATING]}, "judge of facts cannot be exported to lm-eval"),
        (
            "lm-eval",
            "facts",
            {"scores": [{"kind": "pass_at_k"}]},
            "programs run in Temper's sandbox",
        ),
        ("lm-eval", "facts", {"samples": 4, "temperature": 1.0}, "it scores one answer"),
        ("lm-eval", "choices", {"chat": True}, "tokens of a choice after a chat template"),
        ("inspect", "texts", {}, "perplexity texts cannot be exported to Inspect"),
        ("inspect", "facts", {"scores": [{"kind": "bleu"}]}, "a metric of all answers at once"),
        ("inspect", "facts", {"scores": [PANEL]}, "single judge of facts cannot be exported"),
        ("inspect", "facts", {"scores": [PAIRWISE]}, "pairwise judge of facts cannot be exported"),
    ],
)
def test_what_a_format_cannot_express_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], to: str, task: str,
    changes: dict[str, Any], message: str,
) -> None:  # fmt: skip
    suite = write_suite(tmp_path, task)
    document = yaml.safe_load(suite.read_text("utf-8"))
    document["tasks"][0] |= changes
    document["tasks"].append({"name": "kept", **TASKS["facts"]})
    suite.write_text(yaml.safe_dump(document), encoding="utf-8")
    assert export(suite, to) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "--partial exports the rest: kept" in error
    assert not (tmp_path / "out").exists()
    assert export(suite, to, "--partial") == 0
    assert message in capsys.readouterr().out
    manifest = json.loads((tmp_path / "out/export.json").read_text("utf-8"))
    assert message in manifest["not_exported"][0]
    assert set(manifest["tasks"]) == {"kept"}


def test_a_suite_of_which_nothing_is_left_is_refused(tmp_path: Path) -> None:
    assert export(write_suite(tmp_path, "texts"), "inspect", "--partial") == 2
    assert not (tmp_path / "out").exists()


def test_a_warning_names_gates_that_are_not_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = write_suite(tmp_path, "facts")
    gates = "gates: [{metric: facts.token_f1, at_least: 0.5}]\n"
    suite.write_text(suite.read_text("utf-8") + gates, encoding="utf-8")
    assert export(suite, "inspect") == 0
    assert "gates are checked by `temper evaluate` alone" in capsys.readouterr().out


@pytest.mark.parametrize("to", ["lm-eval", "inspect"])
def test_tasks_whose_names_differ_in_a_hyphen_have_separate_functions(
    tmp_path: Path, to: str
) -> None:
    suite = write_suite(tmp_path, "facts", scores=[{"kind": "classification"}])
    document = yaml.safe_load(suite.read_text("utf-8"))
    [task] = document["tasks"]
    document["tasks"] = [{**task, "name": name} for name in ("a-b", "a_b")]
    suite.write_text(yaml.safe_dump(document), encoding="utf-8")
    assert export(suite, to) == 0
    module = next(path for path in (tmp_path / "out").glob("*.py"))
    functions = [
        node.name
        for node in ast.walk(ast.parse(module.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef)
    ]
    top = [name for name in functions if functions.count(name) > 1]
    assert set(top) <= {"fold", "score"}  # functions inside of others
