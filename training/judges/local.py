"""A judge on this machine: a model of its own, or the one that the job is about."""

from __future__ import annotations

from collections.abc import Sequence

from training.config.judges import LocalJudge
from training.data.schema.rows import Message
from training.errors import RunError
from training.judges.base import JudgeContext
from training.judges.local_generator import LocalGenerator


class _LocalJudge:
    def __init__(self, section: LocalJudge, answerer: LocalGenerator):
        self._section = section
        self._answerer = answerer

    def replies(self, questions: Sequence[list[Message]]) -> list[str]:
        return self._answerer.answers(
            questions,
            max_new_tokens=self._section.max_new_tokens,
            temperature=self._section.temperature,
        )


def build(section: LocalJudge, place: JudgeContext) -> _LocalJudge:
    """Return the judge.

    Raises:
        ModelError: Its model cannot be read.
        RunError: It names none, and there is none to stand in.
    """
    if section.source is not None:
        return _LocalJudge(
            section,
            LocalGenerator.load(
                section.source, section.chat_template, place.device, section.batch_size
            ),
        )
    if place.own is None:
        raise RunError("judge local: name the model that judges, in source")
    return _LocalJudge(section, place.own())
