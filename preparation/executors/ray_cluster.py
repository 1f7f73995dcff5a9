"""Connection to a Ray cluster: the one that `RAY_ADDRESS` names, or one on this machine."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from preparation.executors.local import ONE_THREAD
from training.environment_variables import environment_variables
from training.errors import RunError

RAY = "ray==2.60.0"
_OBJECT_STORE_BYTES = 80 << 20
"""Tasks exchange files, not objects; Ray requires 75 MiB."""
_CONNECT_S = 10.0
_STARTS = 4
_FOLDERS = "temper-ray-"
_OWN_CLUSTER = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray binds to all interfaces unless the address of the node is 127.0.0.1, and replaces that
    # address by another unless this says that there will be no cluster of several machines.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    **ONE_THREAD,
}
"""Environment of a cluster on this machine, read when Ray is imported."""


def check_ray(environment: Mapping[str, str] = os.environ) -> None:
    """Check that Ray is installed, and that `RAY_ADDRESS` is one that a preparation can use.

    Raises:
        RunError: It is not.
    """
    if find_spec("ray") is None:
        raise RunError(
            "ray is not installed. The target ray needs the extra 'ray': "
            'pip install "temper[prepare,ray]"'
        )
    address = environment.get("RAY_ADDRESS", "")
    if address.startswith("ray://"):
        raise RunError(
            f"RAY_ADDRESS={address}: Ray Client is not supported. Run the command on a machine of "
            "the cluster, with RAY_ADDRESS=HOST:6379"
        )


@contextlib.contextmanager
def ray_cluster(workers: int | None) -> Iterator[Any]:
    """Connect to the cluster that `RAY_ADDRESS` names, or start one until the context ends.

    Args:
        workers: Number of CPUs of a cluster on this machine; all of this process if None.

    Yields:
        The module `ray`, connected.

    Raises:
        RunError: Ray is not installed, or there is no such cluster.
    """
    check_ray()
    logging.getLogger("ray").setLevel(logging.CRITICAL)  # Deaths of workers are told by `RayTasks`.
    address = os.environ.get("RAY_ADDRESS", "")
    if address and address != "local":
        with _joined(address) as ray:
            yield ray
        return
    with _started(workers or len(os.sched_getaffinity(0))) as ray:
        yield ray


@contextlib.contextmanager
def _joined(address: str) -> Iterator[Any]:
    """Connect to a cluster, and leave it running.

    Raises:
        RunError: It cannot be joined.
    """
    _check_reachable(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise RunError(
            f"RAY_ADDRESS={address}: the Ray cluster cannot be joined: {_first_line(error)}. It "
            "needs the versions of Ray and Python of this machine; if it asks for a token, set "
            "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Check that something listens; Ray itself would try for a minute, then end the process.

    Raises:
        RunError: Nothing does.
    """
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        return  # `auto`: Ray looks for a cluster that was started on this machine.
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S).close()
    except OSError as error:
        raise RunError(
            f"RAY_ADDRESS={address}: no Ray cluster answers ({error.strerror or error}). Leave "
            "RAY_ADDRESS out to use this machine alone"
        ) from None


@contextlib.contextmanager
def _started(cpus: int) -> Iterator[Any]:
    """Start Ray on this machine: loopback only, no dashboard, no telemetry, nothing left behind."""
    # With a token of its own, Ray writes none to the home of the user.
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    _remove_folders_of_dead_processes()
    prefix = f"{_FOLDERS}{os.getpid()}-"
    with (
        tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as folder,
        environment_variables(_OWN_CLUSTER | token),
    ):
        ray = _start_ray(cpus, folder)
        try:
            yield ray
        finally:
            ray.shutdown()


def _remove_folders_of_dead_processes() -> None:
    """Remove the sockets and logs of clusters whose process was killed; Ray ended with it."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDERS}*-*"):
        pid = folder.name.removeprefix(_FOLDERS).partition("-")[0]
        if pid.isdigit() and not _is_alive(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _start_ray(cpus: int, folder: str) -> Any:
    """Start Ray, again if a busy machine lets it miss its own limit of 30 seconds.

    Args:
        cpus: Number of CPUs that tasks can reserve.
        folder: Folder of its sockets and logs.

    Raises:
        RunError: It does not start.
    """
    import ray

    for attempt in range(1, _STARTS + 1):
        try:
            ray.init(
                address="local",
                num_cpus=cpus,
                num_gpus=0,
                include_dashboard=False,
                log_to_driver=False,
                configure_logging=False,
                object_store_memory=_OBJECT_STORE_BYTES,
                _node_ip_address="127.0.0.1",
                _temp_dir=folder,
            )
        except Exception as error:  # Ray raises `Exception` itself.
            ray.shutdown()
            _end_processes(folder)
            if attempt == _STARTS:
                raise RunError(
                    f"Ray did not start on this machine: {_first_line(error)} Try again when it is "
                    "less busy, or use the target local, which writes the same bytes"
                ) from None
        else:
            break
    return ray


def _end_processes(folder: str) -> None:
    """End what a start that failed has left: Ray would end it with this process only."""
    import psutil  # Ray brings it.

    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if any(folder in argument for argument in process.cmdline()):
                process.kill()


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
