"""Judge on this machine: a model of its own, or the model of the job."""

from __future__ import annotations

from collections.abc import Sequence

from training.config.judges import LocalJudge
from training.data.schema.rows import Message
from training.errors import RunError
from training.judges.base import JudgeContext
from training.judges.local_generator import LocalGenerator


class _LocalJudge:
    def __init__(self, section: LocalJudge, generator: LocalGenerator):
        self._section = section
        self._generator = generator

    def replies(self, questions: Sequence[list[Message]]) -> list[str]:
        return self._generator.generate(
            questions,
            max_new_tokens=self._section.max_new_tokens,
            temperature=self._section.temperature,
        )


def build(section: LocalJudge, context: JudgeContext) -> _LocalJudge:
    """Return the judge.

    Raises:
        ModelError: Its model cannot be read.
        RunError: The section names no model, and the job has none that could judge.
    """
    if section.source is not None:
        return _LocalJudge(
            section,
            LocalGenerator.load(
                section.source, section.chat_template, context.device, section.batch_size
            ),
        )
    if context.own_generator is None:
        raise RunError("judge local: name the model that judges, in source")
    return _LocalJudge(section, context.own_generator())
