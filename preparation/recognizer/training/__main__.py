"""Training of the recognizer of personal data: `python -m preparation.recognizer.training`."""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from preparation.recognizer.kinds import KINDS
from preparation.recognizer.network import MODEL
from preparation.recognizer.training import corpora, ordinary_text
from preparation.recognizer.training.corpus import AnnotatedText, fill, generate, recase
from preparation.recognizer.training.values import Values

SEED = 20
SHARES = {"en": 0.62, "es": 0.14, "de": 0.1, "fr": 0.08, "other": 0.06}
SOURCES = {
    "templates": 0.31,
    "named": 0.22,
    "published": 0.17,
    "clinical": 0.09,
    "negatives": 0.06,
    "plain": 0.06,
    "formal": 0.05,
    "documentation": 0.04,
}
"""Shares of the sources of training texts."""
HELD_OUT_TEXTS = 7
"""One in so many paragraphs of documentation is kept for the tests."""


def main() -> None:
    """Train the network and write the weights with their description."""
    from preparation.recognizer.training.fit import (
        NetworkShape,
        TorchTokenNetwork,
        fit,
        make_deterministic,
    )

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the published sets")
    parser.add_argument("--output", type=Path, default=MODEL)
    parser.add_argument("--steps", type=int, default=1200)
    arguments = parser.parse_args()
    make_deterministic(SEED)
    network = TorchTokenNetwork(NetworkShape())
    fit(network, examples(arguments.data), arguments.steps, _report)
    write(network.arrays(), network.shape.dilations, arguments.output)


def _report(step: int, loss: float, seconds: float) -> None:
    print(f"step {step:5}  loss {loss:.4f}  {seconds:6.0f} CPU s", flush=True)  # noqa: T201 (progress)


def examples(data: Path) -> Iterator[AnnotatedText]:
    """Yield training texts of all sources without end.

    Args:
        data: Folder of the published sets.
    """
    values = Values(SEED)
    sources: dict[str, Iterator[AnnotatedText]] = {
        "templates": _in_twos(generate(values, SHARES), values),
        "negatives": generate(values, {"negatives": 1.0}),
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
    }
    ordinary = ordinary_text.read(data)
    sources["named"] = (
        recase(ordinary_text.with_names(values.one(ordinary.plain), values), values)
        for _ in itertools.count()
    )
    sources["plain"] = _unchanged([AnnotatedText(text, ()) for text in ordinary.plain], values)
    sources["formal"] = _unchanged([AnnotatedText(text, ()) for text in ordinary.formal], values)
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


def write(arrays: dict[str, object], dilations: tuple[int, ...], folder: Path) -> None:
    """Write the weights, and their digest and labels next to them.

    Args:
        arrays: Weights by name.
        dilations: Distance of the neighbours that each layer reads.
        folder: Folder of the model.
    """
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "weights.npz"
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]  # arrays by name
    about = {
        "kinds": KINDS,
        "dilations": dilations,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    (folder / "model.json").write_text(json.dumps(about, indent=2) + "\n")


if __name__ == "__main__":
    main()
