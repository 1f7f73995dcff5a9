"""Convolutional network that labels tokens, computed with NumPy."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preparation.recognizer.kinds import Kind
from preparation.recognizer.tokens import feature_rows
from preparation.recognizer.word_lists import WordLists

MODEL = Path(__file__).parent / "model"
_CHUNK_TOKENS = 2048
_WORDS_CACHED = 200_000


class ModelDigestError(RuntimeError):
    """Weights that are not those that `model.json` describes."""


class TokenNetwork:
    """Network of the recognizer: hashed embeddings and word lists, then dilated convolutions.

    A layer adds to each token `relu(W0 x[t-d] + W1 x[t] + W2 x[t+d] + b)` and normalises the sum
    (layer normalisation without gain, Ba et al. 2016, https://arxiv.org/abs/1607.06450). The
    vector of a word is computed once and kept.

    Attributes:
        kinds: Kinds, in the order of the labels.
        thresholds: Probability from which a token belongs to a kind.
        gap: Rows of zeros between two texts, so that none sees another.

    Raises:
        ModelDigestError: If the weights are not those that `model.json` describes.
    """

    def __init__(self, folder: Path = MODEL):
        about: dict[str, Any] = json.loads((folder / "model.json").read_text())
        data = (folder / "weights.npz").read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        if digest != about["sha256"]:
            raise ModelDigestError(
                f"{folder / 'weights.npz'} has the SHA-256 digest {digest}, but model.json says "
                f"{about['sha256']}: install the package again or run `make train-recognizer`"
            )
        self.kinds: tuple[Kind, ...] = tuple(about["kinds"])
        self.thresholds: dict[Kind, float] = about["thresholds"]
        self.dilations: tuple[int, ...] = tuple(about["dilations"])
        self.gap = max(self.dilations)
        self._reach = sum(self.dilations)
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            self._weights = {
                name: arrays[name].astype(np.float32)
                for name in arrays.files
                if name not in ("list_hashes", "list_bits")
            }
            self._lists = WordLists(arrays["list_hashes"], arrays["list_bits"])
        self._rows_of_words: dict[str, int] = {}
        self._width = self._weights["input"].shape[1]
        self._vectors: NDArray[np.float32] = np.zeros((1024, self._width), np.float32)

    def probabilities(self, words: list[str | None], spaced: list[bool]) -> NDArray[np.float32]:
        """Return the probability of each label for each token.

        Args:
            words: Tokens of several texts; `gap` times None after each text.
            spaced: Whether white space stands before the token.

        Returns:
            Array of shape (tokens, 1 + 2 × kinds): no kind, then the beginning and the inside of
            each kind.
        """
        vectors = self._vectors_of(words)
        empty = np.fromiter((word is None for word in words), bool, len(words))
        spaces = np.fromiter(spaced, bool, len(words))
        vectors[spaces & ~empty] += self._weights["space"]
        chunks = []
        for start in range(0, len(words), _CHUNK_TOKENS):
            left = max(0, start - self._reach)
            right = min(len(words), start + _CHUNK_TOKENS + self._reach)
            values = self._convolve(vectors[left:right], empty[left:right])
            chunks.append(self._classify(values[start - left : start - left + _CHUNK_TOKENS]))
        labels = self._weights["output_bias"].shape[0]
        return np.concatenate(chunks) if chunks else np.zeros((0, labels), np.float32)

    def _vectors_of(self, words: list[str | None]) -> NDArray[np.float32]:
        if len(self._rows_of_words) > _WORDS_CACHED:
            self._rows_of_words.clear()
        known = self._rows_of_words
        new = [word for word in dict.fromkeys(words) if word is not None and word not in known]
        if new:
            first = len(known) + 1  # row 0 stays zero, for None
            needed = first + len(new)
            if needed > len(self._vectors):
                larger = np.zeros((2 * needed, self._width), np.float32)
                larger[: len(self._vectors)] = self._vectors
                self._vectors = larger
            self._vectors[first:needed] = self._embed(new)
            known.update((word, first + index) for index, word in enumerate(new))
        rows = np.fromiter(
            (0 if word is None else known[word] for word in words), np.int64, len(words)
        )
        return self._vectors[rows]

    def _embed(self, words: list[str]) -> NDArray[np.float32]:
        weights = self._weights
        rows = np.array([feature_rows(word) for word in words])
        lists = [self._lists.combination(word) for word in words]
        parts = (
            weights["word"][rows[:, 0]] + weights["word"][rows[:, 1]],
            weights["prefix"][rows[:, 2]],
            weights["suffix"][rows[:, 3]],
            weights["shape"][rows[:, 4]],
            weights["lists"][lists],
        )
        vectors: NDArray[np.float32] = np.concatenate(parts, axis=1) @ weights["input"]
        vectors += weights["input_bias"]
        return vectors

    def _convolve(
        self, values: NDArray[np.float32], empty: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        weights, gap = self._weights, self.gap
        count = len(values)
        padded = np.zeros((count + 2 * gap, self._width), np.float32)
        padded[gap : gap + count] = self._normalize(values)
        inner = padded[gap : gap + count]
        inner[empty] = 0
        for index, distance in enumerate(self.dilations):
            kernel = weights[f"layer{index}"]
            change = padded[gap - distance : gap - distance + count] @ kernel[0]
            change += inner @ kernel[1]
            change += padded[gap + distance : gap + distance + count] @ kernel[2]
            change += weights[f"layer{index}_bias"]
            np.maximum(change, 0, out=change)
            change += inner
            inner[...] = self._normalize(change)
            inner[empty] = 0
        return inner

    def _normalize(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        centered: NDArray[np.float32] = values - values.mean(axis=1, keepdims=True)
        variance = np.einsum("ij,ij->i", centered, centered) / self._width
        centered *= (1 / np.sqrt(variance + 1e-5))[:, None]
        return centered

    def _classify(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = (
            values @ self._weights["output"] + self._weights["output_bias"]
        )
        scores -= scores.max(axis=1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=1, keepdims=True)
        return scores
