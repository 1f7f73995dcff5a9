"""Splits of a folder of files, by their names, as the Hub's data sets name them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from training.errors import DataError

_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_SPLITS = {name: split for split, names in _NAMES.items() for name in names}
_WORD = re.compile(rf"(?:^|[/._ -])({'|'.join(_SPLITS)})(?=$|[/._ 0-9-])")


def files_of_split(
    files: Sequence[Path], folder: Path, split: str
) -> tuple[list[Path], list[Path]]:
    """Return the files of a split, and those of other splits, which must not be trained on.

    A folder is divided only if it names the files of the split that is asked for: `train-*.parquet`
    and `test-*.parquet`, `train.jsonl` and `dev.jsonl`, or folders of such names. Files without a
    split in their name belong to the training split.

    Args:
        files: All data files of the folder.
        folder: The folder.
        split: The split, such as `train`.

    Raises:
        DataError: The folder is divided into splits, and has no such one.
    """
    splits = {file: _split_of(file.relative_to(folder)) for file in files}
    wanted = _SPLITS.get(split.lower(), split)
    found = {name for name in splits.values() if name}
    if wanted not in found and wanted == "train":
        return list(files), []
    if wanted not in found:
        raise DataError(
            f"{folder}: no file of this folder names the split {split!r} (its files name: "
            f"{', '.join(sorted(found)) or 'none'}). Correct data.train.split, or leave it out"
        )
    chosen = [
        file
        for file, name in splits.items()
        if name == wanted or (name is None and wanted == "train")
    ]
    return chosen, [file for file in files if file not in chosen]


def _split_of(path: Path) -> str | None:
    """Return the split that a file's name states, or else the folder it is in."""
    for part in reversed(path.parts):
        words = _WORD.findall(part.lower())
        if words:
            return _SPLITS[words[0]]
    return None
