"""Features of pairs: what is compared, and holds no text.

Token ids are kept sorted, so that the file of a training set's features cannot be read as text;
which words occur in a prompt can be told from it, so that it is stored as safely as the data.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitoring.errors import LogError

FORMAT = 1
UNKNOWN = -1
"""Value of a row without an answer."""


@dataclass(frozen=True)
class Features:
    """Features of pairs, by row.

    Attributes:
        prompt_tokens: Tokens of the prompt, of shape (rows,).
        answer_tokens: Tokens of the answer; -1 without one.
        token_ids: Token ids of all prompts, one after the other, sorted in each.
        token_ends: End of each prompt's ids in `token_ids`.
        languages: Language of the prompt; empty if it was not identified.
        prompt_nats: Mean negative log-likelihood of the prompt's tokens under the model.
        embeddings: Mean hidden state of the prompt's tokens, of shape (rows, dimensions).
        refused: 1 if the answer refuses, 0 if not, -1 without an answer.
        repeated: 1 if the answer repeats itself, as `refused`.
        empty: 1 if the answer is empty, as `refused`.
    """

    prompt_tokens: NDArray[np.int32]
    answer_tokens: NDArray[np.int32]
    token_ids: NDArray[np.int32]
    token_ends: NDArray[np.int64]
    languages: NDArray[np.str_]
    prompt_nats: NDArray[np.float64]
    embeddings: NDArray[np.float32]
    refused: NDArray[np.int8]
    repeated: NDArray[np.int8]
    empty: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.prompt_tokens)

    def ids_of(self, row: int) -> NDArray[np.int32]:
        """Return the sorted token ids of a prompt."""
        start = int(self.token_ends[row - 1]) if row else 0
        return self.token_ids[start : int(self.token_ends[row])]

    def take(self, rows: Sequence[int] | NDArray[np.intp]) -> Features:
        """Return the features of some rows."""
        chosen = np.asarray(rows, dtype=np.intp)
        ids = [self.ids_of(int(row)) for row in chosen]
        values = {
            field.name: getattr(self, field.name)[chosen]
            for field in fields(self)
            if not field.name.startswith("token_")
        }
        return Features(**values, **_ragged(ids))

    def share(self, name: str) -> tuple[int, int]:
        """Return the number of answers with a property, and of all answers.

        Args:
            name: `refused`, `repeated` or `empty`.
        """
        values = getattr(self, name)
        return int((values == 1).sum()), int((values != UNKNOWN).sum())

    def language_shares(self) -> dict[str, float]:
        """Return the share of each language, most frequent first; empty if none was identified."""
        names, counts = np.unique(self.languages[self.languages != ""], return_counts=True)
        order = np.argsort(-counts, kind="stable")
        return {str(names[i]): round(float(counts[i] / counts.sum()), 6) for i in order}


def build_features(token_ids: Sequence[NDArray[np.int32]], **columns: Any) -> Features:
    """Return features from their columns and the token ids of each prompt."""
    return Features(**columns, **_ragged([np.sort(ids) for ids in token_ids]))


def _ragged(ids: Sequence[NDArray[np.int32]]) -> dict[str, Any]:
    joined = np.concatenate(ids) if ids else np.zeros(0)
    return {
        "token_ids": joined.astype(np.int32),
        "token_ends": np.cumsum([len(one) for one in ids], dtype=np.int64),
    }


@dataclass(frozen=True)
class ReferenceInfo:
    """Origin of the features of a training set.

    Attributes:
        model: Model that measured them, as it was named.
        digest: Digest of its weights; None if it is not known.
        source: The training set.
        rows: Pairs of the training set, of which the features are a sample.
    """

    model: str
    digest: str | None
    source: str
    rows: int


def save_features(path: Path, features: Features, info: ReferenceInfo) -> None:
    """Write the features of a training set.

    Args:
        path: The file.
        features: The features.
        info: Their origin.
    """
    about = json.dumps({"format": FORMAT, **asdict(info)})
    columns: dict[str, Any] = {f.name: getattr(features, f.name) for f in fields(features)}
    building = path.with_name(f".{path.name}.writing.npz")
    np.savez_compressed(building, about=np.array(about), **columns)
    building.replace(path)


def load_features(path: Path) -> tuple[Features, ReferenceInfo]:
    """Return the features of a training set, and their origin.

    Raises:
        LogError: The file cannot be read, or is of another format.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            about = json.loads(str(stored["about"]))
            version = about.pop("format")
            columns = {field.name: stored[field.name] for field in fields(Features)}
            features, info = Features(**columns), ReferenceInfo(**about)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise LogError(f"{path} is no file of features of a training set: {error}") from None
    if version != FORMAT:
        raise LogError(
            f"{path} has the format {version}, not {FORMAT}: measure the training set again"
        )
    return features, info
