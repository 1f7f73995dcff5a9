"""Implementation of `temper register`, `models`, `diff-models`, `promote` and `lineage`."""

from __future__ import annotations

import getpass
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from launch.confirm import confirm
from registry.errors import RegistrationRefused, RegistryError
from registry.lineage import lineage_lines
from registry.model_diff import diff_lines
from registry.record import STAGES, ModelRecord, StageChange, change_between
from registry.remote.base import RemoteRegistry
from registry.remote.command import promote_there
from registry.run_model import RunModel, read_run_model
from registry.store import LocalRegistry
from registry.table import aligned
from registry.version import FIRST, SemanticVersion, parse_version
from training.console import say

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


@dataclass(frozen=True)
class RegisterOptions:
    """Options of `temper register`.

    Attributes:
        run: Folder of the run.
        registry: Folder of the registry.
        name: Name of the model; that of the job if None.
        version: Version; the next one if None.
        override: Reason to register a run without evidence of its quality.
    """

    run: Path
    registry: Path
    name: str | None = None
    version: str | None = None
    override: str | None = None


def register_model(options: RegisterOptions) -> ModelRecord:
    """Register the model of a run as the next version of its name.

    Raises:
        RegistrationRefused: The run lacks what a version needs.
        RegistryError: The version exists, or the registry cannot be written.
    """
    if options.override is not None and not options.override.strip():
        raise RegistryError("--override needs a reason, which the registry records")
    wanted = None if options.version is None else parse_version(options.version)
    model = read_run_model(options.run)
    name = options.name or model.name
    if not _NAME.fullmatch(name):
        raise RegistryError(
            f"{name!r} is not a name: up to 63 letters, digits, '.', '_' and '-'. Set --name"
        )
    if model.problems and options.override is None:
        raise RegistrationRefused(str(options.run), model.problems, overridable=True)
    store = LocalRegistry(options.registry)
    record = store.add(name, _files(model), _builder(model, name, wanted, options.override))
    say(f"registered {record.id} in {options.registry}: {', '.join(record.forms)}")
    for problem in record.overridden:
        say(f"  overridden ({record.override}): {problem}")
    return record


def _files(model: RunModel) -> list[tuple[Path, str]]:
    files = []
    for form, digests in model.forms.items():
        place = model.folders[form]
        root = place if place.is_dir() else place.parent
        files += [(root / path, file.sha256) for path, file in digests.items()]
    roots = (model.run, model.run.parent.parent)  # evidence of a pipeline is in its own folder
    for path, file in model.evidence.items():
        files.append((next(r / path for r in roots if (r / path).is_file()), file.sha256))
    return files


def _builder(
    model: RunModel, name: str, wanted: SemanticVersion | None, override: str | None
) -> Callable[[list[ModelRecord]], ModelRecord]:
    """Return the function that builds the record, given the versions that exist.

    Args:
        model: Model of the run.
        name: Name of the model.
        wanted: Version that the user wants.
        override: Reason for the override.
    """

    def build(existing: list[ModelRecord]) -> ModelRecord:
        version = wanted or _next_version(existing, model)
        return ModelRecord(
            name=name,
            version=version,
            created=_now(),
            registered_by=getpass.getuser(),
            forms=model.forms,
            evidence=model.evidence,
            evaluations=model.evaluations,
            provenance=model.provenance,
            override=override if model.problems else None,
            overridden=model.problems,
        )

    return build


def _next_version(existing: list[ModelRecord], model: RunModel) -> SemanticVersion:
    if not existing:
        return FIRST
    newest = existing[-1]
    return newest.version.after(change_between(newest.provenance, model.provenance))


def list_models(registry: Path, name: str | None, *, rebuild: bool) -> int:
    """Print the versions of all models, or those of one with their metrics.

    Args:
        registry: Folder of the registry.
        name: Name of a model.
        rebuild: Whether to check all files and build the index again first.

    Raises:
        RegistryError: The registry is damaged, or has no such model.
    """
    store = LocalRegistry(registry)
    if rebuild:
        say(f"{store.rebuild()} versions in {registry}; every file has its digest")
    records = [store.find(name)] if name and "@" in name else store.records(name)
    if name and not records:
        store.find(name)
    if not records:
        say(f"no models in {registry}. Register one: temper register RUN")
    if not records:
        return 0
    rows = [(r.id, r.stage, r.approver or "-", r.created, ", ".join(r.forms)) for r in records]
    heading, *lines = aligned([("version", "stage", "by", "registered", "forms"), *rows])
    say(heading)
    for record, line in zip(records, lines, strict=True):
        say(line)
        for detail in _details(record) if name else ():
            say(f"  {detail}")
    return 0


def _details(record: ModelRecord) -> list[str]:
    """Return what was overridden, and every metric with its interval."""
    rows = [
        (
            f"{evaluation['suite']}:",
            metric,
            f"{value['value']:.4g}",
            f"(95 % {value['low']:.4g} to {value['high']:.4g}, {value['items']} items)",
        )
        for evaluation in record.evaluations
        for metric, value in evaluation["metrics"].items()
    ]
    return [
        *(f"overridden ({record.override}): {problem}" for problem in record.overridden),
        *aligned(rows),
    ]


def promote_model(
    registry: Path,
    model: str,
    stage: str,
    reason: str | None = None,
    remote: RemoteRegistry | None = None,
) -> int:
    """Change the stage of a version, after confirmation.

    Args:
        registry: Folder of the registry.
        model: NAME@VERSION.
        stage: The new stage.
        reason: Why, for the record.
        remote: Remote registry that is changed first, because it may refuse.

    Raises:
        RegistryError: There is no such version or stage, or a file was changed.
        NotConfirmed: The user declined.
    """
    if stage not in STAGES:
        raise RegistryError(f"{stage!r} is not a stage. Stages: {', '.join(STAGES)}")
    if "@" not in model:
        raise RegistryError(f"{model}: name the version to promote, NAME@VERSION")
    store = LocalRegistry(registry)
    record = store.find(model)
    if record.stage == stage:
        say(f"{record.id} is {stage} already")
        if remote is not None:
            say("`temper models` with the same options makes the registries agree")
        return 0
    now = [
        other
        for other in store.records(record.name)
        if stage == other.stage == "production" and other.version != record.version
    ]
    also = f" {now[0].id} will be archived." if now else ""
    if record.overridden:
        also += f" It was registered by override ({record.override})."
    where = f" here and in {remote.title}" if remote else ""
    confirm(f"Change {record.id} from {record.stage} to {stage}{where}?{also}")
    transition = StageChange(stage, getpass.getuser(), _now(), reason)
    if remote is not None:
        promote_there(remote, [*now, record], transition)
    for changed in store.set_stage(record, transition):
        say(f"{changed.id} is {changed.stage}, approved by {changed.approver}")
    return 0


def diff_models(registry: Path, first: str, second: str) -> int:
    """Print how two versions differ in data, hyper-parameters, metrics and cost.

    Args:
        registry: Folder of the registry.
        first: NAME@VERSION.
        second: NAME@VERSION.

    Raises:
        RegistryError: One of them does not exist, or a file was changed.
    """
    store = LocalRegistry(registry)
    for line in diff_lines(registry, store.find(first), store.find(second)):
        say(line)
    return 0


def print_lineage(registry: Path, model: str) -> int:
    """Print what a version was made of.

    Args:
        registry: Folder of the registry.
        model: NAME@VERSION.

    Raises:
        RegistryError: It does not exist.
    """
    store = LocalRegistry(registry)
    for line in lineage_lines(store.find(model), store.records()):
        say(line)
    return 0


def _now() -> str:
    return time.strftime("%FT%TZ", time.gmtime())
