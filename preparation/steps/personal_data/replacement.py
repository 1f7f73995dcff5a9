"""Replacement of personal data: numbered placeholders, or made-up values of the same shape."""

from __future__ import annotations

import hashlib
import hmac
import random
import re
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from stdnum import luhn
from stdnum.iso7064 import mod_97_10

from preparation.recognizer.kinds import Kind
from preparation.recognizer.recognizer import KindSpan
from preparation.steps.personal_data.titles import TITLE_BEFORE

if TYPE_CHECKING:
    from faker import Faker

_SPACE = re.compile(r"\s+")


class Replacer(ABC):
    """Replacement of the values of one row."""

    @abstractmethod
    def replacement(self, kind: Kind, value: str) -> str:
        """Return what stands for a value; the same for the same value of a kind."""

    def replace(self, text: str, spans: Sequence[KindSpan]) -> str:
        """Return a text with its spans, in order and without overlaps, replaced."""
        pieces: list[str] = []
        position = 0
        for span in spans:
            value = text[span.start : span.end]
            pieces += [text[position : span.start], self.replacement(span.kind, value)]
            position = span.end
        return "".join([*pieces, text[position:]])


class Placeholders(Replacer):
    """Placeholders such as `[PERSON_1]`, numbered in the order of a row."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[Kind, str], int] = {}
        self._count: dict[Kind, int] = {}
        self._names_with: defaultdict[str, list[tuple[frozenset[str], int]]] = defaultdict(list)

    def replacement(self, kind: Kind, value: str) -> str:
        """Return the placeholder of a value."""
        return f"[{kind.upper()}_{self.number(kind, value)}]"

    def number(self, kind: Kind, value: str) -> int:
        """Return the number of a value; a part of a name has the number of the whole name."""
        same = normalized(value)
        if kind == "person" and (title := TITLE_BEFORE.match(same)):
            same = same[title.end() :] or same
        key = (kind, same)
        if key not in self._numbers:
            whole = self._whole_name(same) if kind == "person" else None
            if whole is None:
                self._count[kind] = whole = self._count.get(kind, 0) + 1
            self._numbers[key] = whole
            if kind == "person":
                name = frozenset(same.split())
                for word in name:
                    self._names_with[word].append((name, whole))
        return self._numbers[key]

    def _whole_name(self, part: str) -> int | None:
        """Return the number of the one name that holds all words of a part, or is held by it."""
        words = frozenset(part.split())
        numbers = {
            number
            for word in words
            for name, number in self._names_with.get(word, ())
            if words <= name or name <= words
        }
        return numbers.pop() if len(numbers) == 1 else None


def normalized(value: str) -> str:
    """Return a value without the differences in case and white space between its mentions."""
    return _SPACE.sub(" ", value).strip().casefold()


class Surrogates(Replacer):
    """Made-up values of the same shape.

    With a key, a value has the same surrogate in every row: the choice is made by an HMAC of the
    value, which tells nothing about it without the key. Without one, the choice depends on the row
    and on the order of the values in it alone.

    Args:
        faker: Source of names and places; its state is set before each use.
        row: Name of the row.
        key: Secret key; None for surrogates that differ from row to row.
    """

    def __init__(self, faker: Faker, row: str, key: bytes | None):
        self._faker = faker
        self._row = row
        self._key = key
        self._numbers = Placeholders()
        self._values: dict[tuple[Kind, str], str] = {}

    def replacement(self, kind: Kind, value: str) -> str:
        """Return the surrogate of a value."""
        key = (kind, normalized(value))
        if key not in self._values:
            self._values[key] = self._make(kind, value)
        return self._values[key]

    def _make(self, kind: Kind, value: str) -> str:
        chooser = random.Random(self._seed(kind, value))
        if kind in _MAKERS_BY_WORD:
            self._faker.seed_instance(chooser.getrandbits(64))
            return _cased(value, getattr(self, f"_{kind}")(value))
        made = _same_signs(value, chooser, dates=kind in ("date", "date_of_birth"))
        if kind == "card":
            return _with_luhn_digit(made)
        if kind == "iban":
            return _with_iban_digits(value, made)
        return made

    def _seed(self, kind: Kind, value: str) -> int:
        if self._key is None:
            message = f"{self._row}\0{kind}\0{self._numbers.number(kind, value)}"
            return int.from_bytes(hashlib.sha256(message.encode()).digest()[:8], "big")
        message = f"{kind}\0{normalized(value)}"
        return int.from_bytes(hmac.digest(self._key, message.encode(), "sha256")[:8], "big")

    def _person(self, value: str) -> str:
        words = value.split()
        title = words[0] + " " if len(words) > 1 and words[0].endswith(".") else ""
        count = len(words) - bool(title)
        first, last = self._faker.first_name(), self._faker.last_name()
        return title + (first if count == 1 else " ".join([first, last][:count]))

    def _address(self, value: str) -> str:
        separator = "\n" if "\n" in value else ", "
        parts = [self._faker.street_address()]
        if "\n" in value or "," in value:
            parts.append(f"{self._faker.city()} {self._faker.postcode()}")
        return separator.join(parts)

    def _location(self, value: str) -> str:
        return str(self._faker.city())

    def _organization(self, value: str) -> str:
        return str(self._faker.company())

    def _email(self, value: str) -> str:
        return f"{self._faker.user_name()}@{self._faker.safe_domain_name()}"

    def _username(self, value: str) -> str:
        return ("@" if value.startswith("@") else "") + str(self._faker.user_name())

    def _url(self, value: str) -> str:
        scheme = value[: value.index("//") + 2] if "//" in value else ""
        return f"{scheme}www.{self._faker.user_name()}.example" + "/" * value.endswith("/")

    def _ip(self, value: str) -> str:
        # Networks that are kept for documentation: RFC 5737 and RFC 3849.
        if ":" in value:
            return f"2001:db8::{self._faker.random_int(1, 65535):x}"
        return f"203.0.113.{self._faker.random_int(1, 254)}"

    def _sex(self, value: str) -> str:
        return "[SEX]"

    def _family(self, value: str) -> str:
        return "[FAMILY]"


_MAKERS_BY_WORD: frozenset[Kind] = frozenset(
    (
        *("person", "address", "location", "organization", "email"),
        *("username", "url", "ip", "sex", "family"),
    )
)


def _cased(value: str, made: str) -> str:
    if value.isupper() and len(value) > 2:
        return made.upper()
    return made.lower() if value.islower() else made


def _same_signs(value: str, chooser: random.Random, dates: bool) -> str:
    """Return digits for digits and letters for letters; the numbers of a date stay possible."""
    if dates:
        return re.sub(r"\d+", lambda number: _date_number(number.group(), chooser), value)
    return "".join(
        str(chooser.randrange(10))
        if sign.isdigit()
        else chooser.choice("ABCDEFGHJKLMNPRSTVWXYZ")
        if sign.isupper()
        else chooser.choice("abcdefghijklmnoprstuvwxyz")
        if sign.isalpha()
        else sign
        for sign in value
    )


def _date_number(number: str, chooser: random.Random) -> str:
    if len(number) > 2:
        return f"{int(number) + chooser.choice((-3, -2, -1, 1, 2, 3))}"
    highest = 12 if int(number) <= 12 else 28
    return f"{chooser.randrange(1, highest + 1):0{len(number)}}"


def _with_luhn_digit(made: str) -> str:
    digits = re.sub(r"\D", "", made)
    return _last_digit(made, luhn.calc_check_digit(digits[:-1]))


def _last_digit(made: str, digit: str) -> str:
    return made[:-1] + digit


def _with_iban_digits(value: str, made: str) -> str:
    """Return a surrogate with the country of the value and right check digits."""
    made = value[:2] + "00" + made[4:]
    signs = re.sub(r"[ -]", "", made).upper()
    digits = f"{98 - mod_97_10.checksum(signs[4:] + signs[:4]):02}"
    return made[:2] + digits + made[4:]
