"""Secrets in rows: keys, tokens, passwords and connection strings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from preparation.rows import PreparedRow, TextPart
from preparation.steps.secrets.scanner import SecretScanner, SecretSpan
from preparation.steps.step import Examination, Finding, Rule, StepSection

_NAMES_A_SECRET = re.compile(r"(?i)passw|passphrase|pwd|secret|token|key|credential|auth")
_MAX_ARGUMENT_CHARACTERS = 512


class SecretsStep(StepSection):
    """Finds secrets, and can replace them or reject their rows."""

    step: Literal["secrets"]
    action: Literal["report", "replace", "drop"] = "report"
    """`report` counts secrets; `replace` writes `[SECRET_AWS_KEY]` and the like in their place;
    `drop` rejects their rows."""

    def build(self) -> Rule:
        """Return the rule."""
        return _SecretsRule(self.action)

    def finder(self) -> Rule:
        """Return the rule that finds secrets and changes nothing."""
        return _SecretsRule("report")


class _SecretsRule(Rule):
    def __init__(self, action: Literal["report", "replace", "drop"]):
        self._action = action
        self._scanner = SecretScanner()

    def examine(self, row: PreparedRow) -> Examination:
        parts = row.parts()
        spans = [_scan(self._scanner, part) for part in parts]
        # Without betterleaks fewer kinds are found: the tag tells it to the report.
        reduced = self._scanner.rules != "betterleaks"
        tags = {"secret_rules": self._scanner.rules} if reduced else {}
        if not any(spans):
            return Examination(tags=tags)
        findings = tuple(
            Finding(span.kind, index, span.start, span.end)
            for index, found in enumerate(spans)
            for span in found
        )
        texts = None
        if self._action == "replace":
            texts = tuple(map(_replaced, (part.text for part in parts), spans))
        reasons = ("secret",) if self._action == "drop" else ()
        return Examination(reasons=reasons, findings=findings, tags=tags, texts=texts)


def _scan(scanner: SecretScanner, part: TextPart) -> list[SecretSpan]:
    """Return the secrets of a text; the name of an argument of a tool call says what it holds."""
    name = part.path[-1]
    if (
        part.role == "arguments"
        and isinstance(name, str)
        and len(part.text) <= _MAX_ARGUMENT_CHARACTERS
        and _NAMES_A_SECRET.search(name)
    ):
        prefix = f'{name} = "'
        shifted = scanner.scan(f'{prefix}{part.text}"')
        return [
            SecretSpan(span.kind, span.start - len(prefix), span.end - len(prefix))
            for span in shifted
            if span.start >= len(prefix) and span.end <= len(prefix) + len(part.text)
        ]
    return scanner.scan(part.text)


def _replaced(text: str, spans: Sequence[SecretSpan]) -> str:
    pieces: list[str] = []
    position = 0
    for span in spans:
        pieces += [text[position : span.start], f"[SECRET_{span.kind.upper()}]"]
        position = span.end
    return "".join([*pieces, text[position:]])
