"""Model that a deployment serves: its files, its training set, its registered evaluations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from monitoring.errors import WatchError
from monitoring.prompt_answer import PromptAnswer, pairs_of_row
from training.config.data import Source
from training.config.job import Job
from training.config.load import parse_job
from training.data.readers.records import BadRecord
from training.data.readers.sources import locate
from training.data.schema.rows import RowError
from training.data.schema.schema_reader import SchemaReader
from training.errors import DataError
from training.run_folder import RunFolder

if TYPE_CHECKING:
    from registry.record import ModelRecord


@dataclass(frozen=True)
class WatchedModel:
    """Model that a deployment serves.

    Attributes:
        name: Name as the user wrote it.
        source: Folder, GGUF file or Hub id, to load it from.
        job: Job that trained it; None if it is not known.
        evaluations: What is registered of its evaluations, as `ModelRecord` has it.
    """

    name: str
    source: str
    job: Job | None = None
    evaluations: Sequence[Mapping[str, Any]] = ()

    @property
    def training_set(self) -> str:
        """Sources of its training set, in words; empty if they are not known."""
        if self.job is None:
            return ""
        return ", ".join(source.source for source in self.job.data.train) or "prompts of the job"


def find_watched_model(name: str, registry: Path) -> WatchedModel:
    """Return the model that a user names.

    Args:
        name: NAME@VERSION of the registry, a run, a folder, a GGUF file or a Hub id.
        registry: Folder of the registry.

    Raises:
        RegistryError: There is no such version.
        JobError: The job of a version cannot be used by this version of Temper.
    """
    if "@" in name and not Path(name).exists():
        from registry.blobs import blob_path
        from registry.store import LocalRegistry

        record = LocalRegistry(registry).find(name)
        job = _job(blob_path(registry, record.evidence["job.yaml"].sha256), name)
        return WatchedModel(record.id, _form(registry, record), job, record.evaluations)
    run = RunFolder(Path(name))
    if run.state is None:
        return WatchedModel(name, name)
    from registry.evidence import find_results, summary

    # The model of a pipeline is a link to that of its last stage that trains.
    trained = run.model.resolve().parent
    results, _ = find_results(trained)
    evaluations = [summary(result, "") for result in results.values()]
    return WatchedModel(name, name, _job(trained / "job.yaml", name), evaluations)


def _form(registry: Path, record: ModelRecord) -> str:
    from registry.blobs import blob_path
    from registry.checkout import checkout

    if "gguf" in record.forms and len(record.forms) == 1:
        (file,) = record.forms["gguf"].values()
        return str(blob_path(registry, file.sha256))
    return str(checkout(registry, record))


def _job(path: Path, name: str) -> Job | None:
    job = parse_job(yaml.safe_load(path.read_text(encoding="utf-8")), name)
    return job if isinstance(job, Job) else None


def training_pairs(model: WatchedModel) -> Iterator[PromptAnswer]:
    """Yield the pairs of a model's training set.

    Raises:
        WatchError: The training set is not known, or is no longer where it was.
    """
    job = model.job
    if job is None:
        raise WatchError(
            f"{model.name} does not say what it was trained on. Name the training set with "
            f"--reference FILE, or the registered version or the run with --model"
        )
    for prompt in job.data.prompts:
        yield PromptAnswer(prompt)
    for source in job.data.train:
        try:
            yield from source_pairs(source)
        except DataError as error:
            raise WatchError(
                f"the training set of {model.name} cannot be read here: {error}. Name a copy of it "
                f"with --reference FILE"
            ) from None


def source_pairs(source: Source) -> Iterator[PromptAnswer]:
    """Yield the pairs of a source of rows; records that are no rows are left out.

    Raises:
        DataError: It cannot be read.
    """
    reader = SchemaReader(source, "any")
    for number, (_, record) in enumerate(locate(source).records()):
        if source.limit is not None and number >= source.limit:
            return
        if isinstance(record, BadRecord):
            continue
        try:
            row = reader.read(record)
        except RowError:
            continue
        yield from pairs_of_row(row)
