"""Kinds of personal data."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

Kind: TypeAlias = Literal[
    "person",
    "address",
    "zip_code",
    "phone",
    "email",
    "card",
    "iban",
    "ssn",
    "ip",
    "driver_license",
    "passport",
    "id_number",
    "date_of_birth",
    "username",
    "url",
    "location",
    "organization",
    "date",
    "age",
    "sex",
    "family",
]
KINDS: tuple[Kind, ...] = get_args(Kind)

CONTEXT_KINDS: frozenset[Kind] = frozenset(
    ("location", "organization", "date", "age", "sex", "family")
)
"""Kinds that identify a person together with other facts only, and are found on request."""

IDENTIFIERS: tuple[Kind, ...] = tuple(kind for kind in KINDS if kind not in CONTEXT_KINDS)
