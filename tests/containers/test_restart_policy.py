"""Restart decisions when nodes end differently."""

from __future__ import annotations

from containers.entrypoint.restart_policy import Decision, NodeExit, RestartPolicy

FINE = NodeExit("algo-1", 0)
KILLED = NodeExit("algo-2", 4, "a process was killed", retryable=True)
ECHO = NodeExit("algo-1", 4, "connection closed by peer", retryable=True)
NAN = NodeExit("algo-2", 4, "the loss is NaN")
STOPPED = NodeExit("algo-1", 75, "stopped by SIGTERM")
STOPPED_BY_OTHERS = NodeExit("algo-1", 75, "stopped by SIGTERM", retryable=True)


def policy(max_restarts: int = 3, *, single_node: bool = False) -> RestartPolicy:
    return RestartPolicy(max_restarts, single_node=single_node)


def test_success() -> None:
    assert policy().decide([FINE, FINE], [], 1) == Decision()


def test_explained_error_ends_all_with_its_code() -> None:
    assert policy().decide([ECHO, NAN], [], 1) == Decision(4, "algo-2: the loss is NaN")
    data = NodeExit("algo-1", 3, "no rows")
    assert policy(single_node=True).decide([data], [], 1) == Decision(3, "no rows")


def test_stop_outranks_lost_peers() -> None:
    assert policy().decide([ECHO, STOPPED], [], 1) == Decision(75, "algo-1: stopped by SIGTERM")


def test_crash_restarts_and_names_the_first() -> None:
    verdict = policy().decide([KILLED, ECHO], [], 1)
    assert verdict == Decision(4, "algo-2: a process was killed", restart=True)


def test_maximum_restarts() -> None:
    one = policy(max_restarts=2)
    assert [one.decide([KILLED], [], step).restart for step in (1, 2, 3)] == [True, True, False]
    assert "restarted 2 times" in one.decide([KILLED], [], 4).message
    assert not policy(max_restarts=0).decide([KILLED], [], 1).restart


def test_repeated_failure_at_same_step_ends() -> None:
    one = policy()
    assert one.decide([KILLED], [], 5).restart
    verdict = one.decide([KILLED], [], 5)
    assert not verdict.restart
    assert "at the same step" in verdict.message
    assert verdict.code == 4


def test_lost_node_ends_the_run() -> None:
    verdict = policy().decide([ECHO], ["algo-2 (its connection was closed)"], 1)
    assert not verdict.restart
    assert verdict.message.startswith("algo-2 (its connection was closed) was lost")
    # An error that a node explained takes precedence over nodes that left after it.
    assert policy().decide([NAN], ["algo-1 (gone)"], 1).message == "algo-2: the loss is NaN"


def test_node_stopped_by_a_crash_restarts_with_it() -> None:
    for ended in ([KILLED, STOPPED_BY_OTHERS], [STOPPED_BY_OTHERS, KILLED]):
        verdict = policy().decide(ended, [], progress=5)
        assert verdict.restart
        assert "a process was killed" in verdict.message


def test_node_stopped_by_a_stop_ends_with_it() -> None:
    told = NodeExit("algo-2", 75, "stopped by SIGUSR1")
    verdict = policy().decide([STOPPED_BY_OTHERS, told], [], progress=5)
    assert (verdict.code, verdict.restart) == (75, False)
    assert "SIGUSR1" in verdict.message
