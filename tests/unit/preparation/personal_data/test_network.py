"""Network of the recognizer in NumPy against the same network in torch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from preparation.recognizer.network import MODEL, ModelDigestError, TokenNetwork
from preparation.recognizer.recognizer import Recognizer
from preparation.recognizer.tokens import feature_rows, token_spans
from preparation.recognizer.training.__main__ import write
from preparation.recognizer.training.corpus import AnnotatedText
from preparation.recognizer.training.fit import NetworkShape, TorchTokenNetwork, encode
from preparation.recognizer.word_lists import WORD_LISTS, WordLists


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[TorchTokenNetwork, Path]:
    torch.manual_seed(3)
    lists = WordLists.from_words({"given": {"Anna", "Bob"}, "street": {"Street"}, "word": {"too"}})
    network = TorchTokenNetwork(NetworkShape(width=32), lists)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(parameter.half().float())  # as the file holds them
    folder = tmp_path_factory.mktemp("model")
    write(network.arrays(), network.shape.dilations, folder)
    return network, folder


TEXTS = ["Anna lives at 12 High Street.\n\nBob, too", "x", "Zoë 3a - ß\tİstanbul " * 900]


def test_probabilities_equal_those_of_torch(trained: tuple[TorchTokenNetwork, Path]) -> None:
    network, folder = trained
    gap = max(network.shape.dilations)
    rows, spaced, empty, _ = encode(
        [AnnotatedText(text, ()) for text in TEXTS], gap, network.word_lists
    )
    with torch.no_grad():
        expected = torch.softmax(network(rows, spaced, empty), 1).numpy()
    words: list[str | None] = []
    for text in TEXTS:
        words += [text[start:end] for start, end in token_spans(text)] + [None] * gap
    actual = TokenNetwork(folder).probabilities(words, spaced.tolist())
    full = ~empty.numpy()
    np.testing.assert_allclose(actual[full], expected[full], atol=2e-5)


def test_a_text_has_the_same_spans_alone_and_among_others(
    trained: tuple[TorchTokenNetwork, Path],
) -> None:
    recognizer = Recognizer(trained[1])
    assert recognizer.find(TEXTS) == [recognizer.find([text])[0] for text in TEXTS]


def test_weights_that_are_not_those_of_the_description_are_refused(tmp_path: Path) -> None:
    shutil.copytree(MODEL, tmp_path / "model")
    weights = tmp_path / "model/weights.npz"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ModelDigestError, match="train-recognizer"):
        TokenNetwork(tmp_path / "model")


def test_the_shipped_model_is_described() -> None:
    about = json.loads((MODEL / "model.json").read_text())
    assert TokenNetwork().kinds == tuple(about["kinds"])
    assert (MODEL / "weights.npz").stat().st_size < 6e6


def test_lists_of_a_word_are_those_that_hold_it() -> None:
    lists = WordLists.from_words({"given": {"Anna", "May"}, "family": {"May"}, "word": {"may"}})
    assert lists.combination("ANNA") == 0b000001
    assert lists.combination("may") == 0b010011
    assert lists.combination("Zorro") == 0
    assert WordLists.from_words({}).combination("Anna") == 0


def test_names_are_in_the_lists_of_the_shipped_model() -> None:
    with np.load(MODEL / "weights.npz") as arrays:
        lists = WordLists(arrays["list_hashes"], arrays["list_bits"])
    assert lists.combination("Maria") & 1 and not lists.combination("the") & 1
    assert lists.combination("the") >> WORD_LISTS.index("frequent") & 1


def test_hashes_of_words_are_fixed() -> None:
    """The weights are worthless if a word's rows change."""
    assert feature_rows("Anna") == feature_rows("Anna")
    assert feature_rows("Anna")[:4] == feature_rows("ANNA")[:4]
    assert feature_rows("1999") == feature_rows("2026")
