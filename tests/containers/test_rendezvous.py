"""Rendezvous over real connections: join, failures on one node, lost nodes."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from containers.entrypoint.errors import StartError
from containers.entrypoint.follower import Follower
from containers.entrypoint.leader import Leader
from containers.entrypoint.node_identity import NodeIdentity
from containers.entrypoint.rendezvous import LaunchInfo, NodeInfo, Rendezvous
from containers.entrypoint.restart_policy import Decision, NodeExit, RestartPolicy
from tests.containers.image_layout import free_port

NAMES = ("algo-1", "algo-2", "algo-3")


class Nodes:
    """Nodes of a job, each in its own thread."""

    def __init__(self, count: int = 3, join_timeout_s: float = 20):
        self.port = free_port()
        self.names = NAMES[:count]
        self.join_timeout_s = join_timeout_s
        self.pool = ThreadPoolExecutor(count)
        self.rendezvous: list[Rendezvous] = [self.make(rank) for rank in range(count)]

    def make(
        self,
        rank: int,
        *,
        job: str = "same",
        devices: int = 0,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Rendezvous:
        identity = NodeIdentity("sagemaker", self.names, rank, port=self.port)
        info = NodeInfo(self.names[rank], rank, devices, job)
        if rank == 0:
            policy = RestartPolicy(3, single_node=False)
            return Leader(
                identity, info, policy, join_timeout_s=self.join_timeout_s, stopped=stopped
            )
        return Follower(identity, info, join_timeout_s=self.join_timeout_s, stopped=stopped)

    def join(self, *folders: Path) -> list[Future[LaunchInfo]]:
        return [
            self.pool.submit(rendezvous.join, folders[rank % len(folders)])
            for rank, rendezvous in enumerate(self.rendezvous)
        ]

    def close(self) -> None:
        for rendezvous in self.rendezvous:
            rendezvous.close()
        self.pool.shutdown()


@pytest.fixture
def three(request: pytest.FixtureRequest) -> Nodes:
    nodes = Nodes(3)
    request.addfinalizer(nodes.close)
    return nodes


def train(
    rendezvous: Rendezvous, name: str, ends: NodeExit | None, progress: object = 1
) -> Decision:
    """Train for a moment, or until the order to stop, and agree on the end.

    Args:
        rendezvous: Rendezvous of the node.
        name: Name of the node.
        ends: How training ends; None to wait for the order to stop.
        progress: Progress of the run.
    """
    if ends is not None:
        return rendezvous.agree(ends, progress)
    until = time.monotonic() + 20
    while rendezvous.poll(0.05) is None:
        assert time.monotonic() < until, "was never told to stop"
    return rendezvous.agree(
        NodeExit(name, 4, "connection closed by peer", retryable=True), progress
    )


def test_shared_disk(three: Nodes, tmp_path: Path) -> None:
    orders = [f.result(20) for f in three.join(tmp_path)]
    assert orders[0] == orders[1] == orders[2]
    assert not orders[0].own_storage
    assert orders[0].port
    assert list(tmp_path.iterdir()) == [], "the mark is gone"


def test_separate_disks(three: Nodes, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in NAMES]
    orders = [f.result(20) for f in three.join(*folders)]
    assert all(o.own_storage for o in orders)


def test_partly_shared_disk(three: Nodes, tmp_path: Path) -> None:
    futures = three.join(tmp_path, tmp_path, tmp_path / "elsewhere")
    with pytest.raises(StartError, match="algo-3 do not see the folder"):
        futures[0].result(20)
    three.rendezvous[0].close()


def test_all_nodes_succeed(three: Nodes, tmp_path: Path) -> None:
    for f in three.join(tmp_path):
        f.result(20)
    ends = [
        three.pool.submit(train, rendezvous, name, NodeExit(name, 0))
        for rendezvous, name in zip(three.rendezvous, NAMES, strict=True)
    ]
    assert [f.result(20) for f in ends] == [Decision()] * 3


@pytest.mark.parametrize("who", [0, 1, 2])
def test_failure_on_one_node_stops_all(three: Nodes, tmp_path: Path, who: int) -> None:
    for f in three.join(tmp_path):
        f.result(20)
    fault = NodeExit(NAMES[who], 3, "no rows")
    ends = [
        three.pool.submit(train, rendezvous, NAMES[rank], fault if rank == who else None)
        for rank, rendezvous in enumerate(three.rendezvous)
    ]
    assert [f.result(30) for f in ends] == [Decision(3, f"{NAMES[who]}: no rows")] * 3


def test_crash_restarts_all_on_new_port(three: Nodes, tmp_path: Path) -> None:
    before = [f.result(20) for f in three.join(tmp_path)]
    killed = NodeExit("algo-2", 4, "killed", retryable=True)
    ends = [
        three.pool.submit(train, rendezvous, NAMES[rank], killed if rank == 1 else None)
        for rank, rendezvous in enumerate(three.rendezvous)
    ]
    assert [f.result(30) for f in ends] == [Decision(4, "algo-2: killed", restart=True)] * 3
    after = [f.result(20) for f in three.join(tmp_path)]
    assert after[0] == after[1] == after[2]
    assert after[0].address == before[0].address
    ends = [
        three.pool.submit(train, rendezvous, name, NodeExit(name, 0))
        for rendezvous, name in zip(three.rendezvous, NAMES, strict=True)
    ]
    assert [f.result(20).code for f in ends] == [0, 0, 0]


def test_lost_node_is_named(three: Nodes, tmp_path: Path) -> None:
    for f in three.join(tmp_path):
        f.result(20)
    ends = [
        three.pool.submit(train, rendezvous, NAMES[rank], None)
        for rank, rendezvous in enumerate(three.rendezvous[:2])
    ]
    three.rendezvous[2].close()
    for f in ends:
        verdict = f.result(30)
        assert not verdict.restart
        assert verdict.message.startswith("algo-3 (its connection was closed) was lost")


def test_lost_leader_is_named(three: Nodes, tmp_path: Path) -> None:
    for f in three.join(tmp_path):
        f.result(20)
    end = three.pool.submit(train, three.rendezvous[1], "algo-2", None)
    three.rendezvous[0].close()
    with pytest.raises(StartError, match="algo-1, the first node, was lost"):
        end.result(20)


def test_missing_node_is_named_on_all(tmp_path: Path) -> None:
    nodes = Nodes(3, join_timeout_s=1.5)
    nodes.rendezvous.pop(1)
    futures = [nodes.pool.submit(rendezvous.join, tmp_path) for rendezvous in nodes.rendezvous]
    for f in futures:
        with pytest.raises(
            StartError, match=r"algo-2 did not join within 1.5 s \(here: algo-1, algo-3\)"
        ):
            f.result(30)
    nodes.close()


def test_missing_leader_is_named(tmp_path: Path) -> None:
    nodes = Nodes(2, join_timeout_s=1)
    with pytest.raises(StartError, match=r"algo-1, the first node, did not join within 1 s: .*"):
        nodes.rendezvous[1].join(tmp_path)
    nodes.close()


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        ({"job": "another"}, "algo-2 was told to train another job than algo-1"),
        ({"devices": 8}, "algo-2 has 8 devices and algo-1 has 0"),
    ],
)
def test_mismatched_nodes(odd: dict[str, object], words: str, tmp_path: Path) -> None:
    nodes = Nodes(2)
    nodes.rendezvous[1] = nodes.make(1, **odd)  # type: ignore[arg-type]  # one of its options
    for f in nodes.join(tmp_path):
        with pytest.raises(StartError, match=words):
            f.result(20)
    nodes.close()


def test_unknown_connections_are_ignored(three: Nodes, tmp_path: Path) -> None:
    first = three.pool.submit(three.rendezvous[0].join, tmp_path)
    for words in (b"GET / HTTP/1.1\r\n\r\n", b'{"kind": "join", "rank": 99}\n', b"[]\n", b""):
        until = time.monotonic() + 10
        while time.monotonic() < until:
            with suppress(OSError), socket.create_connection(("127.0.0.1", three.port)) as line:
                line.sendall(words)
                break
            time.sleep(0.05)
    others = [three.pool.submit(c.join, tmp_path) for c in three.rendezvous[1:]]
    assert first.result(20) == others[0].result(20)


def test_stop_while_waiting(tmp_path: Path) -> None:
    nodes = Nodes(2)
    told = threading.Event()
    nodes.rendezvous[0] = nodes.make(0, stopped=told.is_set)
    waiting = nodes.pool.submit(nodes.rendezvous[0].join, tmp_path)
    time.sleep(0.3)
    told.set()
    with pytest.raises(StartError) as caught:
        waiting.result(5)
    assert caught.value.exit_code == 75
    nodes.close()
