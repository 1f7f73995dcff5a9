"""Training in a container: identify the node and the job, join the others, train, restart.

The service sees only this process: its exit code, its signals, and the failure file.
"""

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

from catalog.exit_codes import JOB_INVALID, SAFETY_GATE, STOPPED
from containers.entrypoint import devices
from containers.entrypoint.errors import StartError, read_number
from containers.entrypoint.follower import Follower
from containers.entrypoint.job_request import JobRequest, read_job_request
from containers.entrypoint.leader import Leader
from containers.entrypoint.node_identity import NodeIdentity, read_node_identity
from containers.entrypoint.opt_ml import MlFolder
from containers.entrypoint.rendezvous import TICK_S, LaunchInfo, NodeInfo, Rendezvous, SingleNode
from containers.entrypoint.restart_policy import Decision, NodeExit, RestartPolicy
from containers.entrypoint.run_metrics import start_run_metrics
from containers.entrypoint.secrets import resolve_secrets
from containers.entrypoint.subprocess_runner import SubprocessRunner, adopt_orphans

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


@dataclass(frozen=True)
class Options:
    """Options of the command line.

    Attributes:
        job: Job file; None if the service passes it another way.
        overrides: `key=value` for keys of the job.
        folder: Run folder; None to choose it by the service.
        max_restarts: Maximum number of restarts after a crash; None for `TEMPER_MAX_RESTARTS`.
        join_timeout_s: Seconds to wait for other nodes; None for `TEMPER_JOIN_TIMEOUT_S`.
    """

    job: Path | None = None
    overrides: tuple[str, ...] = ()
    folder: Path | None = None
    max_restarts: int | None = None
    join_timeout_s: float | None = None


class Signals:
    """Signal handler that records a signal and forwards it to training.

    Attributes:
        received: Number of the last signal; None so far.
        child: Training process to forward signals to; None while it does not run.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.child: SubprocessRunner | None = None

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        self.received = number
        if self.child is not None:
            self.child.send(number)


@dataclass(frozen=True)
class _Session:
    """Values that stay the same over all starts of training in this container."""

    identity: NodeIdentity
    request: JobRequest
    folder: Path | None
    rendezvous: Rendezvous
    signals: Signals
    scratch: Path


def train(options: Options) -> int:
    """Train, and return the exit code of the container."""
    ml = MlFolder.current()
    try:
        with _handle_signals() as signals, tempfile.TemporaryDirectory(prefix="temper-") as scratch:
            decision = _train(options, ml, signals, Path(scratch))
    except StartError as error:
        decision = Decision(error.exit_code, str(error))
        _print(f"error: {error}")
    if decision.code not in (0, STOPPED):
        ml.write_failure(decision.message)
    ml.free_reserve()
    return decision.code


def _train(options: Options, ml: MlFolder, signals: Signals, scratch: Path) -> Decision:
    identity = read_node_identity(os.environ, ml)
    if ml.exists:
        ml.check_writable()
    devices.require_devices(identity, os.environ)
    os.environ.update(resolve_secrets(os.environ))
    request = read_job_request(options.job, options.overrides, os.environ, ml, scratch)
    folder = _run_folder(options, identity, ml)
    nodes = len(identity.nodes)
    if nodes > 1:
        _print(f"{identity.name}: node {identity.rank + 1} of {nodes} on {identity.service}")
    metrics = start_run_metrics(os.environ, identity, folder)
    try:
        decision = _train_with_restarts(
            _Session(
                identity,
                request,
                folder,
                _make_rendezvous(options, identity, request, signals),
                signals,
                scratch,
            )
        )
    except StartError as error:
        if metrics:
            metrics.close(error.exit_code, str(error))
        raise
    if metrics:
        # Slurm sends SIGUSR1 before a preemption or the time limit, and the job is requeued then.
        requeued = decision.code == STOPPED and signals.received == signal.SIGUSR1
        metrics.close(decision.code, decision.message, requeued=requeued)
    # A model that exceeds a limit of `evaluate.safety`, or misses a gate of `evaluate.suite`, is
    # complete, and is uploaded with the reports; the job fails, so that it is not registered.
    ended = decision.code in (0, SAFETY_GATE) or (folder is not None and gate_failed(folder))
    if ended and identity.is_first and ml.exists and folder is not None:
        for place, model in published_models(folder).items():
            ml.copy_model(model, place)
        reports = {**run_reports(folder, "safety"), **run_reports(folder, "evaluation")}
        for place, report in reports.items():
            ml.copy_output(report, place)
    return decision


def _train_with_restarts(session: _Session) -> Decision:
    """Train until it ends for good, and return the decision of all nodes."""
    folder, rendezvous, signals = session.folder, session.rendezvous, session.signals
    try:
        while True:
            launch = rendezvous.join(folder)
            ended = _run_training(session, launch)
            decision = rendezvous.agree(ended, _progress(folder))
            if not decision.restart or signals.received is not None:
                break
            _print(f"{decision.message}\nrestarting training")
    finally:
        rendezvous.close()
    # Training printed its own error; only the reason of another node is new.
    if decision.code and (decision.code, decision.message) != (ended.code, ended.message):
        _print(f"error: {decision.message}")
    return decision


def _run_folder(options: Options, identity: NodeIdentity, ml: MlFolder) -> Path | None:
    """Return the run folder; None lets training create one in `runs/`.

    Raises:
        StartError: The job has several nodes and no folder that is the same on all.
    """
    named = options.folder or os.environ.get("TEMPER_RUN_FOLDER")
    if named:
        return Path(named)
    if ml.exists:
        # Without checkpoints in S3, output/data is at least uploaded at the end of the job.
        return ml.checkpoints if ml.checkpoints.is_dir() else ml.output / "data" / "run"
    if identity.run:
        return Path("runs") / identity.run
    if len(identity.nodes) > 1:
        raise StartError(
            "several nodes need one run folder: name it in TEMPER_RUN_FOLDER, on a volume that "
            "outlives the containers",
            JOB_INVALID,
        )
    return None


def _make_rendezvous(
    options: Options, identity: NodeIdentity, request: JobRequest, signals: Signals
) -> Rendezvous:
    max_restarts, join_timeout_s = options.max_restarts, options.join_timeout_s
    if max_restarts is None:
        max_restarts = int(read_number(os.environ, "TEMPER_MAX_RESTARTS", 3))
    if join_timeout_s is None:
        join_timeout_s = read_number(os.environ, "TEMPER_JOIN_TIMEOUT_S", 600)
    policy = RestartPolicy(max_restarts, single_node=len(identity.nodes) == 1)
    if len(identity.nodes) == 1:
        return SingleNode(policy)
    digest = _job_digest(request)
    info = NodeInfo(identity.name, identity.rank, devices.count_all(os.environ), digest)

    def stopped() -> bool:
        return signals.received is not None

    if identity.is_first:
        return Leader(identity, info, policy, join_timeout_s=join_timeout_s, stopped=stopped)
    return Follower(identity, info, join_timeout_s=join_timeout_s, stopped=stopped)


def _job_digest(request: JobRequest) -> str:
    try:
        content = request.job.read_bytes()
    except OSError:
        content = b""  # training reports what is wrong with the file
    return hashlib.sha256(content + request.set_option.encode()).hexdigest()[:16]


def _run_training(session: _Session, launch: LaunchInfo) -> NodeExit:
    """Run training once on this node, and return how it ended.

    Raises:
        StartError: The leader was lost; training is killed before.
    """
    identity, signals, rendezvous = session.identity, session.signals, session.rendezvous
    if signals.received is not None:
        reason = f"stopped by {signal.Signals(signals.received).name}"
        return NodeExit(identity.name, STOPPED, reason)
    outcome = session.scratch / "outcome.json"
    outcome.unlink(missing_ok=True)
    child = SubprocessRunner(
        _command(session.request, session.folder, outcome),
        {
            **os.environ,
            **_environment(identity, launch),
            **devices.compile_cache(session.folder, os.environ),
        },
    )
    signals.child = child
    # A signal that arrived between the check above and the assignment was not forwarded.
    if signals.received is not None:
        child.send(signals.received)
    try:
        while (code := child.exit_code) is None:
            grace_s = rendezvous.poll(TICK_S)
            if grace_s is not None:
                child.stop_within(grace_s)
    except StartError:
        child.kill()
        raise
    finally:
        signals.child = None
        child.end_descendants()
    message, retryable = _read_outcome(outcome, code) if code else ("", False)
    # Stopped by the leader and not by the service, this node may restart with the others.
    stopped_by_leader = code == STOPPED and signals.received is None
    return NodeExit(identity.name, code, message, retryable or stopped_by_leader)


def _command(request: JobRequest, folder: Path | None, outcome: Path) -> list[str]:
    command = [sys.executable, "-m", "training", str(request.job), "--outcome", str(outcome)]
    if folder is not None:
        command += ["--folder", str(folder)]
    if request.overrides:
        command += ["--set", request.set_option]
    return command


def _environment(identity: NodeIdentity, launch: LaunchInfo) -> dict[str, str]:
    """Return the variables that training needs in addition to this process's own."""
    variables = {
        f"SM_CHANNEL_{name.upper().replace('-', '_')}": str(path)
        for name, path in MlFolder.current().channels().items()
    }
    if len(identity.nodes) == 1:
        return variables
    return {
        **variables,
        **devices.network_settings(identity, os.environ),
        "PET_NNODES": str(len(identity.nodes)),
        "PET_NODE_RANK": str(identity.rank),
        "PET_MASTER_ADDR": launch.address,
        "PET_MASTER_PORT": str(launch.port),
        "TEMPER_STORAGE": "own" if launch.own_storage else "shared",
    }


def _read_outcome(path: Path, code: int) -> tuple[str, bool]:
    """Return the message that training left, and whether a restart may succeed."""
    try:
        outcome = json.loads(path.read_text(encoding="utf-8"))
        return str(outcome["message"]), bool(outcome["again"])
    except (OSError, ValueError, KeyError):
        killed = ", killed from outside" if code == 128 + signal.SIGKILL else ""
        message = f"training ended with exit code {code} and no message{killed}"
        return message, code != JOB_INVALID


def published_models(folder: Path) -> dict[str, Path]:
    """Return the model folders to upload, by their place in the upload; an empty one is the root.

    A run that merges its adapter names them in `export.json`. A pipeline's `model` is a link to the
    model of its last stage that trained.
    """
    run = (folder / "model").resolve().parent
    try:
        places = json.loads((run / "export.json").read_text())
    except FileNotFoundError:
        return {"": folder / "model"}
    return {place: run / name for place, name in places.items()}


def run_reports(folder: Path, name: str) -> dict[str, Path]:
    """Return the folders of reports of a name, by their place in the uploaded output."""
    stages = sorted(folder.glob(f"stages/*/{name}"))
    found = {f"{name}/{path.parent.name}": path for path in stages}
    return {**({name: folder / name} if (folder / name).is_dir() else {}), **found}


def gate_failed(folder: Path) -> bool:
    """Return True if a run ended because its model does not pass a gate of `evaluate.suite`."""
    for place in ("evaluation", "stages/*/evaluation"):
        for path in folder.glob(f"{place}/summary.json"):
            if json.loads(path.read_text()).get("passed") is False:
                return True
    return False


def _progress(folder: Path | None) -> object:
    """Return a value that differs once training has advanced: its last recorded steps."""
    if folder is None:
        return None
    files = sorted([*folder.glob("samples.jsonl"), *folder.glob("stages/*/samples.jsonl")])
    return [(path.parent.name, _last_line(path)) for path in files]


def _last_line(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - (1 << 16)))
        return (file.read().splitlines() or [b""])[-1]


@contextmanager
def _handle_signals() -> Iterator[Signals]:
    adopt_orphans()
    signals = Signals()
    previous = {number: signal.signal(number, signals.handle) for number in _SIGNALS}
    try:
        yield signals
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _print(line: str) -> None:
    sys.stdout.flush()
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
