"""Published corpora with marked personal data, and text without any.

Presidio's templates (MIT, https://github.com/microsoft/presidio-research at 7622dec1e5f7) are
filled with values of our own. MEDDOCAN (CC BY 4.0,
https://github.com/PlanTL-GOB-ES/SPACCC_MEDDOCAN at 783a6df385c9) is real clinical prose with
made-up identifiers. Both are divided by template or document: what the settings are chosen on and
what is reported was not trained on.
"""

from __future__ import annotations

import gzip
import inspect
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from hashlib import sha1
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, TypeAlias

from preparation.recognizer.kinds import Kind
from preparation.recognizer.training.corpus import AnnotatedText, Span, join_parts
from preparation.recognizer.training.value_pools import vocabulary

Part: TypeAlias = Literal["train", "choose", "report"]

_SLOT = re.compile(r"\{\{(\w+)\}\}")
_SLOT_OF_PRESIDIO: Mapping[str, str] = {
    "person": "name",
    "organization": "org",
    "building_number": "building",
    "street_name": "street",
    "secondary_address": "secondary",
    "street_address": "address",
    "postcode": "zip",
    "zipcode": "zip",
    "zip_code": "zip",
    "credit_card_number": "card",
    "credit_card": "card",
    "phone_number": "phone",
    "email_address": "email",
    "iban_code": "iban",
    "us_ssn": "ssn",
    "ip_address": "ip",
    "us_driver_license": "licence",
    "domain_name": "url",
    "date_time": "date",
    "date_of_birth": "dob",
    "day_of_week": "weekday",
    "gpe": "city",
    "title": "prefix",
    "first_name": "first",
    "last_name": "last",
    "state_abbr": "state",
    "nationality": "nrp",
}
_GENDER = re.compile(r"_(?:female|male|nonbinary)$")

KIND_OF_PRESIDIO: Mapping[str, Kind] = {
    "PERSON": "person",
    "ADDRESS": "address",
    "STREET_ADDRESS": "address",
    "CREDIT_CARD": "card",
    "PHONE_NUMBER": "phone",
    "EMAIL_ADDRESS": "email",
    "US_SSN": "ssn",
    "DOMAIN_NAME": "url",
    "ZIP_CODE": "zip_code",
    "IP_ADDRESS": "ip",
    "IBAN_CODE": "iban",
    "US_DRIVER_LICENSE": "driver_license",
    "LOCATION": "location",
    "GPE": "location",
    "ORGANIZATION": "organization",
    "DATE_TIME": "date",
    "AGE": "age",
}
KIND_OF_MEDDOCAN: Mapping[str, Kind] = {
    "NOMBRE_SUJETO_ASISTENCIA": "person",
    "NOMBRE_PERSONAL_SANITARIO": "person",
    "CALLE": "address",
    "TERRITORIO": "location",
    "PAIS": "location",
    "FECHAS": "date",
    "EDAD_SUJETO_ASISTENCIA": "age",
    "SEXO_SUJETO_ASISTENCIA": "sex",
    "FAMILIARES_SUJETO_ASISTENCIA": "family",
    "ID_SUJETO_ASISTENCIA": "id_number",
    "ID_ASEGURAMIENTO": "id_number",
    "ID_TITULACION_PERSONAL_SANITARIO": "id_number",
    "ID_CONTACTO_ASISTENCIAL": "id_number",
    "CORREO_ELECTRONICO": "email",
    "NUMERO_TELEFONO": "phone",
    "NUMERO_FAX": "phone",
    "HOSPITAL": "organization",
    "INSTITUCION": "organization",
    "CENTRO_SALUD": "organization",
}


def part_of(key: str) -> Part:
    """Return the part of a template or document: half to train, the rest to choose and report."""
    eighth = int(sha1(key.encode(), usedforsecurity=False).hexdigest(), 16) // 3 % 8
    return "train" if eighth < 5 else "choose" if eighth < 6 else "report"


def presidio(folder: Path) -> Iterator[tuple[Part, dict[str, Any]]]:
    """Yield the rows of Presidio's set with their part; variants of a template share one."""
    for row in _rows(folder / "presidio_spans.jsonl.gz"):
        yield part_of(template_words(row["template"])), row


def template_words(template: str) -> str:
    """Return the words of a template of Presidio, which its variants share."""
    blank = _SLOT.sub(" ", template.replace("\\", ""))
    return " ".join(re.findall(r"\w+", blank.lower())) or blank


def presidio_examples(
    folder: Path, part: Part, texts: int | None = None
) -> list[tuple[str, AnnotatedText]]:
    """Return the rows of a part of Presidio's set with the words of their templates.

    Args:
        folder: Folder of the published sets.
        part: Part of the set.
        texts: Most rows of a template; None for all.
    """
    count: Counter[str] = Counter()
    examples = []
    for of_row, row in presidio(folder):
        words = template_words(row["template"])
        if of_row == part and (texts is None or count[words] < texts):
            count[words] += 1
            examples.append((words, _with_our_kinds(row)))
    return examples


def _with_our_kinds(row: Mapping[str, Any]) -> AnnotatedText:
    kinds = KIND_OF_PRESIDIO
    spans = tuple(
        Span(span["start"], span["end"], kinds[span["type"]])
        for span in row["spans"]
        if span["type"] in kinds
    )
    others = ((s["start"], s["end"]) for s in row["spans"] if s["type"] not in kinds)
    return AnnotatedText(row["text"], spans, tuple(others))


def presidio_templates(folder: Path) -> tuple[str, ...]:
    """Return Presidio's templates to train on, with our names of the slots."""
    found = {row["template"] for part, row in presidio(folder) if part == "train"}
    return tuple(_with_our_slots(template.replace("\\", "")) for template in sorted(found))


def _with_our_slots(template: str) -> str:
    several = len(re.findall("STREET_ADDRESS", template)) > 1 and not re.search(
        "STREET_ADDRESS}},? and", template
    )
    order = iter(("building", "street", "secondary", "zip"))

    def slot(match: re.Match[str]) -> str:
        name = _GENDER.sub("", match.group(1).lower())
        if name == "street_address" and several:
            return "{" + next(order, "zip") + "}"
        return "{" + _SLOT_OF_PRESIDIO.get(name, name) + "}"

    return _SLOT.sub(slot, template)


def meddocan(folder: Path) -> Iterator[tuple[Part, AnnotatedText]]:
    """Yield the clinical notes with their part."""
    for row in _rows(folder / "meddocan_es_spans.jsonl.gz"):
        text = row["text"]
        spans = [
            Span(span["start"], span["end"], _meddocan_kind(span, text))
            for span in row["spans"]
            if span["type"] in KIND_OF_MEDDOCAN
        ]
        yield part_of(row["id"]), AnnotatedText(text, join_parts(text, spans))


def _meddocan_kind(span: Mapping[str, Any], text: str) -> Kind:
    kind = KIND_OF_MEDDOCAN[span["type"]]
    if kind == "location" and span["value"].isdigit():
        return "zip_code"
    if kind == "date" and "nacimiento" in text[max(0, span["start"] - 30) : span["start"]].lower():
        return "date_of_birth"
    return kind


def pieces(example: AnnotatedText, lines: int = 7) -> Iterator[AnnotatedText]:
    """Cut a long text at line ends into parts of a few lines."""
    starts = [0, *(match.end() for match in re.finditer("\n", example.text))]
    bounds = [*starts[::lines], len(example.text)]
    for start, end in pairwise(bounds):
        inside = [s for s in example.spans if start <= s.start and s.end <= end]
        moved = tuple(Span(s.start - start, s.end - start, s.kind) for s in inside)
        if start < end:
            yield AnnotatedText(example.text[start:end], moved)


def docstrings() -> tuple[str, ...]:
    """Return paragraphs of Python's own documentation (PSF licence) that hold no name or mail."""
    paragraphs: set[str] = set()
    for module in vocabulary()["documented_modules"]:
        members = vars(import_module(module))
        for member in members.values():
            text = inspect.getdoc(member) if inspect.isroutine(member) else None
            for paragraph in (text or "").split("\n\n"):
                if 60 < len(paragraph) < 600 and "@" not in paragraph:
                    paragraphs.add(paragraph)
    return tuple(sorted(paragraphs))


def _rows(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
