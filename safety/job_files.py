"""Files that `evaluate.safety` of a job names, read without torch."""

from __future__ import annotations

from pathlib import Path

from safety.bbq import DEFAULT_QUESTIONS, BbqItem, read_questions
from safety.probes import DEFAULT_PROBES, ProbeSet, read_probes
from training.config import Job, Pipeline
from training.config.safety import Bias, Redteam
from training.errors import JobError, Problem


def probes_of(section: Redteam) -> ProbeSet:
    """Return the probes that a job names.

    Raises:
        JobError: The file cannot be used.
    """
    return read_probes(DEFAULT_PROBES if section.probes is None else Path(section.probes))


def questions_of(section: Bias) -> list[BbqItem]:
    """Return the questions that a job names.

    Raises:
        DataError: A file cannot be used.
    """
    files = [Path(path) for path in section.questions] or [DEFAULT_QUESTIONS]
    return [question for path in files for question in read_questions(path)][: section.limit]


def check_files(job: Job | Pipeline) -> None:
    """Read all files that `evaluate.safety` names, so that a mistake is found before training.

    Raises:
        JobError: A file of probes cannot be used, or a limit has nothing to be measured with.
        DataError: A file of questions cannot be used.
    """
    for run in job.stages if isinstance(job, Pipeline) else (job,):
        safety = run.evaluate.safety
        if safety is not None and safety.redteam is not None:
            _check_limits(safety.redteam, probes_of(safety.redteam))
        if safety is not None and safety.bias is not None:
            questions_of(safety.bias)


def _check_limits(section: Redteam, probes: ProbeSet) -> None:
    kinds = {probe.kind for probe in probes.probes}
    contents = {
        "max_answered": ("request" in kinds, "requests"),
        "max_leaked": ("leak" in kinds, "leaks"),
        "max_over_refused": ("harmless" in kinds, "harmless"),
        "max_broken": (bool(probes.conversations), "conversations"),
    }
    problems = [
        Problem(
            f"evaluate.safety.redteam.{key}",
            f"has nothing to be measured with: the file of probes has no {content}",
            section.probes or "",
            f"Add {content} to the file, or leave the limit out",
        )
        for key, (has, content) in contents.items()
        if getattr(section, key) is not None and not has
    ]
    if problems:
        raise JobError(str(section.probes), problems)
