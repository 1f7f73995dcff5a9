"""Kinds of deployments in a rehearsal: how each is made, asked, and made to fail."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from emulator.environment import EmulatedEnvironment
from emulator.kubernetes.cluster import EmulatedCluster
from launch.aws.s3 import S3Store, S3Uri

NAME, ADAPTER, NOVA = "rehearsed", "rehearsed-adapter", "rehearsed-nova"
"""Names of the registered models: of the run, an adapter on it, one that was trained from Nova."""
GPU, CPU = "ml.g5.xlarge", "ml.m5.xlarge"
_BODY = {"prompt": "Hello", "max_tokens": 4, "temperature": 0}

FAILED_START = "CUDA out of memory"
"""Reason for which a pod does not start."""

Ask = Callable[[EmulatedEnvironment, str], str]
Plant = Callable[[EmulatedEnvironment], str]


@dataclass(frozen=True)
class RehearsedKind:
    """Kind of deployment.

    Attributes:
        kind: The kind, as `--to` has it.
        deploy: Options of `temper deploy-model`.
        swap: Options of `temper swap`.
        ask: Returns the answer of a deployment, given its address.
        plant: Injects the fault of the next swap, and returns what will happen.
        model: Name of the model.
        stays: Whether it runs until it is removed.
        alias: Its name in the rehearsal, if that is not the kind.
    """

    kind: str
    deploy: tuple[str, ...]
    swap: tuple[str, ...]
    ask: Ask
    plant: Plant
    model: str = NAME
    stays: bool = True
    alias: str = ""

    @property
    def label(self) -> str:
        """Its name in the rehearsal."""
        return self.alias or self.kind

    @property
    def name(self) -> str:
        """Name of the deployment."""
        return f"{NAME}-{self.label}"


# --- SageMaker ------------------------------------------------------------------------------------


def _ask_endpoint(environment: EmulatedEnvironment, address: str, **more: str) -> str:
    answer = environment.client("sagemaker-runtime").invoke_endpoint(
        EndpointName=address,
        ContentType="application/json",
        Body=json.dumps(_BODY).encode(),
        **more,
    )
    return _text(answer["Body"].read())


def _ask_component(environment: EmulatedEnvironment, address: str) -> str:
    described = environment.client("sagemaker").describe_inference_component(
        InferenceComponentName=address
    )
    endpoint = described["EndpointName"]
    return _ask_endpoint(environment, endpoint, InferenceComponentName=address)


def _ask_queue(environment: EmulatedEnvironment, address: str) -> str:
    """Send a request to an asynchronous endpoint, and return the answer from S3."""
    sent = environment.client("sagemaker-runtime").invoke_endpoint_async(
        EndpointName=address, ContentType="application/json", Body=json.dumps(_BODY).encode()
    )
    store = S3Store(environment.client("s3"))
    for _ in range(20):
        environment.advance(5)
        if text := store.get_text(S3Uri.parse(sent["OutputLocation"])):
            return _text(text.encode())
    return ""


def _read_answers(environment: EmulatedEnvironment, address: str) -> str:
    """Return the first answer of a batch."""
    store = S3Store(environment.client("s3"))
    (file,) = [uri for uri, _ in store.list(S3Uri.parse(f"{address}/"))]
    lines = (store.get_text(file) or "").splitlines()
    return _text(lines[0].encode())


def put_requests(environment: EmulatedEnvironment, bucket: str) -> str:
    """Write the requests of a batch to S3, and return their address."""
    address = S3Uri.parse(f"s3://{bucket}/rehearsal/requests.jsonl")
    S3Store(environment.client("s3")).put_text(f"{json.dumps(_BODY)}\n" * 2, address)
    return str(address)


def _roll_back(environment: EmulatedEnvironment) -> str:
    environment.service.hosting.context.faults.silent_rollbacks = 1
    return "SageMaker rolls the next shift back, without a reason"


def _refuse_adapter(environment: EmulatedEnvironment) -> str:
    environment.service.hosting.context.faults.refused_adapters.append("out of memory")
    return "the container has no memory for the next adapter"


def _exhaust(environment: EmulatedEnvironment) -> str:
    environment.service.hosting.context.faults.no_capacity = {CPU}
    return f"SageMaker has no {CPU} left"


def _fail_start(cluster: EmulatedCluster, _: EmulatedEnvironment) -> str:
    cluster.operator.failed_starts.append(FAILED_START)
    return "the next pods on the cluster do not start"


# --- Bedrock --------------------------------------------------------------------------------------


def _ask_bedrock(environment: EmulatedEnvironment, address: str) -> str:
    """Invoke a model; one that is not in memory is asked again until it is."""
    runtime = environment.client("bedrock-runtime")
    for _ in range(20):
        try:
            answer = runtime.invoke_model(modelId=address, body=json.dumps(_BODY).encode())
        except runtime.exceptions.ModelNotReadyException:
            environment.advance(60)
        else:
            return _text(answer["body"].read())
    return ""


def _fail_import(environment: EmulatedEnvironment) -> str:
    environment.bedrock.faults.failed_imports.append("Amazon S3 denied access")
    return "Bedrock cannot read the next import"


def _keep_model(environment: EmulatedEnvironment) -> str:
    environment.bedrock.faults.failed_updates = 1
    return "the next update at Bedrock ends with the model before in place"


def _text(body: bytes) -> str:
    answer: dict[str, Any] = json.loads(body)
    return str(answer["choices"][0]["text"])


def rehearsed_kinds(
    requests: str, cluster: EmulatedCluster | None = None
) -> tuple[RehearsedKind, ...]:
    """Return all kinds that a rehearsal shows.

    Args:
        requests: Address of the requests of a batch.
        cluster: Cluster of the environment; `hyperpod` is left out without one.
    """
    forever, texts = ("--forever", "rehearsal"), ("--no-chat",)
    gpu = ("--instance", GPU, *texts)
    at_once = (*gpu, "--rollout", "all-at-once")
    batch = ("--instance", CPU, "--input", requests, *texts)
    ends = ("--idle", "6")
    on_base = ("--adapter-of", f"{NAME}-component", *ends)
    on_cluster = []
    if cluster is not None:
        fails = partial(_fail_start, cluster)
        node = (*gpu, *forever)
        on_cluster = [RehearsedKind("hyperpod", node, texts, _ask_endpoint, fails)]
    return (
        *on_cluster,
        RehearsedKind("endpoint", (*gpu, *ends), at_once, _ask_endpoint, _roll_back),
        RehearsedKind("component", (*gpu, *ends), at_once, _ask_component, _roll_back),
        RehearsedKind(
            "component", on_base, (), _ask_component, _refuse_adapter, ADAPTER, alias="adapter"
        ),
        RehearsedKind("async", (*gpu, "--min", "1", *ends), at_once, _ask_queue, _roll_back),
        RehearsedKind("batch", (*batch, *forever), (), _read_answers, _exhaust, stays=False),
        RehearsedKind("bedrock-import", forever, (), _ask_bedrock, _fail_import),
        RehearsedKind("bedrock-on-demand", forever, (), _ask_bedrock, _keep_model, NOVA),
        RehearsedKind("bedrock-throughput", ends, (), _ask_bedrock, _keep_model, NOVA),
    )
