"""Decision whether training is restarted, from how it ended on all nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from catalog.exit_codes import RUN_FAILED, STOPPED


@dataclass(frozen=True)
class NodeExit:
    """End of training on one node.

    Attributes:
        node: Name of the node.
        code: Exit code of `python -m training`.
        message: Reason; empty for code 0.
        retryable: A restart may succeed: a process died, an unexpected error occurred, or training
            was stopped because another node failed.
    """

    node: str
    code: int
    message: str = ""
    retryable: bool = False


@dataclass(frozen=True)
class Decision:
    """Next step of all nodes.

    Attributes:
        code: Exit code of the container, if training is not restarted.
        message: Reason; empty for code 0.
        restart: Start training again from the last checkpoint.
    """

    code: int = 0
    message: str = ""
    restart: bool = False


class RestartPolicy:
    """Policy that restarts training after a crash, but not forever.

    A failure that repeats at the same step is deterministic: then, and after `max_restarts`, the
    run ends.

    Args:
        max_restarts: Maximum number of restarts.
        single_node: The job has one node, so messages need not name it.
    """

    def __init__(self, max_restarts: int, *, single_node: bool):
        self.max_restarts = max_restarts
        self.restarts = 0
        self._single_node = single_node
        self._previous: tuple[str, object] | None = None

    def decide(self, ended: Sequence[NodeExit], lost: Sequence[str], progress: object) -> Decision:
        """Return what all nodes do next.

        Args:
            ended: Ends of training, in order of time: the first failure caused the others.
            lost: Nodes that no longer answer, each as "algo-2 (its connection was closed)".
            progress: Value that differs once training has advanced.
        """
        cause = _root_cause(ended)
        if cause is None:
            return Decision() if not lost else self._lost(lost)
        if not cause.retryable:
            return Decision(cause.code, self._message(cause))
        if lost:
            return self._lost(lost)
        failure = (cause.message, progress)
        if failure == self._previous:
            message = f"{self._message(cause)} (the same failure after a restart, at the same step)"
            return Decision(cause.code, message)
        if self.restarts >= self.max_restarts:
            tried = f" (restarted {self.restarts} times)" if self.restarts else ""
            return Decision(cause.code, self._message(cause) + tried)
        self._previous = failure
        self.restarts += 1
        return Decision(cause.code, self._message(cause), restart=True)

    def _message(self, ended: NodeExit) -> str:
        return ended.message if self._single_node else f"{ended.node}: {ended.message}"

    def _lost(self, lost: Sequence[str]) -> Decision:
        names = ", ".join(lost)
        return Decision(
            RUN_FAILED,
            f"{names} was lost while training. Start the same job again to resume from its last "
            "checkpoint",
        )


def _root_cause(ended: Sequence[NodeExit]) -> NodeExit | None:
    """Return the end that explains the others.

    In order: an explained error, a signal to stop, a crash, and a node that was stopped because
    of another. `min` keeps the first of equals, which happened first.
    """
    failed = [end for end in ended if end.code != 0]

    def rank(end: NodeExit) -> tuple[bool, bool]:
        stopped = end.code == STOPPED
        return end.retryable, stopped

    return min(failed, key=rank, default=None)
