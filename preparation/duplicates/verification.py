"""Verification of duplicate candidates by the Jaccard similarity of their shingles.

MinHash joins rows into clusters over chains: A resembles B, and B resembles C, though A does not
resemble C. Here each row of a cluster is compared with the rows of the cluster that are kept, in
the order of the data, and removed only if it resembles one of them itself.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from datatrove.pipeline.base import PipelineStep

from preparation.duplicates.signatures import CLUSTERS, shingle_hashes
from preparation.passes.building import write_json, write_lines
from preparation.row_files import StoredRow, read_lines, stored_row

VERIFIED = "duplicates"
GROUPS = f"{VERIFIED}/groups.json"
_Hashes: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.uint64]]"


@dataclass(slots=True)
class _KeptRow:
    """Row of a cluster that others are compared with."""

    id: str
    content: str
    shingles: _Hashes


@dataclass(slots=True)
class _Cluster:
    kept: list[_KeptRow] = field(default_factory=list)


class VerifyDuplicates(PipelineStep):
    """Pass over the rows of clusters, by one task.

    Its memory grows with the number of clusters, and not with the number of rows.

    Args:
        folder: datatrove's `DataFolder` of the preparation.
        units: Number of units.
        similarity: Least Jaccard similarity of duplicates.
    """

    name = "Verify duplicates"
    type = "Temper"

    def __init__(self, folder: Any, units: int, similarity: float):
        super().__init__()
        self.folder = folder
        self.units = units
        self.similarity = similarity

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        """Write for each unit which of its rows are duplicates, of which row, and their group.

        Args:
            data: Not used: the pass reads the rows itself.
            rank: Number of the task.
            world_size: Number of all tasks.
        """
        clusters: defaultdict[int, _Cluster] = defaultdict(_Cluster)
        groups = GroupUnion()
        for unit in range(self.units):
            members = _members(self.folder, unit)
            written = []
            for index, line in enumerate(read_lines(self.folder, unit)) if members else ():
                if index in members:
                    stored = stored_row(line)
                    written.append(
                        {"row": index, **self._compare(clusters[members[index]], stored)}
                    )
                    groups.join(written[-1]["group"], stored.row.group)
            write_lines(self.folder, f"{VERIFIED}/{unit:05d}.jsonl", written)
        write_json(self.folder, GROUPS, groups.roots())

    def _compare(self, cluster: _Cluster, stored: StoredRow) -> dict[str, Any]:
        """Return what a row duplicates, if anything, and the key of its group.

        The group is that of the whole cluster: rows that resemble each other a little less than
        the threshold still must not be on two sides of a split.
        """
        text = "\n".join(part.text for part in stored.row.content())
        mine = np.unique(shingle_hashes(text))
        group = cluster.kept[0].content if cluster.kept else stored.content
        best, similarity = None, 0.0
        for kept in cluster.kept:
            if kept.content == stored.content:
                return {"group": group, "kind": "exact", "of": kept.id, "similarity": 1.0}
            if (value := jaccard(mine, kept.shingles)) > similarity:
                best, similarity = kept, value
        if best is not None and similarity >= self.similarity:
            rounded = round(similarity, 4)
            return {"group": group, "kind": "near", "of": best.id, "similarity": rounded}
        cluster.kept.append(_KeptRow(stored.row.id, stored.content, mine))
        return {"group": group}


class GroupUnion:
    """Union of groups: a cluster of duplicates joins the documents and users of its rows."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def join(self, one: str, other: str) -> None:
        """Unite two groups; an empty one is none."""
        if not one or not other:
            return
        first, second = sorted((self._root(one), self._root(other)))
        self._parent[second] = first

    def roots(self) -> dict[str, str]:
        """Return the name of each group that was joined to another."""
        return {key: root for key in sorted(self._parent) if (root := self._root(key)) != key}

    def _root(self, key: str) -> str:
        self._parent.setdefault(key, key)
        while self._parent[key] != key:
            self._parent[key] = self._parent[self._parent[key]]
            key = self._parent[key]
        return key


def jaccard(one: _Hashes, other: _Hashes) -> float:
    """Return the Jaccard similarity of two sorted sets; two empty ones are equal."""
    shared = np.intersect1d(one, other, assume_unique=True).size
    union = one.size + other.size - shared
    return shared / union if union else 1.0


def _members(folder: Any, unit: int) -> dict[int, int]:
    """Return the cluster of each row of a unit that is in one, by the row's index."""
    path = f"{CLUSTERS}/{unit:06d}.clusters"
    if not folder.exists(path):
        return {}
    with folder.open(path, "rb") as stream:
        return dict(_pairs(stream.read()))


def _pairs(content: bytes) -> Iterator[tuple[int, int]]:
    yield from struct.iter_unpack("<2I", content)
