"""Create `/opt/ml` as a SageMaker processing job does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

ARN = "arn:aws:sagemaker:eu-west-1:123456789012:processing-job/temper-dev-tidy"


def lay_out_processing(root: Path, *, hosts: Sequence[str] = ("algo-1",), current: int = 0) -> Path:
    """Fill `root` as a processing job fills `/opt/ml`, and return it.

    The form of the files is that of
    docs.aws.amazon.com/sagemaker/latest/dg/build-your-own-processing-container.html.

    Args:
        root: Folder that becomes `/opt/ml`.
        hosts: Host names of all nodes.
        current: Index of this node.
    """
    config = root / "config"
    config.mkdir(parents=True)
    (root / "processing/input/job").mkdir(parents=True)
    (config / "resourceconfig.json").write_text(
        json.dumps({"current_host": hosts[current], "hosts": list(hosts)})
    )
    (config / "processingjobconfig.json").write_text(
        json.dumps({"ProcessingJobArn": ARN, "ProcessingJobName": "temper-dev-tidy"})
    )
    return root
