"""Objects of one kind of custom resource: server-side apply, generations, deletion by a finalizer.

https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

import copy
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Item = dict[str, Any]
Observer = Callable[[str, str], None]


class CustomObjects:
    """Stored objects, by namespace and name.

    Args:
        problems: Returns what the definition of the resource refuses in a `spec`.
        clock: Returns the time as RFC 3339.

    Attributes:
        observers: Are called with namespace and name after the content of an object changes or its
            deletion is requested.
    """

    def __init__(self, problems: Callable[[Any], list[str]], clock: Callable[[], str]):
        self._problems, self._clock = problems, clock
        self._items: dict[tuple[str, str], Item] = {}
        self._lock = threading.RLock()
        self._version = 0
        self.observers: list[Observer] = []

    def get(self, namespace: str, name: str) -> Item | None:
        """Return a copy of an object; None if it does not exist."""
        with self._lock:
            return copy.deepcopy(self._items.get((namespace, name)))

    def list(self, namespace: str, labels: Mapping[str, str]) -> list[Item]:
        """Return copies of the objects of a namespace, or of all if it is empty, with labels."""
        with self._lock:
            return [copy.deepcopy(item) for item in self._matching(namespace, labels)]

    def apply(self, namespace: str, name: str, item: Item) -> Item:
        """Create an object, or replace what the only field manager has applied before.

        Args:
            namespace: Its namespace.
            name: Its name.
            item: The object.

        Raises:
            ValueError: The definition of the resource refuses the content.
        """
        if found := self._problems(item.get("spec")):
            raise ValueError("; ".join(sorted(found)))
        with self._lock:
            old = self._items.get((namespace, name))
            new = copy.deepcopy({key: value for key, value in item.items() if key != "status"})
            changed = old is None or old["spec"] != new["spec"]
            kept = old["metadata"] if old else self._created()
            new["metadata"] = {
                **kept,
                **new["metadata"],
                "namespace": namespace,
                "generation": kept["generation"] + changed,
                "resourceVersion": self._next_version(),
            }
            # The operator's status of the earlier content stays until it reads the new content.
            new["status"] = old["status"] if old else {}
            self._items[namespace, name] = new
        if changed:
            self._notify(namespace, name)
        return copy.deepcopy(new)

    def request_deletion(self, namespace: str, name: str) -> Item | None:
        """Mark an object as deleted; it stays until its finalizer is removed."""
        with self._lock:
            item = self._items.get((namespace, name))
            if item is None:
                return None
            first = item["metadata"].setdefault("deletionTimestamp", self._clock())
            item["metadata"]["resourceVersion"] = self._next_version()
            shown = copy.deepcopy(item)
        if first:
            self._notify(namespace, name)
        return shown

    def set_status(self, namespace: str, name: str, status: Item) -> None:
        """Replace the status of an object, as its operator does.

        Args:
            namespace: Its namespace.
            name: Its name.
            status: The status.
        """
        with self._lock:
            if item := self._items.get((namespace, name)):
                item["status"] = copy.deepcopy(status)
                item["metadata"]["resourceVersion"] = self._next_version()

    def finalize(self, namespace: str, name: str) -> None:
        """Remove an object whose deletion was requested."""
        with self._lock:
            self._items.pop((namespace, name), None)

    def clear(self) -> None:
        """Remove every object at once."""
        with self._lock:
            self._items.clear()

    def _matching(self, namespace: str, labels: Mapping[str, str]) -> Iterator[Item]:
        for (inside, _), item in sorted(self._items.items()):
            found = item["metadata"].get("labels") or {}
            if namespace in ("", inside) and labels.items() <= found.items():
                yield item

    def _created(self) -> Item:
        return {"uid": str(uuid.uuid4()), "creationTimestamp": self._clock(), "generation": 0}

    def _next_version(self) -> str:
        self._version += 1
        return str(self._version)

    def _notify(self, namespace: str, name: str) -> None:
        for observer in self.observers:
            observer(namespace, name)
