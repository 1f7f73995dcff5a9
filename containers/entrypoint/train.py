"""The whole story: place, job, company, training, verdict."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from catalog.exit_codes import JOB_INVALID, STOPPED
from containers.entrypoint import devices
from containers.entrypoint.errors import StartError, read_number
from containers.entrypoint.follower import Follower
from containers.entrypoint.job_request import JobRequest, read_job_request
from containers.entrypoint.leader import Leader
from containers.entrypoint.node_identity import NodeIdentity, read_node_identity
from containers.entrypoint.opt_ml import MlFolder
from containers.entrypoint.rendezvous import TICK_S, LaunchInfo, NodeInfo, Rendezvous, SingleNode
from containers.entrypoint.restart_policy import Decision, NodeExit, RestartPolicy
from containers.entrypoint.secrets import secrets
from containers.entrypoint.subprocess_runner import SubprocessRunner, adopt_orphans

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


@dataclass(frozen=True)
class Options:
    """What the command line says.

    Attributes:
        job: The job file; None where it comes another way.
        overrides: `key=value` for keys of the job.
        folder: The run folder; None to choose it.
        max_restarts: How often training may be started again after a process died; None for what
            the environment says.
        join_timeout_s: How long nodes wait for each other; None for what the environment says.
    """

    job: Path | None = None
    overrides: tuple[str, ...] = ()
    folder: Path | None = None
    max_restarts: int | None = None
    join_timeout_s: float | None = None


class Signals:
    """Remembers what this process was told, and hands it to training."""

    def __init__(self) -> None:
        self.told: int | None = None
        self.child: SubprocessRunner | None = None

    def take(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        self.told = number
        if self.child is not None:
            self.child.send(number)


def train(options: Options) -> int:
    """Train, and return the exit code of the container."""
    ml = MlFolder.here()
    try:
        with _signals() as signals, tempfile.TemporaryDirectory(prefix="temper-") as scratch:
            verdict = _train(options, ml, signals, Path(scratch))
    except StartError as error:
        verdict = Decision(error.exit_code, str(error))
        _say(f"error: {error}")
    if verdict.code not in (0, STOPPED):
        ml.say_why(verdict.message)
    ml.free_reserve()
    return verdict.code


def _train(options: Options, ml: MlFolder, signals: Signals, scratch: Path) -> Decision:
    place = read_node_identity(os.environ, ml)
    if ml.is_there:
        ml.check_writable()
    devices.check(place, os.environ)
    os.environ.update(secrets(os.environ))
    request = read_job_request(options.job, options.overrides, os.environ, ml, scratch)
    folder = _run_folder(options, place, ml)
    if len(place.nodes) > 1:
        _say(f"{place.name}: node {place.rank + 1} of {len(place.nodes)} on {place.service}")
    company = _company(options, place, request, signals)
    try:
        while True:
            orders = company.assemble(folder)
            ended = _run(place, request, folder, orders, company, signals, scratch)
            verdict = company.settle(ended, _progress(folder))
            if not verdict.again or signals.told is not None:
                break
            _say(f"{verdict.message}\nstarting again")
    finally:
        company.close()
    if verdict.code == 0 and place.is_first and ml.is_there and folder is not None:
        ml.keep_model(folder / "model")
    if verdict.code and (verdict.code, verdict.message) != (ended.code, ended.message):
        _say(f"error: {verdict.message}")
    return verdict


def _run_folder(options: Options, place: NodeIdentity, ml: MlFolder) -> Path | None:
    """Return the run folder; None lets training choose one in `runs/`.

    Raises:
        StartError: Several nodes, and no folder that is the same for all.
    """
    named = options.folder or os.environ.get("TEMPER_RUN_FOLDER")
    if named:
        return Path(named)
    if ml.is_there:
        # Without checkpoints in S3, what is in output/data is at least uploaded at the end.
        return ml.checkpoints if ml.checkpoints.is_dir() else ml.output / "data" / "run"
    if place.run:
        return Path("runs") / place.run
    if len(place.nodes) > 1:
        raise StartError(
            "several nodes need one run folder: name it in TEMPER_RUN_FOLDER, on a volume that "
            "outlives the containers",
            JOB_INVALID,
        )
    return None


def _company(
    options: Options, place: NodeIdentity, request: JobRequest, signals: Signals
) -> Rendezvous:
    restarts, patience_s = options.max_restarts, options.join_timeout_s
    if restarts is None:
        restarts = int(read_number(os.environ, "TEMPER_MAX_RESTARTS", 3))
    if patience_s is None:
        patience_s = read_number(os.environ, "TEMPER_JOIN_TIMEOUT_S", 600)
    judge = RestartPolicy(restarts, alone=len(place.nodes) == 1)
    if len(place.nodes) == 1:
        return SingleNode(judge)
    hello = NodeInfo(place.name, place.rank, devices.count_all(os.environ), _digest(request))

    def stopped() -> bool:
        return signals.told is not None

    if place.is_first:
        return Leader(place, hello, judge, patience_s=patience_s, stopped=stopped)
    return Follower(place, hello, patience_s=patience_s, stopped=stopped)


def _digest(request: JobRequest) -> str:
    try:
        text = request.job.read_bytes()
    except OSError:
        text = b""  # training says what is wrong with it
    return hashlib.sha256(text + request.set_option.encode()).hexdigest()[:16]


def _run(
    place: NodeIdentity,
    request: JobRequest,
    folder: Path | None,
    orders: LaunchInfo,
    company: Rendezvous,
    signals: Signals,
    scratch: Path,
) -> NodeExit:
    """Train on this node once, to whatever end."""
    if signals.told is not None:
        return NodeExit(place.name, STOPPED, f"stopped by {signal.Signals(signals.told).name}")
    outcome = scratch / "outcome.json"
    outcome.unlink(missing_ok=True)
    child = SubprocessRunner(
        _command(request, folder, outcome), {**os.environ, **_environment(place, orders)}
    )
    signals.child = child
    if signals.told is not None:
        child.send(signals.told)
    try:
        while (code := child.code) is None:
            grace_s = company.listen(TICK_S)
            if grace_s is not None:
                child.stop_within(grace_s)
    except StartError:
        child.kill()
        raise
    finally:
        signals.child = None
        child.clear()
    message, again = _read_outcome(outcome, code) if code else ("", False)
    # Told by the other nodes alone, it may begin again when they may.
    led = code == STOPPED and signals.told is None
    return NodeExit(place.name, code, message, again or led)


def _command(request: JobRequest, folder: Path | None, outcome: Path) -> list[str]:
    command = [sys.executable, "-m", "training", str(request.job), "--outcome", str(outcome)]
    if folder is not None:
        command += ["--folder", str(folder)]
    if request.overrides:
        command += ["--set", request.set_option]
    return command


def _environment(place: NodeIdentity, orders: LaunchInfo) -> dict[str, str]:
    """Return what training needs to know beyond this process's own environment."""
    told = {
        f"SM_CHANNEL_{name.upper().replace('-', '_')}": str(path)
        for name, path in MlFolder.here().channels().items()
    }
    if len(place.nodes) == 1:
        return told
    return {
        **told,
        **devices.network_settings(place, os.environ),
        "PET_NNODES": str(len(place.nodes)),
        "PET_NODE_RANK": str(place.rank),
        "PET_MASTER_ADDR": orders.address,
        "PET_MASTER_PORT": str(orders.port),
        "TEMPER_STORAGE": "own" if orders.own_storage else "shared",
    }


def _read_outcome(path: Path, code: int) -> tuple[str, bool]:
    try:
        left = json.loads(path.read_text(encoding="utf-8"))
        return str(left["message"]), bool(left["again"])
    except (OSError, ValueError, KeyError):
        killed = ", killed from outside" if code == 128 + signal.SIGKILL else ""
        return f"training ended with exit code {code} and no word{killed}", code != JOB_INVALID


def _progress(folder: Path | None) -> object:
    """Return how far training has come, as something that differs when it has come further."""
    if folder is None:
        return None
    files = sorted([*folder.glob("samples.jsonl"), *folder.glob("stages/*/samples.jsonl")])
    return [(path.parent.name, _last_line(path)) for path in files]


def _last_line(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - (1 << 16)))
        return (file.read().splitlines() or [b""])[-1]


@contextmanager
def _signals() -> Iterator[Signals]:
    adopt_orphans()
    signals = Signals()
    before = {number: signal.signal(number, signals.take) for number in _SIGNALS}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(line: str) -> None:
    sys.stdout.flush()
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
