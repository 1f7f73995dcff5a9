"""Dollars of a search: reserved before a trial starts, settled by what it cost.

Several processes may share them: each change reads the file under a lock.

The most that a trial can cost is written down before it is started. However a search is killed, its
trials therefore never cost more than its limit: a start that has no settled cost counts in full.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from search.claims import lock_file
from training.run_folder import write_whole

FILE = "costs.json"


@dataclass(frozen=True)
class CostEntry:
    """Costs of one trial, in US dollars.

    Attributes:
        before: Cost of the starts before the last one.
        reserved: Most that the last start can cost.
        settled: Cost of all starts; None while the last one is in progress.
    """

    before: float
    reserved: float
    settled: float | None = None

    @property
    def most(self) -> float:
        """Cost, or the most that it can become."""
        return self.before + self.reserved if self.settled is None else self.settled


class SearchBudget:
    """Costs of all trials of a search, in its folder.

    Args:
        folder: Folder of the search.
        limit_usd: Limit of the sum; None for no limit.
    """

    def __init__(self, folder: Path, limit_usd: float | None):
        self._path, self._lock = folder / FILE, folder / f".{FILE}.lock"
        self.limit_usd = limit_usd

    @property
    def most_usd(self) -> float:
        """Sum of all costs; trials in progress count with the most that they can cost."""
        return sum(entry.most for entry in self._read().values())

    def reserve(
        self, trial: str, usd: float, *, spent: float | None = None, kept_usd: float = 0.0
    ) -> bool:
        """Reserve the most that a start of a trial can cost; return False if the rest is less.

        Args:
            trial: Name of the trial.
            usd: Most that the start can cost.
            spent: Cost of its earlier starts; None if it is not known from elsewhere.
            kept_usd: Part of the limit that this start may not use.
        """
        with lock_file(self._lock):
            entries = self._read()
            entry = entries.get(trial)
            before = entry.most if entry is not None else 0.0
            if spent is not None:
                before = max(spent, entry.before if entry is not None else 0.0)
            others = sum(other.most for name, other in entries.items() if name != trial)
            if self.limit_usd is not None and others + before + usd + kept_usd > self.limit_usd:
                return False
            self._write({**entries, trial: CostEntry(before, usd)})
            return True

    def before(self, trial: str) -> float:
        """Return the cost of the starts of a trial before the last one."""
        entry = self._read().get(trial)
        return 0.0 if entry is None else entry.before

    def settle(self, trial: str, usd: float | None) -> None:
        """Record what all starts of a trial cost; the reserved sum stays if that is unknown.

        Args:
            trial: Name of the trial.
            usd: Cost of all its starts.
        """
        if usd is None:
            return
        with lock_file(self._lock):
            entries = self._read()
            entry = entries.get(trial, CostEntry(0.0, 0.0))
            self._write({**entries, trial: CostEntry(entry.before, entry.reserved, usd)})

    def _read(self) -> dict[str, CostEntry]:
        if not self._path.exists():
            return {}
        entries = json.loads(self._path.read_text())
        return {name: CostEntry(**entry) for name, entry in entries.items()}

    def _write(self, entries: dict[str, CostEntry]) -> None:
        document = {name: asdict(entry) for name, entry in entries.items()}
        write_whole(self._path, json.dumps(document, indent=1) + "\n")
