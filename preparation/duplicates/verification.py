"""Verification of duplicate candidates by the Jaccard similarity of their shingles.

MinHash joins rows into clusters over chains: A resembles B, and B resembles C, though A does not
resemble C. Here each row of a cluster is compared with the rows of the cluster that are kept, in
the order of the data, and removed only if it resembles one of them itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from datatrove.pipeline.base import PipelineStep

from preparation.duplicates.candidates import candidates_path
from preparation.duplicates.exchange import ExchangeWriter, read_exchange
from preparation.duplicates.groups import write_joins

VERIFIED = "duplicates/verified"
SCHEMA = pa.schema(
    [
        ("row", pa.uint32()),
        ("group", pa.string()),
        ("kind", pa.string()),
        ("of", pa.string()),
        ("similarity", pa.float64()),
    ]
)
_Hashes: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.uint64]]"


@dataclass(slots=True)
class _Candidate:
    """Row of a cluster."""

    id: str
    content: str
    shingles: _Hashes


class VerifyDuplicates(PipelineStep):
    """Pass over the clusters; each task has a share of them.

    The memory of a task grows with the rows of its clusters that are kept, and not with the number
    of rows or of clusters.

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
            data: Not used: the pass reads the candidates itself.
            rank: Number of the task.
            world_size: Number of all tasks.
        """
        clusters: defaultdict[int, list[_Candidate]] = defaultdict(list)
        joins: dict[tuple[str, str], None] = {}
        path = f"{VERIFIED}/{rank:05d}.arrow"
        with ExchangeWriter(self.folder, path, SCHEMA, self.units) as writer:
            for unit in range(self.units):
                shared = read_exchange(self.folder, candidates_path(unit), rank, world_size)
                for cluster, row, group, candidate in _candidates(shared):
                    found = self._compare(clusters[cluster], candidate)
                    writer.put(unit, {"row": row, **found})
                    if group:
                        joins[found["group"], group] = None
        write_joins(self.folder, rank, joins)

    def _compare(self, kept: list[_Candidate], mine: _Candidate) -> dict[str, Any]:
        """Return what a row duplicates, if anything, and the key of its group.

        The group is that of the whole cluster: rows that resemble each other a little less than
        the threshold still must not be on two sides of a split.
        """
        group = kept[0].content if kept else mine.content
        best, similarity = None, 0.0
        for other in kept:
            if other.content == mine.content:
                return {"group": group, "kind": "exact", "of": other.id, "similarity": 1.0}
            if (value := jaccard(mine.shingles, other.shingles)) > similarity:
                best, similarity = other, value
        if best is not None and similarity >= self.similarity:
            rounded = round(similarity, 4)
            return {"group": group, "kind": "near", "of": best.id, "similarity": rounded}
        kept.append(mine)
        return {"group": group, "kind": None, "of": None, "similarity": None}


def verified_rows(folder: Any, unit: int, units: int, tasks: int) -> dict[int, dict[str, Any]]:
    """Return the rows of a unit that are in clusters, by their index.

    Args:
        folder: datatrove's `DataFolder` of the preparation.
        unit: Number of the unit.
        units: Number of all units.
        tasks: Number of tasks that verified clusters.
    """
    return {
        row["row"]: row
        for task in range(tasks)
        for batch in read_exchange(folder, f"{VERIFIED}/{task:05d}.arrow", unit, units)
        for row in batch.to_pylist()
    }


def _candidates(batches: Iterator[Any]) -> Iterator[tuple[int, int, str, _Candidate]]:
    """Yield cluster, index, group and comparable content of the rows of batches."""
    for batch in batches:
        shingles = batch["shingles"]
        values, ends = shingles.values.to_numpy(), shingles.offsets.to_numpy()
        columns = (batch[name].to_pylist() for name in ("cluster", "row", "group", "id", "content"))
        for number, (cluster, row, group, id_, content) in enumerate(zip(*columns, strict=True)):
            # A copy, as a view would keep the whole batch.
            hashes = values[ends[number] : ends[number + 1]].copy()
            yield cluster, row, group, _Candidate(id_, content, hashes)


def jaccard(one: _Hashes, other: _Hashes) -> float:
    """Return the Jaccard similarity of two sorted sets; two empty ones are equal."""
    shared = np.intersect1d(one, other, assume_unique=True).size
    union = one.size + other.size - shared
    return shared / union if union else 1.0
