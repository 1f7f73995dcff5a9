"""Implementation of `temper export-suite`: a suite in the format of another tool."""

from __future__ import annotations

import dataclasses
import importlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from evaluation.config.suite import Suite, load_suite, task_digest
from evaluation.exports.base import ExportedSuite, ExportOptions, Items, SuiteExport
from evaluation.items import read_all_items
from training.console import say
from training.errors import JobError, Problem, RunError

EXPORTS: Mapping[str, str] = {
    "inspect": "evaluation.exports.inspect_ai:export_inspect",
    "bedrock": "evaluation.exports.bedrock:export_bedrock",
    "lm-eval": "evaluation.exports.lm_eval:export_lm_eval",
    "sagemaker": "evaluation.exports.sagemaker:export_sagemaker",
}
"""Format and the function that writes it, imported when it is asked for."""
_USED: Mapping[str, frozenset[str]] = {
    "bedrock": frozenset({"s3", "role", "model", "answers"}),
    "sagemaker": frozenset({"s3", "role", "model", "base", "evaluator", "mlflow", "accept_eula"}),
}
"""Options of requests that a format uses."""
MANIFEST = "export.json"
_GATES = "gates are checked by `temper evaluate` alone"


@dataclass(frozen=True)
class SuiteExportOptions:
    """Options of `temper export-suite`.

    Attributes:
        suite: Suite file, or the name of a suite that comes with the package.
        to: Name of the format.
        out: Folder to write, which must not exist or hold an earlier export.
        partial: Export what the format can express, and list the rest.
        request: Options of requests to AWS.
    """

    suite: Path
    to: str
    out: Path
    partial: bool
    request: ExportOptions


def run_export(options: SuiteExportOptions) -> int:
    """Write a suite in another format, and say what differs.

    Returns:
        Exit code.

    Raises:
        JobError: The suite cannot be used or, without `partial`, not all of it exported.
    """
    export = find_export(options.to)
    if unused := _unused(options):
        raise JobError(f"export to {options.to}", unused)
    suite = load_suite(options.suite)
    check_folder(options.out)
    items = read_all_items(suite.tasks)
    exported = export(suite, items, options.request)
    if not exported.tasks or (exported.problems and not options.partial):
        raise JobError(str(options.suite), _with_fix(exported))
    if suite.gates:
        exported = dataclasses.replace(exported, notes=(*exported.notes, _GATES))
    manifest = _manifest(options, suite, items, exported)
    write_export(options.out, {**exported.files, MANIFEST: manifest})
    for problem in exported.problems:
        say(f"not exported: {problem.message}")
    for note in exported.notes:
        say(f"note: {note}")
    say(f"wrote {len(exported.tasks)} of {len(suite.tasks)} tasks to {options.out}. Next:")
    for command in exported.commands:
        say(f"  {command.replace('FOLDER', str(options.out))}")
    return 0


def find_export(name: str) -> SuiteExport:
    """Return the function that writes a format.

    Raises:
        RunError: There is no such format.
    """
    if name not in EXPORTS:
        raise RunError(f"--to {name}: there is no such format. Formats: {', '.join(EXPORTS)}")
    module, _, function = EXPORTS[name].partition(":")
    export: SuiteExport = getattr(importlib.import_module(module), function)
    return export


def _unused(options: SuiteExportOptions) -> list[Problem]:
    """Return the options that the format would ignore."""
    used = _USED.get(options.to, frozenset())
    given = dataclasses.asdict(options.request)
    problems = [
        Problem(f"--{name.replace('_', '-')}", f"{options.to} has no use for it", str(value))
        for name, value in given.items()
        if value and name not in used
    ]
    if options.to == "bedrock" and options.request.model and options.request.answers:
        message = "Bedrock either asks a model or judges answers"
        problems.append(Problem("--answers", message, fix="Leave out --model or --answers"))
    return problems


def check_folder(out: Path) -> None:
    """Raise if a folder holds anything but an earlier export.

    Raises:
        RunError: It does.
    """
    if out.exists() and not (out / MANIFEST).is_file() and (out.is_file() or any(out.iterdir())):
        raise RunError(f"--out {out} exists and is not an export: name another folder")


def write_export(out: Path, files: Mapping[str, str]) -> None:
    """Write the files of an export; the folder appears complete, in place of an earlier one.

    Args:
        out: The folder.
        files: Text of each file, by its path in the folder.
    """
    out = out.absolute()
    building, earlier = (out.with_name(f".{out.name}.{end}") for end in ("writing", "earlier"))
    shutil.rmtree(building, ignore_errors=True)
    for path, text in files.items():
        file = building / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    if out.exists():
        shutil.rmtree(earlier, ignore_errors=True)
        out.rename(earlier)
    building.rename(out)
    shutil.rmtree(earlier, ignore_errors=True)


def _with_fix(exported: ExportedSuite) -> list[Problem]:
    """Return what cannot be exported; the last one says what to do, if anything is left."""
    problems = list(exported.problems)
    if exported.tasks:
        last = problems[-1]
        fix = f"--partial exports the rest: {', '.join(exported.tasks)}"
        problems[-1] = Problem(last.path, last.message, last.value, fix)
    return problems


def _manifest(
    options: SuiteExportOptions, suite: Suite, items: Items, exported: ExportedSuite
) -> str:
    digests = {
        task.name: task_digest(task, [item.to_json() for item in items[task.name]])
        for task in suite.tasks
        if task.name in exported.tasks
    }
    document = {
        "format": options.to,
        "suite": suite.suite,
        "suite_digest": suite.digest,
        "tasks": digests,
        "not_exported": [problem.message for problem in exported.problems],
        "notes": list(exported.notes),
        "commands": list(exported.commands),
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"
