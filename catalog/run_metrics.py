"""CloudWatch metrics that a run on a HyperPod cluster publishes, and that the job monitor reads.

SageMaker publishes the metrics of its training jobs by itself, in its own namespace. A run on a
cluster (Slurm or EKS) publishes the same names with the same dimensions to the namespace of its
environment, so that one set of rules judges both.

| metric | dimension | value | when |
|---|---|---|---|
| `running` | `TrainingJobName` | 1 | each minute, from the first step until the run ends |
| `loss`, `tokens_per_second` | `TrainingJobName` | as logged | each logged step; never NaN |
| `loss_not_finite` | `TrainingJobName` | 1 | once, when a loss is NaN or infinite |
| `failed` | `TrainingJobName` | the exit code | once, when the run ends with an error |
| `running` | `TrainingJobName`, `Creator` | 1 | as above; CloudWatch then lists the creator early |
| `ended` | `TrainingJobName`, `Creator` | the exit code | once, when the run ends for good |
| `GPUUtilization`, `GPUMemoryUtilization` | `Host` | sum over the GPUs | each minute |
| `GPUCount` | `Host` | number of GPUs of that host | each minute |
| `DiskUtilization` | `Host` | percent | each minute |

A metric name or a dimension of SageMaker's is documented in
docs.aws.amazon.com/sagemaker/latest/dg/monitoring-cloudwatch.html.
"""

from urllib.parse import quote

JOB_DIMENSION = "TrainingJobName"
HOST_DIMENSION = "Host"
CREATOR_DIMENSION = "Creator"
ENDED = "ended"
JOB_METRICS = ("running", "loss", "tokens_per_second", "loss_not_finite", "failed")
HOST_METRICS = ("GPUUtilization", "GPUMemoryUtilization", "GPUCount", "DiskUtilization")
PERIOD_SECONDS = 60


def metric_namespace(prefix: str) -> str:
    """Return the namespace of an environment, which its node role may publish to."""
    return f"Temper/{prefix}"


def host_name(job: str, host: int) -> str:
    """Return the value of the dimension `Host`, as SageMaker spells it: `<job>/algo-<number>`.

    Args:
        job: Name of the job, the value of `TrainingJobName`.
        host: Number of the host, from 1.
    """
    return f"{job}/algo-{host}"


def creator_dimension(creator: str) -> str:
    """Return a login name as the value of the dimension `Creator`; `unquote` reverses it.

    The value of a dimension has ASCII characters only and does not begin with a colon:
    docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_Dimension.html
    """
    return quote(creator, safe="@+=-_. ")
