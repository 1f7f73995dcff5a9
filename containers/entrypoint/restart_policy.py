"""How training ended on the nodes, and what follows from it for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from catalog.exit_codes import RUN_FAILED, STOPPED


@dataclass(frozen=True)
class NodeExit:
    """How training ended on one node.

    Attributes:
        node: Its name.
        code: Exit code of `python -m training`.
        message: Why; empty after 0.
        again: Whether starting again may go better: a process died, or met the unforeseen, or was
            stopped because another had.
    """

    node: str
    code: int
    message: str = ""
    again: bool = False


@dataclass(frozen=True)
class Decision:
    """What all nodes do next.

    Attributes:
        code: Exit code of the container.
        message: Why, where it is not 0.
        again: Train again instead of ending.
    """

    code: int = 0
    message: str = ""
    again: bool = False


class RestartPolicy:
    """Decides whether training is started again.

    A fault that comes back at the very place where it came before is no accident: then, and after
    `max_restarts`, the run ends.

    Args:
        max_restarts: How often training may be started again.
        alone: Whether there is one node, so that messages need not name it.
    """

    def __init__(self, max_restarts: int, *, alone: bool):
        self.max_restarts = max_restarts
        self.restarts = 0
        self._alone = alone
        self._before: tuple[str, object] | None = None

    def decide(self, ended: Sequence[NodeExit], lost: Sequence[str], progress: object) -> Decision:
        """Return what follows.

        Args:
            ended: In the order in which they ended: the first fault is the cause of the others.
            lost: Nodes that are gone without a word, as "algo-2 (its connection was closed)".
            progress: Anything that differs when training has come further.
        """
        worst = _worst(ended)
        if worst is None:
            return Decision() if not lost else self._lost(lost)
        if not worst.again:
            return Decision(worst.code, self._say(worst))
        if lost:
            return self._lost(lost)
        fault = (worst.message, progress)
        if fault == self._before:
            message = f"{self._say(worst)} (the same again after a restart, and no step further)"
            return Decision(worst.code, message)
        if self.restarts >= self.max_restarts:
            tried = f" (restarted {self.restarts} times)" if self.restarts else ""
            return Decision(worst.code, self._say(worst) + tried)
        self._before = fault
        self.restarts += 1
        return Decision(worst.code, self._say(worst), again=True)

    def _say(self, ended: NodeExit) -> str:
        return ended.message if self._alone else f"{ended.node}: {ended.message}"

    def _lost(self, lost: Sequence[str]) -> Decision:
        names = ", ".join(lost)
        return Decision(
            RUN_FAILED,
            f"{names} was lost while training. The same job goes on from its last checkpoint",
        )


def _worst(ended: Sequence[NodeExit]) -> NodeExit | None:
    """Return the end that tells most: an explained fault, a stop, a death, what that drew along."""
    failed = [end for end in ended if end.code != 0]

    def rank(end: NodeExit) -> tuple[bool, bool]:
        stopped = end.code == STOPPED
        return end.again, stopped

    return min(failed, key=rank, default=None)
