"""Groups of a split that duplicates join: a cluster with the documents and users of its rows.

A group is named by a 64-bit hash of its key, so that a worker holds 16 bytes for each group that is
joined to another.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any, Self, TypeAlias

import numpy as np
import xxhash
from datatrove.pipeline.base import PipelineStep

from preparation.passes.building import read_bytes

JOINS = "duplicates/joins"
GROUPS = "duplicates/groups.npy"
_Pairs: TypeAlias = "np.ndarray[tuple[int, int], np.dtype[np.uint64]]"


def group_number(key: str) -> int:
    """Return the number of a group with a key."""
    return xxhash.xxh3_64_intdigest(key)


def write_joins(folder: Any, rank: int, joins: Iterable[tuple[str, str]]) -> None:
    """Write the pairs of groups that one task joins.

    Args:
        folder: datatrove's `DataFolder` of the preparation.
        rank: Number of the task.
        joins: Keys of the groups.
    """
    numbers = [(group_number(one), group_number(other)) for one, other in joins]
    _write_pairs(folder, f"{JOINS}/{rank:05d}.npy", numbers)


class JoinGroups(PipelineStep):
    """Pass over the pairs of all tasks, by one task.

    Args:
        folder: datatrove's `DataFolder` of the preparation.
        tasks: Number of tasks that wrote pairs.
    """

    name = "Join groups"
    type = "Temper"

    def __init__(self, folder: Any, tasks: int):
        super().__init__()
        self.folder = folder
        self.tasks = tasks

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        """Write the group to which each joined one belongs.

        Args:
            data: Not used: the pass reads the pairs itself.
            rank: Not used: there is one task.
            world_size: Not used.
        """
        union = GroupUnion()
        for task in range(self.tasks):
            for one, other in _read_pairs(self.folder, f"{JOINS}/{task:05d}.npy").tolist():
                union.join(one, other)
        _write_pairs(self.folder, GROUPS, union.roots())


class GroupUnion:
    """Union of groups, each named by its smallest one."""

    def __init__(self) -> None:
        self._parent: dict[int, int] = {}

    def join(self, one: int, other: int) -> None:
        """Unite two groups."""
        first, second = sorted((self._root(one), self._root(other)))
        self._parent[second] = first

    def roots(self) -> list[tuple[int, int]]:
        """Return each group that was joined to another, and the name of their union, sorted."""
        return [(key, root) for key in sorted(self._parent) if (root := self._root(key)) != key]

    def _root(self, key: int) -> int:
        self._parent.setdefault(key, key)
        while self._parent[key] != key:
            self._parent[key] = self._parent[self._parent[key]]
            key = self._parent[key]
        return key


class JoinedGroups:
    """Groups that were joined to others.

    Args:
        pairs: Number of each group and that of its union, sorted, shape (groups, 2).
    """

    def __init__(self, pairs: _Pairs):
        self._pairs = pairs

    @classmethod
    def none(cls) -> Self:
        """Return those of a preparation without duplicates."""
        return cls(np.empty((0, 2), dtype=np.uint64))

    @classmethod
    def read(cls, folder: Any) -> Self:
        """Return those of a preparation."""
        return cls(_read_pairs(folder, GROUPS))

    def root(self, group: int) -> int:
        """Return the number of the union of a group, or its own."""
        at = int(np.searchsorted(self._pairs[:, 0], np.uint64(group)))
        if at < len(self._pairs) and int(self._pairs[at, 0]) == group:
            return int(self._pairs[at, 1])
        return group


def _write_pairs(folder: Any, path: str, pairs: list[tuple[int, int]]) -> None:
    with folder.open(path, "wb") as stream:
        np.save(stream, np.array(pairs, dtype=np.uint64).reshape((-1, 2)))


def _read_pairs(folder: Any, path: str) -> _Pairs:
    pairs: _Pairs = np.load(io.BytesIO(read_bytes(folder, path)))
    return pairs
