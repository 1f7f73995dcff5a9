"""Identity of a node on every service; contradictions are rejected."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from catalog.instances import instance
from containers.entrypoint import devices
from containers.entrypoint.errors import StartError
from containers.entrypoint.hostlist import expand_hostlist
from containers.entrypoint.node_identity import PORT, NodeIdentity, read_node_identity
from containers.entrypoint.opt_ml import MlFolder
from tests.containers.image_layout import lay_out

NOWHERE = MlFolder(Path("/nowhere"))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("alone", ["alone"]),
        ("a,b", ["a", "b"]),
        ("node[1-3]", ["node1", "node2", "node3"]),
        ("ip-[08-10,12],login", ["ip-08", "ip-09", "ip-10", "ip-12", "login"]),
        ("r[1-2]n[1-2]x", ["r1n1x", "r1n2x", "r2n1x", "r2n2x"]),
    ],
)  # fmt: skip
def test_host_lists(text: str, names: list[str]) -> None:
    assert expand_hostlist(text) == names


def test_sagemaker(tmp_path: Path) -> None:
    hosts = [f"algo-{n}" for n in (10, 2, 1, 3, 4, 5, 6, 7, 8, 9)]
    root = lay_out(tmp_path, hosts=hosts, current="algo-10", instance="ml.p4d.24xlarge")
    # SageMaker's files take precedence over variables of other services.
    identity = read_node_identity({"WORLD_SIZE": "7", "SLURM_JOB_ID": "1"}, MlFolder(root))
    assert identity.nodes == tuple(f"algo-{n}" for n in range(1, 11))
    assert (identity.name, identity.rank, identity.address) == ("algo-10", 9, "algo-1")
    assert (identity.interface, identity.instance) == ("eth0", "ml.p4d.24xlarge")
    assert identity.port == PORT


def test_sagemaker_unknown_host(tmp_path: Path) -> None:
    root = lay_out(tmp_path, hosts=["algo-1", "algo-2"], current="algo-3")
    with pytest.raises(
        StartError, match="this host algo-3, which is not among the hosts algo-1, al"
    ):
        read_node_identity({}, MlFolder(root))


@pytest.mark.parametrize("text", ["{", "[1]", "null"])
def test_sagemaker_truncated_file(tmp_path: Path, text: str) -> None:
    root = lay_out(tmp_path)
    (root / "input/config/resourceconfig.json").write_text(text)
    with pytest.raises(StartError, match=r"resourceconfig\.json is not"):
        read_node_identity({}, MlFolder(root))


SLURM = {
    "SLURM_JOB_ID": "4711",
    "SLURM_JOB_NUM_NODES": "3",
    "SLURM_STEP_NODELIST": "gpu[07-09]",
    "SLURM_NODEID": "2",
    "SLURM_LOCALID": "0",
    "MASTER_ADDR": "10.0.0.7",
}


def test_slurm() -> None:
    identity = read_node_identity(SLURM, NOWHERE)
    assert identity == NodeIdentity(
        "slurm",
        ("gpu07", "gpu08", "gpu09"),
        2,
        address="10.0.0.7",
        port=24711,
        run="slurm-4711",
    )
    assert identity.name == "gpu09"
    assert read_node_identity({**SLURM, "MASTER_PORT": "3000"}, NOWHERE).port == 3000


def test_slurm_batch_script_on_one_node() -> None:
    identity = read_node_identity({"SLURM_JOB_ID": "7", "SLURMD_NODENAME": "gpu1"}, NOWHERE)
    assert identity.nodes == ("gpu1",)
    assert identity.run == "slurm-7"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"SLURM_LOCALID": "1"}, "two tasks of job 4711.*--ntasks-per-node=1"),
        ({"SLURM_STEP_NODELIST": None}, "job 4711 has 3 nodes.*with srun"),
        ({"SLURM_NODEID": "3"}, "node 3 of gpu07, gpu08, gpu09"),
    ],
)
def test_slurm_invalid_start(changes: dict[str, str | None], words: str) -> None:
    environment = {k: v for k, v in {**SLURM, **changes}.items() if v is not None}
    with pytest.raises(StartError, match=words):
        read_node_identity(environment, NOWHERE)


@pytest.mark.parametrize(
    ("environment", "nodes", "rank", "port"),
    [
        # PyTorchJob: one pod each for master and workers.
        (
            {"WORLD_SIZE": "3", "RANK": "2", "MASTER_ADDR": "tune-master-0",
             "MASTER_PORT": "23456"},
            ("tune-master-0", "tune-worker-0", "tune-worker-1"), 2, 23456,
        ),
        # TrainJob, and PyTorchJob with nprocPerNode: torchrun's variables.
        (
            {"PET_NNODES": "2", "PET_NODE_RANK": "1", "PET_NPROC_PER_NODE": "8",
             "PET_MASTER_ADDR": "tune-node-0-0.tune", "PET_MASTER_PORT": "29500",
             "WORLD_SIZE": "16"},
            ("tune-node-0-0", "tune-node-0-1"), 1, 29500,
        ),
        ({"PET_NNODES": "1", "PET_NODE_RANK": "0"}, ("node-0",), 0, PORT),
    ],
)  # fmt: skip
def test_kubeflow(
    environment: dict[str, str], nodes: tuple[str, ...], rank: int, port: int
) -> None:
    identity = read_node_identity(environment, NOWHERE)
    assert (identity.nodes, identity.rank, identity.port) == (nodes, rank, port)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"PET_NNODES": "1:4", "PET_NODE_RANK": "0"}, "'1:4'.*elasticPolicy"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "MASTER_ADDR is not set"),
    ],
)
def test_kubeflow_invalid_variables(environment: dict[str, str], words: str) -> None:
    with pytest.raises(StartError, match=words):
        read_node_identity(environment, NOWHERE)


def test_plain_machine() -> None:
    identity = read_node_identity({}, NOWHERE)
    assert (identity.service, len(identity.nodes), identity.run) == ("plain", 1, "")


# --- devices and network --------------------------------------------------------------------------


def make_devices(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        (folder / name).touch()
    return folder


def test_count_devices(tmp_path: Path) -> None:
    dev = make_devices(tmp_path / "dev", "nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm")
    assert devices.count_all({}, dev) == 2
    assert devices.count_all({"CUDA_VISIBLE_DEVICES": "1"}, dev) == 1
    assert devices.count_all({"CUDA_VISIBLE_DEVICES": ""}, dev) == 0
    # A file is a Trainium chip, of eight cores that work in pairs.
    trn = make_devices(tmp_path / "trn", "neuron0", "neuron15")
    assert devices.count("neuron", trn) == 2
    assert devices.count_all({}, trn) == 8
    assert devices.count_all({"NEURON_LOGICAL_NC_CONFIG": "1"}, trn) == 16
    assert devices.count_all({"NEURON_RT_VISIBLE_CORES": "0-3,6"}, trn) == 5
    assert devices.count_all({"NEURON_RT_NUM_CORES": "2"}, trn) == 2


@pytest.mark.parametrize(
    ("instance", "image"),
    [("ml.p4d.24xlarge", "gpu"), ("ml.g5.12xlarge", "gpu"), ("ml.trn2.48xlarge", "neuron")],
)
def test_missing_devices(tmp_path: Path, instance: str, image: str) -> None:
    identity = NodeIdentity("sagemaker", ("algo-1",), instance=instance)
    empty = make_devices(tmp_path / "dev")
    with pytest.raises(StartError, match=f"algo-1 is an {instance}.*Use the {image} image"):
        devices.require_devices(identity, {}, empty)
    devices.require_devices(identity, {"TEMPER_CPU": "1"}, empty)
    devices.require_devices(
        NodeIdentity("sagemaker", ("algo-1",), instance="ml.m5.large"), {}, empty
    )
    full = make_devices(tmp_path / "full", "nvidia0", "neuron0")
    devices.require_devices(identity, {}, full)


def test_network_settings_name_existing_devices(tmp_path: Path) -> None:
    identity = NodeIdentity("sagemaker", ("algo-1", "algo-2"), interface="eth0")
    assert devices.network_settings(identity, {}, tmp_path) == {}
    (tmp_path / "net/eth0").mkdir(parents=True)
    named = {"NCCL_SOCKET_IFNAME": "eth0", "GLOO_SOCKET_IFNAME": "eth0"}
    assert devices.network_settings(identity, {}, tmp_path) == named  # a g5.xlarge has no EFA
    (tmp_path / "infiniband/mlx5_0").mkdir(parents=True)
    assert devices.network_settings(identity, {}, tmp_path) == named
    (tmp_path / "infiniband/rdmap16s27").mkdir()
    found = devices.network_settings(identity, {"GLOO_SOCKET_IFNAME": "ens5"}, tmp_path)
    assert found["FI_PROVIDER"] == "efa"
    assert "GLOO_SOCKET_IFNAME" not in found, "what a person set stays"


def test_missing_configuration_is_empty(tmp_path: Path) -> None:
    assert MlFolder(tmp_path).configuration("hyperparameters") == {}
    assert MlFolder(tmp_path).channels() == {}
    root = lay_out(tmp_path / "ml", {"name": "x"})
    (root / "input/config/inputdataconfig.json").write_text(json.dumps({"train": {}}))
    assert set(MlFolder(root).channels()) == {"job", "train"}


@pytest.mark.parametrize(
    "name",
    *[
        [
            *("p4d.24xlarge", "p5.48xlarge", "g5.xlarge", "g5.12xlarge", "g6e.12xlarge"),
            *("g6e.48xlarge", "trn2.48xlarge"),
        ]
    ],
)
def test_network_settings_of_each_instance_type(name: str, tmp_path: Path) -> None:
    described = instance(name)
    assert described is not None
    (tmp_path / "infiniband").mkdir()
    for number in range(described.efa):
        (tmp_path / "infiniband" / f"rdmap{number}s27").touch()
    identity = NodeIdentity("slurm", ("a", "b"), instance=f"ml.{name}")
    expected = {"FI_PROVIDER": "efa", "FI_EFA_USE_HUGE_PAGE": "0", "FI_EFA_FORK_SAFE": "1"}
    # AWS's table leaves everything else at its default (see the function).
    assert devices.network_settings(identity, {}, tmp_path) == (expected if described.efa else {})
