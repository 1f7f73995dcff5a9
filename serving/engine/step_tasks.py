"""Work on the model between two steps of the engine, such as the loading of an adapter."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field


@dataclass(frozen=True)
class StepTask:
    """Work that waits for its turn.

    Attributes:
        work: The work.
        without: Adapter that no answer may use while it is done; None if any may.
        done: Result, for the thread that waits for it.
    """

    work: Callable[[], None]
    without: str | None = None
    done: Future[None] = field(default_factory=Future)

    def run(self) -> None:
        """Do the work, and report that it is done, or its error."""
        try:
            self.work()
        except BaseException as error:
            self.done.set_exception(error)
        else:
            self.done.set_result(None)
