"""Findings of the recognizer whose form excludes their kind, in code, JSON and tables."""

from __future__ import annotations

import pytest

from preparation.recognizer.kinds import Kind
from preparation.recognizer.recognizer import KindSpan
from preparation.steps.personal_data.forms import has_form


def judged(text: str, value: str, kind: Kind) -> bool:
    start = text.index(value)
    return has_form(text, KindSpan(start, start + len(value), kind))


@pytest.mark.parametrize(
    ("text", "value", "kind"),
    [
        ("reached at (978)645-9740x11144 or", "(978)645-9740x11144", "phone"),
        ("office\n166-684-7899", "166-684-7899", "phone"),
        ("call 322 327 102 today", "327", "phone"),
        ("lives at 12 Baker Street.", "12 Baker Street", "address"),
        ("flat 31a Kristjan Radial | Esmoriz", "31a Kristjan Radial | Esmoriz", "address"),
        ("London SW1A 1AA", "SW1A 1AA", "zip_code"),
        ("licence 8194-54-4073 was", "54", "driver_license"),
        ("my name is john.", "john", "person"),
        ("signed: Ana Ruiz (nurse)", "Ana Ruiz", "person"),
    ],
)
def test_personal_data_has_its_form(text: str, value: str, kind: Kind) -> None:
    assert judged(text, value, kind)


@pytest.mark.parametrize(
    ("text", "value", "kind"),
    [
        ("call 911 at once", "911", "phone"),
        ("call 1-800 numbers", "1-800", "phone"),
        ("23.821458421977443", "821458421977443", "phone"),
        ("96983520312774506326239578318016984801869478851843", "9698352031277450632", "phone"),
        ("| 0 | 1 |", "1", "address"),
        ("v1, v2, v3", "v3", "address"),
        ('{"menu": [{"item', 'menu": [{"item', "address"),
        ('{"id": "mocha-8888"}', "8888", "zip_code"),
        ('{"id": "chai-latte-4444"}', "4444", "driver_license"),
        ("x: np.ndarray", "ndarray", "person"),
        ("j_max = 3", "max", "person"),
        ("Token(4, 3)", "Token", "person"),
    ],
)
def test_identifiers_and_numbers_are_no_personal_data(text: str, value: str, kind: Kind) -> None:
    assert not judged(text, value, kind)
