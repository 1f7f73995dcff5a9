"""The first node of several: it waits for the others and decides for all."""

from __future__ import annotations

import secrets
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from catalog.exit_codes import RUN_FAILED, STOPPED
from containers.entrypoint.connection import Connection, ConnectionLostError, Message
from containers.entrypoint.errors import StartError
from containers.entrypoint.node_identity import NodeIdentity
from containers.entrypoint.rendezvous import TICK_S, LaunchInfo, NodeInfo, give_up_if
from containers.entrypoint.restart_policy import Decision, NodeExit, RestartPolicy

_SAVE_S = 110.0
"""How long the others may take to write their checkpoint when one node was told to stop."""
_DIE_S = 15.0
"""How long they may take to end when one has died: nothing can be saved without it."""
_SETTLE_S = _SAVE_S + 30


class Leader:
    """The first node, which the others call.

    Args:
        place: Its own.
        hello: Its own.
        judge: Decides what follows when training ends.
        patience_s: How long the others may take to call.
        stopped: Whether this node was told to stop meanwhile.
    """

    def __init__(
        self,
        place: NodeIdentity,
        hello: NodeInfo,
        judge: RestartPolicy,
        *,
        patience_s: float,
        stopped: Callable[[], bool],
    ):
        self._place, self._hello, self._judge = place, hello, judge
        self._patience_s, self._stopped = patience_s, stopped
        self._lines: dict[int, Connection] = {}
        self._ended: list[NodeExit] = []
        self._lost: dict[int, str] = {}
        self._seen: dict[int, bool] = {}
        self._grace_s: float | None = None
        self._own_storage = False

    def assemble(self, folder: Path | None) -> LaunchInfo:
        """Wait for every node, see whether all share `folder`, and give the orders.

        Raises:
            StartError: Names the nodes that did not come, or do not fit.
        """
        if not self._lines:
            with self._listening() as ears:
                self._await_all(ears)
            assert folder is not None, "several nodes are told where to train"
            self._own_storage = self._compare_disks(folder)
        self._ended, self._grace_s = [], None
        orders = LaunchInfo(self._place.address, _free_port(), self._own_storage)
        self._tell("orders", **asdict(orders))
        return orders

    @contextmanager
    def _listening(self) -> Iterator[socket.socket]:
        try:
            ears = socket.create_server(("", self._place.port), backlog=len(self._place.nodes))
        except OSError as error:
            raise StartError(
                f"{self._place.name} cannot listen on port {self._place.port}: "
                f"{error.strerror or error}. Set MASTER_PORT to a free one, on all nodes"
            ) from error
        with ears:
            yield ears

    def _await_all(self, ears: socket.socket) -> None:
        until = time.monotonic() + self._patience_s
        unknown: list[Connection] = []
        while len(self._lines) < len(self._place.nodes) - 1:
            give_up_if(self._stopped())
            if time.monotonic() > until:
                self._explain_absence()
            if select.select([ears], [], [], TICK_S)[0]:
                with suppress(OSError):
                    unknown.append(Connection(ears.accept()[0]))
            for line in select.select(unknown, [], [], 0)[0]:
                unknown.remove(line)
                with suppress(ConnectionLostError):
                    for message in line.receive():
                        self._welcome(line, message)

    def _welcome(self, line: Connection, message: Message) -> None:
        fields = {name: message.get(name) for name in NodeInfo.__dataclass_fields__}
        hello = NodeInfo(**fields)  # type: ignore[arg-type]  # from outside; checked below
        if hello.rank not in range(1, len(self._place.nodes)):
            line.close()
            return
        mine, fault = self._hello, ""
        if hello.job != mine.job:
            fault = f"{hello.node} was told to train another job than {mine.node}"
        elif hello.devices != mine.devices:
            fault = (
                f"{hello.node} has {hello.devices} devices and {mine.node} has {mine.devices}; the "
                f"nodes of a job must be alike"
            )
        elif hello.rank in self._lines:
            fault = f"two nodes say they are number {hello.rank}: {hello.node} is one of them"
        line.peer = str(hello.node)
        self._lines[hello.rank] = line
        if fault:
            self._tell("verdict", **asdict(Decision(RUN_FAILED, fault)))
            raise StartError(fault)

    def _explain_absence(self) -> None:
        nodes = self._place.nodes
        missing = [name for rank, name in enumerate(nodes) if rank and rank not in self._lines]
        here = [name for rank, name in enumerate(nodes) if not rank or rank in self._lines]
        message = (
            f"{', '.join(missing)} did not join within {self._patience_s:g} s (here: "
            f"{', '.join(here)}). See in {'its' if len(missing) == 1 else 'their'} log why it did "
            f"not start, and let the nodes of a job reach each other on every port"
        )
        self._tell("verdict", **asdict(Decision(RUN_FAILED, message)))
        raise StartError(message)

    def _compare_disks(self, folder: Path) -> bool:
        """Return whether the others have a disk of their own where this node has `folder`.

        Raises:
            StartError: Some share it and some do not.
        """
        mark = folder / f".meeting-{secrets.token_hex(8)}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            mark.touch()
        except OSError as error:
            raise StartError(
                f"the run folder {folder} cannot be written: {error.strerror or error}. Make it "
                f"writable, with room"
            ) from error
        try:
            self._tell("look", name=mark.name)
            until = time.monotonic() + self._patience_s
            while len(self._seen) < len(self._lines):
                give_up_if(self._stopped())
                self._hear(TICK_S)
                if self._lost or time.monotonic() > until:
                    gone = ", ".join(self._lost.values()) or "a node"
                    raise StartError(f"{gone} was lost before training began")
        finally:
            mark.unlink(missing_ok=True)
        blind = [self._place.nodes[rank] for rank, seen in self._seen.items() if not seen]
        if blind and len(blind) < len(self._lines):
            raise StartError(
                f"{', '.join(blind)} do not see the folder {folder} that the other nodes share. "
                f"Mount it on every node, or on none"
            )
        return bool(blind)

    def listen(self, seconds: float) -> float | None:
        """Hear the others; training stops here when one of them failed or is gone."""
        self._hear(seconds)
        if self._lost or any(end.code for end in self._ended):
            self._halt()
        return self._grace_s

    def settle(self, ended: NodeExit, progress: object) -> Decision:
        """Wait until training has ended everywhere, and decide for all."""
        self._ended.append(ended)
        until = float("inf")
        while awaited := self._awaited():
            if self.listen(TICK_S) is not None:
                until = min(until, time.monotonic() + _SETTLE_S)
            if time.monotonic() > until:
                break
        silent = [f"{name} (it does not answer)" for name in awaited]
        verdict = self._judge.decide(self._ended, [*self._lost.values(), *silent], progress)
        self._tell("verdict", **asdict(verdict))
        return verdict

    def _awaited(self) -> list[str]:
        """Return the nodes that have neither ended training nor gone."""
        heard = {end.node for end in self._ended}
        living = [line.peer for rank, line in self._lines.items() if rank not in self._lost]
        return [name for name in living if name not in heard]

    def _halt(self) -> None:
        if self._grace_s is None:
            saving = any(end.code == STOPPED for end in self._ended)
            self._grace_s = _SAVE_S if saving else _DIE_S
            self._tell("halt", grace_s=self._grace_s)

    def _tell(self, kind: str, **facts: object) -> None:
        for rank, line in self._lines.items():
            if rank in self._lost:
                continue
            try:
                line.send(kind, **facts)
            except ConnectionLostError as error:
                self._lost[rank] = f"{line.peer} ({error})"

    def _hear(self, seconds: float) -> None:
        living = {line: rank for rank, line in self._lines.items() if rank not in self._lost}
        if not living:
            time.sleep(seconds)
            return
        for line in select.select(list(living), [], [], seconds)[0]:
            try:
                messages = line.receive()
            except ConnectionLostError as error:
                self._lost[living[line]] = f"{line.peer} ({error})"
                continue
            for message in messages:
                if message["kind"] == "seen":
                    self._seen[living[line]] = bool(message["seen"])
                elif message["kind"] == "ended":
                    del message["kind"]
                    self._ended.append(NodeExit(**message))

    def close(self) -> None:
        """Hang up."""
        for line in self._lines.values():
            line.close()


def _free_port() -> int:
    with socket.create_server(("", 0)) as server:
        return int(server.getsockname()[1])
