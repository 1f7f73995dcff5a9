"""Personal data of fixed form: what is found, and what only looks like it."""

from __future__ import annotations

import pytest
from faker import Faker

from preparation.steps.personal_data.patterns import find_patterns

PLAIN = (
    "commit 3f2a9c1d7e pushed at 2024-05-01 12:30:45.123 by the release bot",
    "version 10.2.0.1 is older than firmware 4.11.0.3",
    "a[::2] and std::vector<int>::iterator, ratio 16:9, time 12:30:45",
    "total 1234567890123456 rows, checksum 9999999999999999",
    "timestamp 1700000000000 and 1699999999999",
    "ISBN 978-3-16-148410-0 and EAN 4006381333931 in the catalogue",
    "def f(x): return x @ y  # matrix product",
    "decorator @app.route and package name@latest",
    "git clone git@github.com:owner/repo.git",
    "the range 2010-2015 and pages 100-200-3000",
    "netmask 255.255.255.0, loopback 127.0.0.1, any 0.0.0.0",
    "coordinates 48.858370, 2.294481; price 1,299.00",
    "GB29 is a class of engine, DE44 too; part AB12 CDEF GHIJ KLMN OPQR",
)


def found(text: str) -> list[tuple[str, str]]:
    return [(span.kind, text[span.start : span.end]) for span in find_patterns(text)]


@pytest.mark.parametrize("text", PLAIN)
def test_what_only_looks_like_personal_data_is_not_found(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("write to ana.lópez+x@correo.example.es.", ("email", "ana.lópez+x@correo.example.es")),
        ("card 4111 1111 1111 1111, exp 05/28", ("card", "4111 1111 1111 1111")),
        ("paid with 378282246310005 today", ("card", "378282246310005")),
        ("my visa 4111111111111112 fails", ("card", "4111111111111112")),
        ("IBAN GB82 WEST 1234 5698 7654 32 is mine", ("iban", "GB82 WEST 1234 5698 7654 32")),
        ("to de89370400440532013000.", ("iban", "de89370400440532013000")),
        ("SSN: 536-90-4399", ("ssn", "536-90-4399")),
        ("social security number 536904399", ("ssn", "536904399")),
        ("from |203.0.113.9|%20", ("ip", "203.0.113.9")),
        ("host 2001:db8:85a3::8a2e:370:7334 is up", ("ip", "2001:db8:85a3::8a2e:370:7334")),
        ("DNI 12345678Z", ("id_number", "12345678Z")),
        ("call +44 20 7946 0958 now", ("phone", "+44 20 7946 0958")),
        ("(212) 555-0142 after six", ("phone", "(212) 555-0142")),
        ("see linkedin.com/in/ana-lopez-1", ("url", "linkedin.com/in/ana-lopez-1")),
    ],
)
def test_each_form_is_found_to_its_ends(text: str, expected: tuple[str, str]) -> None:
    assert found(text) == [expected]


def test_made_up_values_of_many_countries_reach_the_bar() -> None:
    """At least 99 % of Faker's e-mails, cards, IBANs, SSNs and IPs, at 99 % precision."""
    fakers = [Faker(locale) for locale in ("en_US", "de_DE", "es_ES")]
    forms = ("email", "credit_card_number", "iban", "ssn", "ipv4_public", "ipv6")
    right = predicted = marked = 0
    for index in range(360):
        fake, form = fakers[index % 3], forms[index // 3 % 6]
        fake.seed_instance(index)
        value = fake.numerify("4##-5#-1###") if form == "ssn" else getattr(fake, form)()
        kind = {"credit_card_number": "card", "ipv4_public": "ip", "ipv6": "ip"}.get(form, form)
        text = f"The card or number {value} was given on 2024-03-0{index % 9 + 1}, order {index}."
        spans = found(text)
        marked += 1
        predicted += len(spans)
        right += (kind, value) in spans
    assert right / marked >= 0.99
    assert right / predicted >= 0.99
