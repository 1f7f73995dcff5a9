"""Synthesis as a source of a preparation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from preparation.config.job import PreparationJob
from preparation.config.source import PreparedSource
from preparation.executors.nodes import this_node
from preparation.storage import is_s3
from preparation.synthesis.models import model_name
from preparation.synthesis.run import synthesize
from training.errors import JobError, Problem

_FOLDER = "synthesized"
_TAGS = (
    "synthesized_by",
    "passage_id",
    "quote",
    "paraphrase_of",
    "evolved_from",
    "operation",
    "round",
    "judge_rating",
)


def with_synthesized(job: PreparationJob, say: Callable[[str], None]) -> PreparationJob:
    """Return the job with the rows of its section `synthesize` as one more source.

    They are written first, into `OUTPUT/NAME/synthesized`; requests that were answered before are
    not made again.

    Args:
        job: The job.
        say: Prints a line of progress.

    Raises:
        DataError: A source cannot be read, or no row was written.
        JobError: The preparation runs on several nodes, or its output is in S3.
        RunError: A model cannot be reached, or the cost could exceed the limit.
    """
    section = job.synthesize
    if section is None:
        return job
    _check_place(job)
    folder = Path(job.prepare.output) / job.name / _FOLDER
    rows = synthesize(section, folder, say)
    source = PreparedSource(
        source=str(rows),
        group_by="group",
        tags=_TAGS,
        license=section.teacher_terms,
        origin=f"written by the model {model_name(section.teacher)}",
    )
    others = tuple(other for other in job.prepare.sources if other.source != source.source)
    prepare = job.prepare.model_copy(update={"sources": (*others, source)})
    return job.model_copy(update={"prepare": prepare})


def _check_place(job: PreparationJob) -> None:
    """Check that one process on one machine writes the rows, so that no reply is paid for twice.

    Raises:
        JobError: The preparation runs on several nodes, or its output is in S3.
    """
    fix = "Run the synthesis on one machine first, then name its data/rows.jsonl in prepare.sources"
    problems = []
    if is_s3(job.prepare.output):
        message = "the journal of a synthesis needs a local folder"
        problems.append(Problem("prepare.output", message, job.prepare.output, fix))
    if (count := this_node().count) > 1:
        message = "each node would send, and pay for, every request"
        problems.append(Problem("synthesize", message, f"{count} nodes", fix))
    if problems:
        raise JobError(job.name, problems)
