"""Training of the recognizer of personal data: `python -m preparation.recognizer.training`."""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from preparation.recognizer.kinds import KINDS, Kind
from preparation.recognizer.network import MODEL
from preparation.recognizer.training import corpora, ordinary_text, records, thresholds
from preparation.recognizer.training.corpus import AnnotatedText, fill, generate, recase
from preparation.recognizer.training.listed_words import given_names, listed_words
from preparation.recognizer.training.values import Values

SEED = 20
SHARES = {
    "en": 0.2,
    "letters": 0.1,
    "chats": 0.11,
    "service": 0.11,
    "work": 0.13,
    "logs": 0.04,
    "es": 0.1,
    "de": 0.08,
    "fr": 0.07,
    "other": 0.06,
}
SOURCES = {
    "templates": 0.3,
    "records": 0.1,
    "named": 0.13,
    "stories": 0.06,
    "commands": 0.02,
    "published": 0.12,
    "clinical": 0.08,
    "negatives": 0.07,
    "plain": 0.05,
    "formal": 0.04,
    "documentation": 0.03,
}
"""Shares of the sources of training texts."""
HELD_OUT_TEXTS = 7
"""One in so many paragraphs of documentation is kept for the tests."""


def main() -> None:
    """Train the network, choose its thresholds and write both."""
    from preparation.recognizer.training.fit import (
        NetworkShape,
        TorchTokenNetwork,
        fit,
        make_deterministic,
    )

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the published sets")
    parser.add_argument("--output", type=Path, default=MODEL)
    parser.add_argument("--steps", type=int, default=2400)
    arguments = parser.parse_args()
    make_deterministic(SEED)
    values = Values(SEED)
    ordinary = ordinary_text.read(arguments.data, given_names(values))
    lists = listed_words(values, ordinary.small_words)
    network = TorchTokenNetwork(NetworkShape(), lists)
    fit(network, examples(arguments.data, values, ordinary), arguments.steps, _report)
    write(network.arrays(), network.shape.dilations, arguments.output)
    kept = thresholds.choice_texts(arguments.data, [*SHARES, "negatives"], SEED + 1)
    chosen = thresholds.choose(arguments.output, kept)
    write(network.arrays(), network.shape.dilations, arguments.output, chosen)


def _report(step: int, loss: float, seconds: float) -> None:
    print(f"step {step:5}  loss {loss:.4f}  {seconds:6.0f} CPU s", flush=True)  # noqa: T201 (progress)


def examples(
    data: Path, values: Values, ordinary: ordinary_text.OrdinaryText
) -> Iterator[AnnotatedText]:
    """Yield training texts of all sources without end.

    Args:
        data: Folder of the published sets.
        values: Source of made-up values.
        ordinary: Ordinary text.
    """
    sources: dict[str, Iterator[AnnotatedText]] = {
        "templates": _in_twos(generate(values, SHARES), values),
        "records": records.generate(values),
        "negatives": generate(values, {"negatives": 1.0}),
        "stories": _filled(ordinary.named, values),
        "commands": _filled(ordinary.commands, values),
        "published": _filled(corpora.presidio_templates(data / "pii"), values),
        "clinical": _unchanged(
            [
                piece
                for part, note in corpora.meddocan(data / "pii")
                if part == "train"
                for piece in corpora.pieces(note)
            ],
            values,
        ),
        "documentation": _unchanged(
            [
                AnnotatedText(text, ())
                for number, text in enumerate(corpora.docstrings())
                if number % HELD_OUT_TEXTS
            ],
            values,
        ),
        "plain": _unchanged([AnnotatedText(text, ()) for text in ordinary.plain], values),
        "formal": _unchanged([AnnotatedText(text, ()) for text in ordinary.formal], values),
        "named": (
            recase(ordinary_text.with_names(values.one(ordinary.plain), values), values)
            for _ in itertools.count()
        ),
    }
    names, weights = tuple(SOURCES), tuple(SOURCES.values())
    while True:
        yield next(sources[values.weighted(names, weights)])


def _in_twos(texts: Iterator[AnnotatedText], values: Values) -> Iterator[AnnotatedText]:
    """Yield some texts together with the next one."""
    for text in texts:
        yield together(text, next(texts)) if values.chance(0.15) else text


def _filled(patterns: Sequence[str], values: Values) -> Iterator[AnnotatedText]:
    while True:
        yield recase(fill(values.one(patterns), values), values)


def _unchanged(texts: Sequence[AnnotatedText], values: Values) -> Iterator[AnnotatedText]:
    while True:
        yield values.one(texts)


def together(first: AnnotatedText, second: AnnotatedText) -> AnnotatedText:
    """Put two texts into one, a paragraph each."""
    offset = len(first.text) + 2
    moved = (
        span._replace(start=span.start + offset, end=span.end + offset) for span in second.spans
    )
    return AnnotatedText(f"{first.text}\n\n{second.text}", (*first.spans, *moved))


def write(
    arrays: dict[str, object],
    dilations: tuple[int, ...],
    folder: Path,
    chosen: Mapping[Kind, float] | None = None,
) -> None:
    """Write the weights, and their digest and labels next to them.

    Args:
        arrays: Weights by name.
        dilations: Distance of the neighbours that each layer reads.
        folder: Folder of the model.
        chosen: Probability from which a token belongs to a kind.
    """
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "weights.npz"
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]  # arrays by name
    about = {
        "kinds": KINDS,
        "dilations": dilations,
        "thresholds": dict(chosen or {}),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    (folder / "model.json").write_text(json.dumps(about, indent=2) + "\n")


if __name__ == "__main__":
    main()
