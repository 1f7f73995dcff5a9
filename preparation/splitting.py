"""Side of a row in the split: train, validation or test."""

from __future__ import annotations

import xxhash

from preparation.config.split import Split, SplitName
from preparation.duplicates.groups import JoinedGroups, group_number
from preparation.rows import PreparedRow


class Splitter:
    """Divides rows by a hash of their group, so that a row's side does not depend on others.

    Args:
        split: Section `prepare.split`.
        joined: Groups that duplicates join to others.
    """

    def __init__(self, split: Split, joined: JoinedGroups):
        self._split = split
        self._joined = joined

    def side(self, row: PreparedRow, content: str, duplicates: str = "") -> SplitName:
        """Return the side of a row.

        Args:
            row: The row.
            content: Hash of its content.
            duplicates: Group of its near duplicates, if it has any.
        """
        key = content
        if self._split.by == "group":
            key = self.group(row, content, duplicates)
        share = xxhash.xxh3_64_intdigest(f"{self._split.seed}\0{key}") / 2**64
        test = self._split.test or 0.0
        if share < test:
            return "test"
        return "validation" if share < test + (self._split.validation or 0.0) else "train"

    def group(self, row: PreparedRow, content: str, duplicates: str = "") -> str:
        """Return the name of the group of a row.

        A group is near duplicates, a document, or rows of one value of `group_by`; without any,
        rows of the same content. The name is a hash, since the value may be the name of a person.

        Args:
            row: The row.
            content: Hash of its content.
            duplicates: Group of its near duplicates, if it has any.
        """
        key = duplicates or row.group or content
        return f"{self._joined.root(group_number(key)):016x}"
