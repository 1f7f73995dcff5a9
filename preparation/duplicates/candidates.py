"""Pass that hands the rows of clusters to the tasks that verify them."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pyarrow as pa
from datatrove.pipeline.base import PipelineStep

from preparation.duplicates.exchange import ExchangeWriter
from preparation.duplicates.signatures import CLUSTERS, shingle_hashes
from preparation.row_files import read_lines, stored_row

CANDIDATES = "duplicates/candidates"
SCHEMA = pa.schema(
    [
        ("cluster", pa.uint32()),
        ("row", pa.uint32()),
        ("id", pa.string()),
        ("content", pa.string()),
        ("group", pa.string()),
        ("shingles", pa.list_(pa.uint64())),
    ]
)
_MOST_TASKS = 128


def verifying_tasks(units: int) -> int:
    """Return the number of tasks that verify clusters.

    There is one for each unit, so that a task holds about as much as one that reads a unit; each of
    them reads a part of the file of every unit, which bounds their number.
    """
    return min(units, _MOST_TASKS)


class CollectCandidates(PipelineStep):
    """Pass over the rows of units that are in clusters; all rows of a cluster go to one task.

    Args:
        folder: datatrove's `DataFolder` of the preparation.
        tasks: Number of tasks that verify clusters.
    """

    name = "Collect candidates"
    type = "Temper"

    def __init__(self, folder: Any, tasks: int):
        super().__init__()
        self.folder = folder
        self.tasks = tasks

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        """Write the candidates of a unit.

        Args:
            data: Not used: the pass reads the rows itself.
            rank: Number of the unit.
            world_size: Number of all units.
        """
        members = _members(self.folder, rank)
        path = candidates_path(rank)
        with ExchangeWriter(self.folder, path, SCHEMA, self.tasks) as writer:
            for index, line in enumerate(read_lines(self.folder, rank)) if members else ():
                if (cluster := members.get(index)) is None:
                    continue
                row, content = stored_row(line)
                text = "\n".join(part.text for part in row.content())
                shingles = np.unique(shingle_hashes(text))
                candidate = {
                    "cluster": cluster,
                    "row": index,
                    "id": row.id,
                    "content": content,
                    "group": row.group,
                    "shingles": shingles,
                }
                writer.put(cluster % self.tasks, candidate, shingles.nbytes)


def candidates_path(unit: int) -> str:
    """Return the path of the candidates of a unit."""
    return f"{CANDIDATES}/{unit:05d}.arrow"


def _members(folder: Any, unit: int) -> dict[int, int]:
    """Return the cluster of each row of a unit that is in one, by the row's index."""
    path = f"{CLUSTERS}/{unit:06d}.clusters"
    if not folder.exists(path):
        return {}
    with folder.open(path, "rb") as stream:
        return dict(struct.iter_unpack("<2I", stream.read()))
