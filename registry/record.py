"""Record of a registered version: identity, evidence, provenance and stage, as JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

from registry.errors import RegistryError
from registry.version import Change, SemanticVersion, parse_version

FORMAT = 1
"""Version of the shape of a record."""
Stage = Literal["none", "candidate", "staging", "production", "archived"]
STAGES: tuple[str, ...] = get_args(Stage)


@dataclass(frozen=True)
class FileDigest:
    """A file of a version.

    Attributes:
        sha256: SHA-256 of its content.
        size_bytes: Its size.
    """

    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Provenance:
    """Origin of a version.

    Attributes:
        run: Name and id of the run, `NAME/ID`; of a stage, `NAME/ID/stages/STAGE`.
        base: Base model as the job names it.
        base_digest: Digest of the base's weights; None if it is not known.
        tokenizer: Digest of the tokenizer's vocabulary.
        method: Kind of the training method.
        adapter: Kind of the adapter; None for full fine-tuning.
        data: Digests of the training and validation rows and of prepared sources.
        job_sha256: SHA-256 of the resolved job file.
        code: Version of Temper, commit and package versions.
        seed: Seed of the run.
        hours: Measured duration; None if it was not measured.
        cost_usd: Cost of these hours at the price of the plan; None if the plan has no price.
        weights: Digest of the weights of each form, as `base_digest` is of the base.
        mlflow_run: Id of the MLflow run in which the training was tracked; None if it was not.
    """

    run: str
    base: str
    base_digest: str | None
    tokenizer: str | None
    method: str
    adapter: str | None
    data: dict[str, Any]
    job_sha256: str
    code: dict[str, Any]
    seed: int | None = None
    hours: float | None = None
    cost_usd: float | None = None
    weights: dict[str, str] = field(default_factory=dict)
    mlflow_run: str | None = None


@dataclass(frozen=True)
class StageChange:
    """Change of a version's stage.

    Attributes:
        stage: The new stage.
        approver: Login name of the person who made the change.
        time: Time in UTC, ISO 8601.
        reason: Why; None if none was given.
    """

    stage: str
    approver: str
    time: str
    reason: str | None = None


@dataclass(frozen=True)
class ModelRecord:
    """One version of a model.

    Attributes:
        name: Name of the model.
        version: Semantic version.
        created: Time of the registration in UTC, ISO 8601.
        registered_by: Login name of the person who registered it.
        forms: Files of each form (`safetensors`, `adapter`, `gguf`), by path.
        evidence: Files of the run that prove the rest: job, manifest, results, model card.
        evaluations: The run's results on each suite.
        provenance: Origin of the version.
        override: Reason why problems were overridden; None if there were none.
        overridden: The problems that were overridden.
        transitions: Changes of the stage, oldest first.
    """

    name: str
    version: SemanticVersion
    created: str
    registered_by: str
    forms: dict[str, dict[str, FileDigest]]
    evidence: dict[str, FileDigest]
    evaluations: tuple[dict[str, Any], ...]
    provenance: Provenance
    override: str | None = None
    overridden: tuple[str, ...] = ()
    transitions: tuple[StageChange, ...] = field(default=())

    @property
    def id(self) -> str:
        """Name and version, `NAME@VERSION`."""
        return f"{self.name}@{self.version}"

    @property
    def stage(self) -> str:
        """Current stage."""
        return self.transitions[-1].stage if self.transitions else "none"

    @property
    def approver(self) -> str | None:
        """Login name of the person who made the last change of the stage."""
        return self.transitions[-1].approver if self.transitions else None

    def with_stage(self, transition: StageChange) -> ModelRecord:
        """Return the record after a change of its stage."""
        return replace(self, transitions=(*self.transitions, transition))

    def to_json(self) -> str:
        """Return the text of the record's file; equal records have equal texts."""
        document = {"format": FORMAT, **asdict(self), "version": str(self.version)}
        document["trees"] = {name: tree_digest(files) for name, files in self.forms.items()}
        return json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n"


def record_from_json(text: str) -> ModelRecord:
    """Return a record from the text of its file.

    Raises:
        ValueError: The text is not a record, is one of another format, or a form's files differ
            from its tree digest.
    """
    document = json.loads(text)
    if not isinstance(document, dict) or document.pop("format", None) != FORMAT:
        raise ValueError(f"not a record of format {FORMAT}")
    try:
        trees = dict(document.pop("trees"))
        record = ModelRecord(
            version=parse_version(document.pop("version")),
            forms={form: _files(files) for form, files in document.pop("forms").items()},
            evidence=_files(document.pop("evidence")),
            evaluations=tuple(document.pop("evaluations")),
            provenance=Provenance(**document.pop("provenance")),
            overridden=tuple(document.pop("overridden")),
            transitions=tuple(StageChange(**change) for change in document.pop("transitions")),
            **document,
        )
    except (KeyError, TypeError, AttributeError, RegistryError) as error:
        raise ValueError(f"not a record of format {FORMAT}: {error}") from error
    for form, files in record.forms.items():
        if tree_digest(files) != trees.get(form):
            raise ValueError(
                f"the files of the form {form} do not have the digest {trees.get(form)}"
            )
    return record


def _files(document: Mapping[str, Mapping[str, Any]]) -> dict[str, FileDigest]:
    return {path: FileDigest(**entry) for path, entry in document.items()}


def tree_digest(files: Mapping[str, FileDigest]) -> str:
    """Return the digest of a folder: SHA-256 of its sorted `SHA256SUMS`."""
    lines = [f"{files[path].sha256}  {path}\n" for path in sorted(files)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def change_between(old: Provenance, new: Provenance) -> Change:
    """Return which part of the version a new model raises."""
    if old.base_digest is not None and new.base_digest is not None:
        other_base = old.base_digest != new.base_digest
    else:
        other_base = old.base != new.base
    if other_base or old.tokenizer != new.tokenizer:
        return "major"
    was, now = ((p.data, p.method, p.adapter) for p in (old, new))
    return "patch" if was == now else "minor"
