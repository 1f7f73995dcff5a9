"""Personal data with a fixed form: e-mail and IP addresses, cards, IBANs, identity numbers.

Numbers with a checksum are verified by python-stdnum, so that an order number of the same length
is not taken for a card. Where the form alone does not decide, a word before the number does.
"""

from __future__ import annotations

import ipaddress
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import NamedTuple

from stdnum import iban, luhn
from stdnum.br import cpf
from stdnum.es import dni, nie
from stdnum.fr import nir
from stdnum.it import codicefiscale

from preparation.recognizer.kinds import Kind
from preparation.recognizer.recognizer import KindSpan

_EMAIL = re.compile(
    r"(?<![\w.+-])[\w.!#$%&'*+/=?^`{|}~-]{1,64}@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.)+[^\W\d_]{2,24}"
)
_IPV4 = re.compile(r"(?<![\w.-])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{1,4}(?![\w:])")
_VERSION_BEFORE = re.compile(r"(?:version|release|firmware|==|\bv\.?|§|section)\s*$", re.IGNORECASE)
_CARD = re.compile(
    r"(?<![\w.,-])(?:\d{4}([ -]?)\d{4}\1\d{4}\1\d{1,7}|\d{12,19}|"
    r"\d{4}[ -]\d{6}[ -]\d{4,5})(?![\w-]|\.\d)"
)
_CARD_WORD = re.compile(
    r"\b(?:card|cards|cc|visa|mastercard|amex|credit|debit|tarjeta|karte|kreditkarte|carte|carta"
    r"|cartão|kaart|kort)\b",
    re.IGNORECASE,
)
_ISSUER = re.compile(r"4|5[0-8]|2[2-7]|3[0-9]|6|1800|2131")
_IBAN = re.compile(r"(?<!\w)[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]{1,4}){3,8}(?!\w)")
_SSN = re.compile(r"(?<![\w-])(?!000|666)\d{3}([- ]?)(?!00)\d{2}\1(?!0000)\d{4}(?![\w-])")
_SSN_WORD = re.compile(r"\b(?:ssn|social security|itin|tin)\b", re.IGNORECASE)
_PHONE = re.compile(
    r"(?<![\w.+-])(?:\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d(?:[ .-]?\d){5,12}"
    r"|(?:1[ .-])?\(\d{2,4}\)[ .-]?\d{3,4}[ .-]\d{3,4}"
    r"|(?:1[.-])?[2-9]\d{2}([.-])\d{3}\1\d{4})(?: ?(?:x|ext\.?) ?\d{1,5})?(?![\w-]|\.\d)",
    re.IGNORECASE,
)
_PROFILE = re.compile(
    r"(?:https?://)?(?:[\w-]+\.)*(?:linkedin\.com/(?:in|pub)/|facebook\.com/|instagram\.com/"
    r"|twitter\.com/|x\.com/|tiktok\.com/@|t\.me/|medium\.com/@|[\w.-]+/(?:~|users?/|people/|@))"
    r"[\w.%-]{2,}/?",
    re.IGNORECASE,
)
_WORDS_BEFORE = 48


class _Identity(NamedTuple):
    """National identity number with a checksum."""

    form: re.Pattern[str]
    is_valid: Callable[[str], bool]


_IDENTITY_NUMBERS = (
    _Identity(re.compile(r"(?<!\w)\d{8}-?[A-Za-z](?!\w)"), dni.is_valid),
    _Identity(re.compile(r"(?<!\w)[XYZxyz]-?\d{7}-?[A-Za-z](?!\w)"), nie.is_valid),
    _Identity(re.compile(r"(?<!\w)[12]\d{2}(?:0[1-9]|1[0-2])[\dAB]{8}\d{2}(?!\w)"), nir.is_valid),
    _Identity(
        re.compile(r"(?<!\w)[A-Za-z]{6}\d{2}[A-Za-z]\d{2}[A-Za-z]\d{3}[A-Za-z](?!\w)"),
        codicefiscale.is_valid,
    ),
    _Identity(re.compile(r"(?<![\w.-])\d{3}\.\d{3}\.\d{3}-\d{2}(?![\w-])"), cpf.is_valid),
)


def find_patterns(text: str) -> list[KindSpan]:
    """Return the personal data of fixed form in a text, without overlaps, in order."""
    spans: list[KindSpan] = []
    if "@" in text:
        spans += _emails(text)
    if "/" in text:
        spans += (KindSpan(*match.span(), "url") for match in _PROFILE.finditer(text))
    if any(digit in text for digit in "0123456789"):
        for find in (_ibans, _cards, _addresses_of_hosts, _ssns, _identity_numbers, _phones):
            spans += find(text)
    return without_overlaps(spans)


def without_overlaps(spans: list[KindSpan]) -> list[KindSpan]:
    """Return spans in order; of two that overlap, the one that was given first."""
    if len(spans) < 2:
        return spans
    chosen: list[KindSpan] = []  # in order, so that only the neighbours can overlap
    for span in spans:
        at = bisect_left(chosen, span)
        after_left = at == 0 or chosen[at - 1].end <= span.start
        if after_left and (at == len(chosen) or span.end <= chosen[at].start):
            chosen.insert(at, span)
    return chosen


def _emails(text: str) -> Iterator[KindSpan]:
    for match in _EMAIL.finditer(text):
        start, end = match.span()
        while text[start] in "'`{|/=*":
            start += 1
        if not text[start:end].startswith("git@"):  # an address of a repository
            yield KindSpan(start, end, "email")


def _ibans(text: str) -> Iterator[KindSpan]:
    """Yield IBANs; words after the number are cut off until the checksum is right."""
    for match in _IBAN.finditer(text):
        start, end = match.span()
        while end - start >= 15:
            if text[end - 1] not in " -" and iban.is_valid(text[start:end], check_country=False):
                yield KindSpan(start, end, "iban")
                break
            end -= 1


def _cards(text: str) -> Iterator[KindSpan]:
    for match in _CARD.finditer(text):
        digits = re.sub(r"\D", "", match.group())
        if not 12 <= len(digits) <= 19 or not _ISSUER.match(digits):
            continue
        named = _CARD_WORD.search(_before(text, match.start()))
        if named or (len(digits) >= 13 and luhn.is_valid(digits) and len(set(digits)) > 2):
            yield KindSpan(*match.span(), "card")


def _addresses_of_hosts(text: str) -> Iterator[KindSpan]:
    for match in _IPV4.finditer(text) if text.count(".") > 2 else ():
        if not _VERSION_BEFORE.search(_before(text, match.start())):
            yield from _valid_host(match)
    for match in _IPV6.finditer(text) if text.count(":") > 1 else ():
        if len(re.sub(r"\W", "", match.group())) >= 6:
            yield from _valid_host(match)


def _valid_host(match: re.Match[str]) -> Iterator[KindSpan]:
    try:
        address = ipaddress.ip_address(match.group())
    except ValueError:
        return
    if not (address.is_loopback or address.is_unspecified or match.group().startswith("255.")):
        yield KindSpan(*match.span(), "ip")


def _ssns(text: str) -> Iterator[KindSpan]:
    for match in _SSN.finditer(text):
        if match.group(1) == "-" or _SSN_WORD.search(_before(text, match.start())):
            yield KindSpan(*match.span(), "ssn")


def _identity_numbers(text: str) -> Iterator[KindSpan]:
    for form, is_valid in _IDENTITY_NUMBERS:
        for match in form.finditer(text):
            if is_valid(match.group()):
                yield KindSpan(*match.span(), "id_number")


def _phones(text: str) -> Iterator[KindSpan]:
    for match in _PHONE.finditer(text):
        yield KindSpan(*match.span(), "phone")


def _before(text: str, position: int) -> str:
    return text[max(0, position - _WORDS_BEFORE) : position]


KINDS_BY_PATTERN: frozenset[Kind] = frozenset(("email", "card", "iban", "ssn", "ip"))
"""Kinds whose form decides; the recognizer adds to the others."""
