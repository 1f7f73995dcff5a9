"""Texts of the examples in a report, without the values that any step of the job finds.

A step that only reports leaves a secret in the row, and a step before it has not looked for one
yet. An example is therefore searched by all steps that find secrets and personal data, wherever
they are in the list.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from preparation.rows import PreparedRow
from preparation.steps.normalise import NormaliseStep
from preparation.steps.step import Finding, Rule, StepSection

_EXCERPT = 240
_SEARCHED_CHARACTERS = 65_536
"""Characters of a row that are searched for what its example must hide: more than the longest
secret that a pattern knows (a private key) and the names of some pages around the example."""


class ExampleTexts:
    """Beginnings of rows for a report.

    Args:
        sections: All steps of the job, also those of other passes.
    """

    def __init__(self, sections: Sequence[Any] = ()):
        self._sections = [section for section in sections if isinstance(section, StepSection)]

    @property
    def hide_values(self) -> bool:
        """True if a step of the job finds values that no report may show."""
        return any(type(section).finder is not StepSection.finder for section in self._sections)

    @cached_property
    def _finders(self) -> list[Rule]:
        finders = (section.finder() for section in self._sections)
        return [finder for finder in finders if finder is not None]

    @cached_property
    def _normalise(self) -> Any:
        """Rule of the step `normalise`: it removes what hides a value, such as a soft hyphen."""
        found = (section for section in self._sections if isinstance(section, NormaliseStep))
        return next((section.build() for section in found), None)

    def excerpt(self, row: PreparedRow, findings: Sequence[Finding] = ()) -> str:
        """Return the beginning of what a row says, with findings hidden.

        Args:
            row: The row.
            findings: Findings of the step that shows the row.
        """
        row, findings = _beginning(row, findings)
        row = _hidden(row, [*findings, *self._found(row)])
        if self._normalise is not None and self._finders:
            row = row.with_texts(
                self._normalise.examine(row).texts or [part.text for part in row.parts()]
            )
            row = _hidden(row, self._found(row))
        texts = [part.text for part in row.content()]
        joined = " ⏎ ".join(" ".join(text[: 2 * _EXCERPT].split()) for text in texts)
        return joined if len(joined) <= _EXCERPT else joined[: _EXCERPT - 1] + "…"

    def _found(self, row: PreparedRow) -> list[Finding]:
        return [finding for rule in self._finders for finding in rule.examine(row).findings]


def _beginning(
    row: PreparedRow, findings: Sequence[Finding]
) -> tuple[PreparedRow, Sequence[Finding]]:
    """Return the beginning of a long row that is searched, with the findings in it."""
    texts = [part.text for part in row.parts()]
    if sum(map(len, texts)) <= _SEARCHED_CHARACTERS:
        return row, findings
    room = _SEARCHED_CHARACTERS
    for index, text in enumerate(texts):
        texts[index] = text[:room]
        room -= len(texts[index])
    inside = [
        found._replace(end=min(found.end, len(texts[found.part])))
        for found in findings
        if found.start < len(texts[found.part])
    ]
    return row.with_texts(texts), inside


def _hidden(row: PreparedRow, findings: Sequence[Finding]) -> PreparedRow:
    """Return a row with the kind of each finding in its place; of overlapping ones all is hidden.

    Args:
        row: The row.
        findings: Findings in its `parts()`.
    """
    texts = [part.text for part in row.parts()]
    start_of_next: dict[int, int] = {}
    for finding in sorted(findings, key=lambda found: (found.end, found.start), reverse=True):
        text = texts[finding.part]
        end = min(finding.end, start_of_next.get(finding.part, len(text)))
        if finding.start < end:
            texts[finding.part] = f"{text[: finding.start]}⟨{finding.kind}⟩{text[end:]}"
            start_of_next[finding.part] = finding.start
    return row.with_texts(texts)
