"""Differences between two registered versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from registry.blobs import blob_path, check_blob
from registry.record import ModelRecord, tree_digest


def diff_lines(root: Path, first: ModelRecord, second: ModelRecord) -> list[str]:
    """Return how two versions differ: origin, data, hyper-parameters, metrics, cost, files.

    Args:
        root: Folder of the registry.
        first: A version.
        second: Another one.

    Raises:
        RegistryError: The job file of one of them was changed.
    """
    return [
        f"{first.id} -> {second.id}",
        *_section("origin", _origin(first), _origin(second)),
        *_section("data", first.provenance.data, second.provenance.data),
        *_section("job", _job(root, first), _job(root, second)),
        *_metric_lines(first, second),
        *_section("cost", _cost(first), _cost(second)),
        *_section("forms", _trees(first), _trees(second)),
    ]


def _section(title: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    lines = [
        f"  {key}: {_text(was)} -> {_text(now)}"
        for key, was, now in _changes(_flat(old), _flat(new))
    ]
    return [title, *lines] if lines else [f"{title}: same"]


def _changes(old: dict[str, Any], new: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            yield key, old.get(key), new.get(key)


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list) and value and isinstance(value[0], Mapping):
        items = dict(enumerate(value)).items()
    else:
        return {prefix: value}
    flat = {}
    for key, part in items:
        flat.update(_flat(part, f"{prefix}.{key}" if prefix else str(key)))
    return flat


def _text(value: Any) -> str:
    return "-" if value is None else str(value)


def _origin(record: ModelRecord) -> dict[str, Any]:
    origin = record.provenance
    names = ("base", "base_digest", "tokenizer", "method", "adapter", "seed", "code")
    return {name: getattr(origin, name) for name in names}


def _job(root: Path, record: ModelRecord) -> dict[str, Any]:
    sha256 = record.evidence["job.yaml"].sha256
    check_blob(root, sha256)
    document = yaml.safe_load(blob_path(root, sha256).read_text(encoding="utf-8"))
    return document if isinstance(document, dict) else {}


def _cost(record: ModelRecord) -> dict[str, Any]:
    return {"hours": record.provenance.hours, "usd": record.provenance.cost_usd}


def _trees(record: ModelRecord) -> dict[str, str]:
    return {form: tree_digest(files) for form, files in record.forms.items()}


def _metric_lines(first: ModelRecord, second: ModelRecord) -> list[str]:
    """Return the metrics of both; those of different suites, templates or items are not equated."""
    old, new = _metrics(first), _metrics(second)
    lines = []
    for key in sorted(old.keys() | new.keys()):
        suite, digest, metric = key
        was, now = old.get(key), new.get(key)
        note = ""
        if (was is None or now is None) and any(
            (s, m) == (suite, metric) and d != digest for s, d, m in old.keys() | new.keys()
        ):
            note = f" (suite digest {digest[:12]}; other items or settings: not comparable)"
        lines.append(f"  {suite}: {metric} {_interval(was)} -> {_interval(now)}{note}")
    return ["metrics", *lines] if lines else ["metrics: none"]


def _metrics(record: ModelRecord) -> dict[tuple[str, str, str], dict[str, Any]]:
    return {
        (evaluation["suite"], evaluation["suite_digest"], metric): value
        for evaluation in record.evaluations
        for metric, value in evaluation["metrics"].items()
    }


def _interval(value: dict[str, Any] | None) -> str:
    if value is None:
        return "-"
    return f"{value['value']:.4g} ({value['low']:.4g} to {value['high']:.4g})"
