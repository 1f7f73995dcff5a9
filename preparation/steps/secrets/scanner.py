"""Search for secrets with the rules of betterleaks and with patterns of this project."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from preparation.steps.secrets.patterns import PATTERNS, is_example

_KIND_OF_RULE = (
    ("aws-secret", "aws_secret_key"),
    ("aws-", "aws_key"),
    ("github-", "github_token"),
    ("gitlab-", "gitlab_token"),
    ("gcp-", "google_key"),
    ("huggingface-", "hugging_face_token"),
    ("openai-", "openai_key"),
    ("anthropic-", "anthropic_key"),
    ("slack-", "slack_token"),
    ("stripe-", "stripe_key"),
    ("private-key", "private_key"),
    ("jwt", "jwt"),
    ("generic-password", "password"),
    ("generic-credential-uri", "connection_string"),
)
"""Begin of the name of a rule of betterleaks -> kind. Other rules are kinds of their own."""
_IDENTIFIER_RULES = re.compile(
    r"(?<!access-key)-id(\.\d+)?$|-(user|account-|cloud-|token-)?name(\.\d+)?$"
    r"|-(domain|host|instance-url|project-url|rest-url|jfrog-url)(\.\d+)?$"
)
"""Rules of betterleaks for identifiers and addresses, which are public."""
_UNSCANNABLE = re.compile("[\x00\ud800-\udfff]")
"""Characters that end a C string, or that UTF-8 cannot encode."""


_CONTINUATION_BYTES = bytes(range(0x80, 0xC0))
"""Bytes of a character in UTF-8 after its first."""


class SecretSpan(NamedTuple):
    """Secret in a text.

    Attributes:
        kind: Kind of the secret.
        start: First character.
        end: Character after the last one.
    """

    kind: str
    start: int
    end: int


class SecretScanner:
    """Finds secrets in texts.

    If betterleaks cannot be loaded on this platform, only the project's own patterns search;
    `rules` says so.
    """

    @cached_property
    def rules(self) -> str:
        """Rules that search: `betterleaks` and the project's own, or `patterns` only."""
        return "patterns" if self._binding is None else "betterleaks"

    @cached_property
    def _binding(self) -> Any:
        """Binding of betterleaks, or None.

        It is loaded in the process that scans: a Go library does not survive a fork.
        """
        try:
            from betterleaks import _lib

            return _lib.get_binding()
        except Exception as error:  # no wheel, no library, or one for another processor
            warnings.warn(
                f"betterleaks cannot be loaded ({error}): secrets are searched with "
                f"{len(PATTERNS)} patterns instead of its 460 rules",
                stacklevel=2,
            )
            return None

    def scan(self, text: str) -> list[SecretSpan]:
        """Return the secrets of a text in order, without overlaps."""
        text = _UNSCANNABLE.sub(" ", text)
        return _without_overlaps([*_own_matches(text), *self._betterleaks_matches(text)])

    def _betterleaks_matches(self, text: str) -> Iterator[SecretSpan]:
        if self._binding is None:
            return
        found = self._binding.scan_string(text).get("data") or []
        findings = [one for one in found if not _IDENTIFIER_RULES.search(one["rule_id"])]
        if not findings:
            return
        encoded = text.encode()
        lines = [0, *(at.end() for at in re.finditer(b"\n", encoded))]
        spans = [_byte_span(encoded, lines, finding) for finding in findings]
        character = _character_offsets(encoded, {offset for span in spans for offset in span})
        for finding, (start, end) in zip(findings, spans, strict=True):
            yield SecretSpan(_kind(finding["rule_id"]), character[start], character[end])


def _own_matches(text: str) -> Iterator[SecretSpan]:
    lower = text.lower()
    for one in PATTERNS:
        if not any(anchor in lower for anchor in one.anchors):
            continue
        for match in one.pattern.finditer(text):
            groups = match.groupdict()
            group = next((name for name in ("value", "bare") if groups.get(name)), 0)
            if not is_example(match[group]):
                yield SecretSpan(one.kind, *match.span(group))


def _kind(rule: str) -> str:
    known = (kind for start, kind in _KIND_OF_RULE if rule.startswith(start))
    if rule.endswith("connection-string"):
        return "connection_string"
    return next(known, re.sub(r"\.\d+$", "", rule).replace("-", "_"))


def _character_offsets(text: bytes, offsets: Iterable[int]) -> dict[int, int]:
    """Return the number of characters before each byte offset, in one pass over the text."""
    characters = {}
    position = count = 0
    for offset in sorted(offsets):
        count += len(text[position:offset].translate(None, _CONTINUATION_BYTES))
        characters[offset] = count
        position = offset
    return characters


def _byte_span(text: bytes, lines: Sequence[int], finding: dict[str, Any]) -> tuple[int, int]:
    """Return the first byte of a secret and the byte after it.

    Args:
        text: The text in UTF-8.
        lines: Byte offset of each line.
        finding: Finding of betterleaks.
    """
    location, match = finding["location"], finding["match"]
    begin = lines[location["start_line"] - 1] + location["start_column"] - 1
    full, value = match["full"].encode(), match["value"].encode()
    if not text.startswith(full, begin):
        # A secret that was decoded, from base64 for instance: all of the encoded text.
        return begin, lines[location["end_line"] - 1] + location["end_column"]
    # The value comes after its name, which may contain it: `password = password1`.
    start = begin + max(0, full.rfind(value))
    return start, start + (len(value) or len(full))


def _without_overlaps(spans: list[SecretSpan]) -> list[SecretSpan]:
    """Return spans in order; of overlapping ones the union, with the kind of the first given."""
    merged: list[tuple[int, SecretSpan]] = []
    for place, span in sorted(enumerate(spans), key=lambda one: (one[1].start, -one[1].end)):
        if merged and span.start < merged[-1][1].end:
            other_place, other = merged[-1]
            kind = span.kind if place < other_place else other.kind
            union = SecretSpan(kind, other.start, max(other.end, span.end))
            merged[-1] = (min(place, other_place), union)
        else:
            merged.append((place, span))
    return [span for _, span in merged]
