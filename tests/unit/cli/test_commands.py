"""The command line: what it imports, its exit codes, its messages."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from temper.cli import app, main
from temper.cli.extras import EXTRAS, MissingExtraError, missing_extra, require
from temper.cli.group import repeat_option
from temper.cli.options import overrides
from tests.run_commands import ROOT
from training import __version__
from training.errors import DataError

COMMANDS = (
    *("train", "check", "plan", "plan-serving", "rehearse", "doctor", "import", "schema"),
    *("advise", "prepare", "search", "pipeline"),
    *("status", "adopt", "logs", "stop", "resume", "fetch", "delete"),
    *("export", "check-import", "answer", "serve", "chat", "watch"),
    *("evaluate", "compare", "review", "feedback", "redteam", "bias", "prices"),
    *("export-suite", "idle-cost"),
    *("register", "push-model", "models", "diff-models", "promote", "lineage"),
    *("deploy-model", "swap", "undeploy", "deployments", "record-golden"),
    *("publish-image", "approve-image"),
    *("connect", "notify", "cluster-setup", "cluster-software"),
    *("diff-environment", "deploy-environment", "delete-environment"),
)
HEAVY = {"torch", "transformers", "boto3", "botocore", "numpy", "aws_cdk", "mlflow"}


def loaded(*arguments: str) -> set[str]:
    """Return the modules that a command has imported when it ends."""
    code = (
        "import sys; from temper.cli import main; code = main(sys.argv[1:]);"
        "print('modules:', *sys.modules); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.rpartition("modules: ")[2].split())


def test_help_imports_nothing_heavy() -> None:
    assert not (HEAVY | {"pydantic", "rich", "yaml"}) & loaded("--help")


def test_status_imports_nothing_heavy(tmp_path: Path) -> None:
    # Typer itself loads pydantic to convert arguments; the model of a job file is what takes long.
    modules = loaded("status", "--runs", str(tmp_path))
    assert not HEAVY & modules
    assert not {name for name in modules if name.startswith(("planning", "training.config"))}


def test_every_command_is_listed_and_explains_itself() -> None:
    listed = CliRunner().invoke(app, ["--help"]).stdout
    for command in COMMANDS:
        assert f"  {command} " in listed
        done = CliRunner().invoke(app, [command, "--help"])
        assert done.exit_code == 0, command
        assert "Usage: " in done.stdout


def test_descriptions_are_not_cut_off() -> None:
    """Each fits the list of commands on a terminal of 80 columns, and is a complete sentence."""
    listed = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "80"}).stdout
    listed = listed.partition("Commands:")[2]
    lines = [line for line in listed.splitlines() if line.strip()]
    assert {line.split()[0] for line in lines} == set(COMMANDS)
    for line in lines:
        description = line.split(maxsplit=1)[1]
        assert description.endswith(".") and not description.endswith(".."), line
        assert len(description) <= 56, line


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"temper {__version__}\n"


def test_wrong_usage_ends_with_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    assert main(["plan"]) == 2
    assert main(["train", "job.yaml", "--no-such-option"]) == 2
    assert "No such option" in capsys.readouterr().err


def test_an_error_is_a_message_with_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> None:
        raise DataError("rows.jsonl is empty")

    monkeypatch.setattr("training.__main__.check_job", fails)
    assert main(["check", "job.yaml"]) == 3
    assert capsys.readouterr().err == "rows.jsonl is empty\n"


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, ""),
        (ModuleNotFoundError(name="torch"), 4, 'pip install "temper[train]"'),
        (ModuleNotFoundError(name="aws_cdk.aws_s3"), 4, "in a checkout"),
    ],
)
def test_other_ends(
    error: BaseException,
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr("training.__main__.check_job", fails)
    assert main(["check", "job.yaml"]) == code
    assert message in capsys.readouterr().err


def test_a_missing_extra_is_named_before_training_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    require("train")
    monkeypatch.setitem(EXTRAS, "train", ("no_such_module",))
    with pytest.raises(MissingExtraError, match=r'pip install "temper\[train\]"'):
        require("train")
    assert missing_extra("no_such_package") == ""


def test_several_values_may_follow_set() -> None:
    assert repeat_option(["train", "j.yaml", "--set", "a=1", "b=2", "--fresh"]) == [
        *("train", "j.yaml", "--set", "a=1", "--set", "b=2", "--fresh"),
    ]
    assert repeat_option(["train", "--set", "a=1", "j.yaml"]) == ["train", "--set", "a=1", "j.yaml"]
    assert repeat_option(["answer", "m", "r", "a=x", "b=y"]) == ["answer", "m", "r", "a=x", "b=y"]


def test_make_and_the_command_have_the_same_names() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for command in COMMANDS:
        assert f"$(TEMPER) {command}" in makefile


def test_job_files_of_preparations_are_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = tmp_path / "job.yaml"
    job.write_text("name: a\nprepare:\n  sources: missing.jsonl\n  split: {validation: 5%}\n")
    assert main(["check", str(ROOT / "jobs/prepare.yaml")]) == 0
    assert main(["check", str(job)]) == 2
    told = capsys.readouterr()
    assert "prepare.yaml: fine" in told.out + told.err
    assert "prepare.sources.0.source: there is no such file or folder" in told.err


def test_a_job_is_checked_and_planned_with_base_dependencies_alone() -> None:
    code = f"""
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {set().union(*EXTRAS.values())}:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Missing())
from temper.cli import main
sys.exit(main(sys.argv[1:]))
"""
    for command in ("check", "plan"):
        done = subprocess.run(
            [sys.executable, "-c", code, command, "jobs/quickstart.yaml"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_metavars_are_in_upper_case() -> None:
    for command in COMMANDS:
        usage = CliRunner().invoke(app, [command, "--help"]).stdout.splitlines()[0]
        arguments = usage.partition("[OPTIONS]")[2]
        assert arguments == arguments.upper(), usage
        assert "[[" not in usage


def test_a_value_of_set_may_contain_spaces() -> None:
    assert shlex.split(overrides(["name=my run", "a.b=1"])) == ["name=my run", "a.b=1"]
    samples = 'evaluate.samples=["def main():", "Return"]'
    assert shlex.split(overrides([samples])) == [samples]
    # make passes all of SET as one argument
    assert shlex.split(overrides(["a=1 b='x y'"])) == ["a=1", "b=x y"]


@pytest.mark.parametrize("command", [["idle-cost"], ["rehearse", "none.yaml"]])
def test_a_missing_file_is_reported_at_once(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command[:1], str(tmp_path.joinpath(*command[1:]))]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and "1 problem" in printed.err


def test_make_names_the_variables_that_answer_lacks() -> None:
    command = ["make", "-n", "answer", "MODEL=base"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "make answer lacks REQUESTS ADAPTERS. Write: make answer MODEL=base" in done.stdout
