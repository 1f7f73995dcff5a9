"""Reader of data sets on the Hub, with a quick check that the data set exists."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from training.config.data import Source
from training.data.readers.arrow_values import without_absent_keys
from training.data.readers.records import BadRecord, SourcePosition, SourceRecord, abbreviate
from training.errors import DataError

_TIMEOUT_S = 10.0


def _offline() -> bool:
    return any(
        os.environ.get(name, "").lower() in {"1", "true", "yes", "on"}
        for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")
    )


def _revision(source: Source) -> str:
    """Return the commit of a data set, from one request with a short time-out.

    Raises:
        DataError: The data set does not exist, or there is no permission or network.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    name = source.source
    try:
        return HfApi().dataset_info(name, timeout=_TIMEOUT_S).sha or "unknown"
    except GatedRepoError:
        raise DataError(
            f"{name}: this data set asks you to accept its terms on the Hub first, and to be "
            "logged in (set HF_TOKEN)"
        ) from None
    except RepositoryNotFoundError:
        raise DataError(
            f"{name}: there is no such file or folder here, and no such data set on the Hub "
            "(or it is private: set HF_TOKEN)"
        ) from None
    except Exception as error:
        raise DataError(
            f"{name}: there is no such file or folder here, and the Hub cannot be reached to look "
            f"for a data set of this name ({type(error).__name__}). Download it first and give the "
            "path, or set HF_HUB_OFFLINE=1 if it is already in the Hub's cache"
        ) from None


def digest(source: Source) -> str:
    """Return an identifier of the content: commit, configuration and split.

    Raises:
        DataError: The data set does not exist, or there is no permission or network.
    """
    revision = "offline" if _offline() else _revision(source)
    return f"hub:{source.source}@{revision}:{source.subset or ''}:{source.split}"


def records(source: Source) -> Iterator[SourceRecord | BadRecord]:
    """Yield the rows of a data set on the Hub.

    Raises:
        DataError: It cannot be downloaded, or has no such split or configuration.
    """
    if not _offline():
        _revision(source)
    for number, values in enumerate(_load(source)):
        origin, position = f"{source.source}:{number + 1}", SourcePosition(0, number)
        yield SourceRecord(origin, without_absent_keys(values), position)


def _load(source: Source) -> Any:
    import datasets

    try:
        return datasets.load_dataset(source.source, source.subset, split=source.split)
    except Exception as error:
        # The library raises its own, the file system's and the network's errors here.
        raise DataError(
            f"{source.source} (subset {source.subset or 'default'}, split {source.split}): "
            f"{abbreviate(str(error), 300)}. See data.train.split and data.train.subset"
        ) from None
