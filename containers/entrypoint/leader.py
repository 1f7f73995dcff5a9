"""Leader: the first node of several, which waits for the others and decides for all."""

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
from containers.entrypoint.rendezvous import TICK_S, LaunchInfo, NodeInfo, raise_if_stopped
from containers.entrypoint.restart_policy import Decision, NodeExit, RestartPolicy

_SAVE_GRACE_S = 110.0
"""Grace period after a signal to stop, in which the nodes write their checkpoint together."""
_CRASH_GRACE_S = 15.0
"""Grace period after a crash: a checkpoint needs every process, so nothing can be saved."""
_EXIT_TIMEOUT_S = _SAVE_GRACE_S + 30


class Leader:
    """Rendezvous of the first node, to which the others connect.

    Args:
        identity: This node among those of the job.
        info: Description of this node.
        policy: Decides whether training is restarted.
        join_timeout_s: Seconds to wait for the other nodes.
        stopped: Returns whether this node received a signal to stop.
    """

    def __init__(
        self,
        identity: NodeIdentity,
        info: NodeInfo,
        policy: RestartPolicy,
        *,
        join_timeout_s: float,
        stopped: Callable[[], bool],
    ):
        self._identity, self._info, self._policy = identity, info, policy
        self._join_timeout_s, self._stopped = join_timeout_s, stopped
        self._connections: dict[int, Connection] = {}
        self._ended: list[NodeExit] = []
        self._lost: dict[int, str] = {}
        self._visible: dict[int, bool] = {}
        self._grace_s: float | None = None
        self._own_storage = False

    def join(self, folder: Path | None) -> LaunchInfo:
        """Wait for every node, check whether all share `folder`, and start training.

        Raises:
            StartError: Names the nodes that did not join, or that do not match this one.
        """
        if not self._connections:
            with self._listen() as server:
                self._accept_all(server)
            assert folder is not None, "jobs of several nodes have a run folder"
            self._own_storage = self._check_storage(folder)
        self._ended, self._grace_s = [], None
        # A new port for every start: the previous one may linger in TIME_WAIT.
        launch = LaunchInfo(self._identity.address, _free_port(), self._own_storage)
        self._broadcast("launch", **asdict(launch))
        return launch

    @contextmanager
    def _listen(self) -> Iterator[socket.socket]:
        identity = self._identity
        try:
            server = socket.create_server(("", identity.port), backlog=len(identity.nodes))
        except OSError as error:
            raise StartError(
                f"{identity.name} cannot listen on port {identity.port}: "
                f"{error.strerror or error}. Set MASTER_PORT to a free one, on all nodes"
            ) from error
        with server:
            yield server

    def _accept_all(self, server: socket.socket) -> None:
        deadline = time.monotonic() + self._join_timeout_s
        # Connections of which no valid message has come yet; port scanners end here, too.
        pending: list[Connection] = []
        while len(self._connections) < len(self._identity.nodes) - 1:
            raise_if_stopped(self._stopped())
            if time.monotonic() > deadline:
                self._report_missing()
            if select.select([server], [], [], TICK_S)[0]:
                with suppress(OSError):
                    pending.append(Connection(server.accept()[0]))
            for connection in select.select(pending, [], [], 0)[0]:
                pending.remove(connection)
                with suppress(ConnectionLostError):
                    for message in connection.receive():
                        self._register(connection, message)

    def _register(self, connection: Connection, message: Message) -> None:
        """Add a node whose description matches this one's.

        Raises:
            StartError: The node does not match; every node is told why.
        """
        fields = {name: message.get(name) for name in NodeInfo.__dataclass_fields__}
        info = NodeInfo(**fields)  # type: ignore[arg-type]  # untrusted; checked below
        if info.rank not in range(1, len(self._identity.nodes)):
            connection.close()
            return
        own, mismatch = self._info, ""
        if info.job != own.job:
            mismatch = f"{info.node} was told to train another job than {own.node}"
        elif info.devices != own.devices:
            mismatch = (
                f"{info.node} has {info.devices} devices and {own.node} has {own.devices}; the "
                f"nodes of a job must be alike"
            )
        elif info.rank in self._connections:
            mismatch = f"two nodes have rank {info.rank}: {info.node} is one of them"
        connection.peer = str(info.node)
        self._connections[info.rank] = connection
        if mismatch:
            self._broadcast("decision", **asdict(Decision(RUN_FAILED, mismatch)))
            raise StartError(mismatch)

    def _report_missing(self) -> None:
        nodes = self._identity.nodes
        missing = [n for rank, n in enumerate(nodes) if rank and rank not in self._connections]
        present = [n for rank, n in enumerate(nodes) if not rank or rank in self._connections]
        message = (
            f"{', '.join(missing)} did not join within {self._join_timeout_s:g} s (here: "
            f"{', '.join(present)}). See in {'its' if len(missing) == 1 else 'their'} log why it "
            f"did not start, and let the nodes of a job reach each other on every port"
        )
        self._broadcast("decision", **asdict(Decision(RUN_FAILED, message)))
        raise StartError(message)

    def _check_storage(self, folder: Path) -> bool:
        """Return whether the nodes have disks of their own at the run folder.

        The leader writes a marker file; a node that sees it shares the disk.

        Raises:
            StartError: Some nodes share the folder and some do not, or it cannot be written.
        """
        marker = folder / f".rendezvous-{secrets.token_hex(8)}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            marker.touch()
        except OSError as error:
            raise StartError(
                f"the run folder {folder} cannot be written: {error.strerror or error}. Make it "
                f"writable, and free space on its disk"
            ) from error
        try:
            self._broadcast("check_file", name=marker.name)
            deadline = time.monotonic() + self._join_timeout_s
            while len(self._visible) < len(self._connections):
                raise_if_stopped(self._stopped())
                self._receive(TICK_S)
                if self._lost or time.monotonic() > deadline:
                    lost = ", ".join(self._lost.values()) or "a node"
                    raise StartError(f"{lost} was lost before training began")
        finally:
            marker.unlink(missing_ok=True)
        nodes = self._identity.nodes
        separate = [nodes[rank] for rank, visible in self._visible.items() if not visible]
        if separate and len(separate) < len(self._connections):
            raise StartError(
                f"{', '.join(separate)} do not see the folder {folder} that the other nodes share. "
                f"Mount it on every node, or on none"
            )
        return bool(separate)

    def poll(self, seconds: float) -> float | None:
        """Process messages of the followers; stop training everywhere if one failed or is lost."""
        self._receive(seconds)
        if self._lost or any(end.code for end in self._ended):
            self._stop_all()
        return self._grace_s

    def agree(self, ended: NodeExit, progress: object) -> Decision:
        """Wait until training has ended on every node, decide, and broadcast the decision."""
        self._ended.append(ended)
        deadline = float("inf")
        while running := self._running():
            # The deadline starts with the order to stop: until then the others are training.
            if self.poll(TICK_S) is not None:
                deadline = min(deadline, time.monotonic() + _EXIT_TIMEOUT_S)
            if time.monotonic() > deadline:
                break
        silent = [f"{name} (it does not answer)" for name in running]
        decision = self._policy.decide(self._ended, [*self._lost.values(), *silent], progress)
        self._broadcast("decision", **asdict(decision))
        return decision

    def _running(self) -> list[str]:
        """Return the nodes that have neither ended training nor been lost."""
        ended = {end.node for end in self._ended}
        connected = [c.peer for rank, c in self._connections.items() if rank not in self._lost]
        return [name for name in connected if name not in ended]

    def _stop_all(self) -> None:
        if self._grace_s is None:
            saving = any(end.code == STOPPED for end in self._ended)
            self._grace_s = _SAVE_GRACE_S if saving else _CRASH_GRACE_S
            self._broadcast("stop", grace_s=self._grace_s)

    def _broadcast(self, kind: str, **fields: object) -> None:
        for rank, connection in self._connections.items():
            if rank in self._lost:
                continue
            try:
                connection.send(kind, **fields)
            except ConnectionLostError as error:
                self._lost[rank] = f"{connection.peer} ({error})"

    def _receive(self, seconds: float) -> None:
        connected = {c: rank for rank, c in self._connections.items() if rank not in self._lost}
        if not connected:
            time.sleep(seconds)
            return
        for connection in select.select(list(connected), [], [], seconds)[0]:
            rank = connected[connection]
            try:
                messages = connection.receive()
            except ConnectionLostError as error:
                self._lost[rank] = f"{connection.peer} ({error})"
                continue
            for message in messages:
                if message["kind"] == "file":
                    self._visible[rank] = bool(message["visible"])
                elif message["kind"] == "exit":
                    del message["kind"]
                    self._ended.append(NodeExit(**message))

    def close(self) -> None:
        """Close all connections."""
        for connection in self._connections.values():
            connection.close()


def _free_port() -> int:
    with socket.create_server(("", 0)) as server:
        return int(server.getsockname()[1])
