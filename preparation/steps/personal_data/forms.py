"""Forms that a finding of the recognizer must have to be what it says.

The recognizer learned from sentences. In code, JSON and tables it takes numbers for telephone
numbers and identifiers for names, which their form excludes.
"""

from __future__ import annotations

import re
import string

from preparation.recognizer.kinds import Kind
from preparation.recognizer.recognizer import KindSpan

# Signs of code and markup, which occur in no name, address or number of a person.
_CODE = re.compile(r"[{}\[\]<>=\\\"_]")
# ITU-T E.164 allows 15 digits; a prefix of international calls and an extension may be added.
_MIN_PHONE_DIGITS, _MAX_PHONE_DIGITS = 7, 22
_MIN_IDENTITY_LENGTH = 5
_POSTCODE = re.compile(r"(?=[^0-9]*[0-9])[A-Za-z0-9][A-Za-z0-9 \-]{1,10}[A-Za-z0-9]")
# A word joined by a hyphen, as in `order-2041`: postcodes and numbers of documents have capitals.
_WORD = re.compile(r"[a-z]{3}")
_PHONE = re.compile(r"[0-9()+./\s\-–:,#*]*(?:(?:x|ext)[.:]?\s*[0-9]+)?", re.IGNORECASE)


def has_form(text: str, span: KindSpan) -> bool:
    """Return whether a finding can be of its kind, by its characters and its neighbours."""
    value = text[span.start : span.end]
    if span.kind in ("username", "url"):
        return True
    if _CODE.search(value) or _is_identifier_part(text, span):
        return False
    return _has_characters(_joined(text, span), span.kind)


def _joined(text: str, span: KindSpan) -> str:
    """Return a finding with the characters that hyphens, or spaces in a number, join to it."""
    if span.kind in ("person", "address"):
        return text[span.start : span.end]
    joins = "0123456789- " if span.kind == "phone" else f"{string.ascii_letters}{string.digits}-"
    start, end = span.start, span.end
    while start > 0 and text[start - 1] in joins:
        start -= 1
    while end < len(text) and text[end] in joins:
        end += 1
    return text[start:end].strip()


def _has_characters(value: str, kind: Kind) -> bool:
    digits = sum(character.isdigit() for character in value)
    letters = sum(character.isalpha() for character in value)
    if kind == "phone":
        enough = _MIN_PHONE_DIGITS <= digits <= _MAX_PHONE_DIGITS
        return enough and _PHONE.fullmatch(value) is not None
    if kind in ("zip_code", "driver_license", "passport", "id_number"):
        if kind != "id_number" and _WORD.search(value):
            return False
        if kind == "zip_code":
            return _POSTCODE.fullmatch(value) is not None
        return digits > 0 and len(value) >= _MIN_IDENTITY_LENGTH
    if kind == "person":
        return letters > digits
    if kind == "address":
        return letters > 2
    return True


def _is_identifier_part(text: str, span: KindSpan) -> bool:
    """Return whether letters, an underscore, a member or a call join the finding: `np.array`."""
    before, after = text[max(0, span.start - 2) : span.start], text[span.end : span.end + 2]
    if before[-1:] == "_" or after[:1] == "_" or after[:1] == "(":
        return True
    if span.kind in ("phone", "zip_code") and re.search(r"[A-Za-z0-9]\.\Z", before):
        return True
    member_before = len(before) == 2 and before[1] == "." and before[0].isalnum()
    member_after = len(after) == 2 and after[0] == "." and after[1].islower()
    return span.kind == "person" and (member_before or member_after)
