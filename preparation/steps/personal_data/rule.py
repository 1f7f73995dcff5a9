"""Rule that finds personal data in the texts of a row."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

from preparation.recognizer.recognizer import KindSpan, Recognizer
from preparation.rows import PreparedRow, TextPart
from preparation.steps.personal_data.forms import has_form
from preparation.steps.personal_data.patterns import find_patterns
from preparation.steps.personal_data.replacement import (
    Placeholders,
    Replacer,
    Surrogates,
    normalized,
)
from preparation.steps.personal_data.section import PersonalDataStep
from preparation.steps.personal_data.spans import merge, repeat_names
from preparation.steps.step import Examination, Finding, Rule

REASON = "personal_data"
_TEXTS_AT_ONCE = 64


class PersonalDataRule(Rule):
    """Rule of the step `personal_data`."""

    def __init__(self, section: PersonalDataStep, recognizer: Recognizer | None = None):
        self._section = section
        self._kinds = frozenset(section.kinds)
        self._never = frozenset(normalized(value) for value in section.never)
        self._recognizer = recognizer or Recognizer()
        if section.action == "replace" and section.replace == "surrogates":
            from faker import Faker

            self._faker = Faker("en_US")
            self._key = os.environ[section.key_env].encode() if section.key_env else None

    def examine(self, row: PreparedRow) -> Examination:
        """Examine a row."""
        return self.examine_all([row])[0]

    def examine_all(self, rows: Sequence[PreparedRow]) -> list[Examination]:
        """Examine several rows; equal to examining each."""
        parts = [row.parts() for row in rows]
        texts = [part.text for of_row in parts for part in of_row]
        spans: list[list[KindSpan]] = []
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            spans += self._recognizer.find(texts[start : start + _TEXTS_AT_ONCE])
        results = []
        first = 0
        for row, of_row in zip(rows, parts, strict=True):
            results.append(self._examination(row, of_row, spans[first : first + len(of_row)]))
            first += len(of_row)
        return results

    def _examination(
        self, row: PreparedRow, parts: Sequence[TextPart], recognized: Sequence[list[KindSpan]]
    ) -> Examination:
        texts = [part.text for part in parts]
        merged = [
            merge(text, find_patterns(text), [span for span in found if has_form(text, span)])
            for text, found in zip(texts, recognized, strict=True)
        ]
        spans = [
            [span for span in found if self._wanted(text, span)]
            for text, found in zip(texts, repeat_names(texts, merged), strict=True)
        ]
        findings = tuple(
            Finding(span.kind, part, span.start, span.end)
            for part, found in enumerate(spans)
            for span in found
        )
        if not findings:
            return Examination()
        counts = Counter(finding.kind for finding in findings)
        tags = {"personal_data": ", ".join(f"{kind} {counts[kind]}" for kind in sorted(counts))}
        if self._section.action == "drop":
            return Examination((REASON,), findings, tags)
        if self._section.action == "report":
            return Examination(findings=findings, tags=tags)
        replacer = self._replacer(row)
        changed = tuple(
            replacer.replace(text, found) for text, found in zip(texts, spans, strict=True)
        )
        return Examination(findings=findings, tags=tags, texts=changed)

    def _wanted(self, text: str, span: KindSpan) -> bool:
        if span.kind not in self._kinds:
            return False
        return not self._never or normalized(text[span.start : span.end]) not in self._never

    def _replacer(self, row: PreparedRow) -> Replacer:
        if self._section.replace == "placeholders":
            return Placeholders()
        return Surrogates(self._faker, row.id, self._key)
