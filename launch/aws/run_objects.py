"""Objects of a run in S3: its prefixes, the download of its files, and their deletion."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from catalog.local_devices import NEURON_GRAPHS
from launch.aws.create_training_job import checkpoint_uri, output_uri
from launch.aws.platform_parameters import PlatformParameters
from launch.aws.s3 import S3Store, S3Uri
from launch.downloads import OWN_FILES, path_within
from launch.errors import LaunchError
from launch.submission import Submission


def run_prefixes(run: str, platform: PlatformParameters) -> list[S3Uri]:
    """Return the S3 prefixes that hold the objects of a run."""
    return [
        S3Uri.parse(checkpoint_uri(run, platform)),
        S3Uri(platform["buckets/runs"], f"runs/{run}/"),
        S3Uri.parse(output_uri(run, platform)),
    ]


def delete_prefixes(store: S3Store, prefixes: Iterable[S3Uri]) -> list[str]:
    """Delete the objects below prefixes; return why the others stay, which are protected."""
    failures = []
    for prefix in prefixes:
        try:
            store.delete(prefix)
        except LaunchError as error:
            failures.append(str(error))
    return failures


def fetch_run_files(
    store: S3Store,
    submission: Submission,
    platform: PlatformParameters,
    *,
    checkpoints: bool,
    model: bool = False,
) -> list[Path]:
    """Download what the run wrote next to its checkpoints: metrics, samples, report.

    Every stage of a pipeline has a `status.json`, too; the shortest path is that of the run.

    Args:
        store: Object store of the account.
        submission: The run.
        platform: Parameters of the environment.
        checkpoints: Download the checkpoints too.
        model: Download the model too, which the service uploads elsewhere when the job succeeds.
    """
    prefix = S3Uri.parse(checkpoint_uri(submission.run, platform))
    objects = {uri.key.removeprefix(prefix.key): uri for uri, _ in store.list(prefix)}
    roots = [n.removesuffix("status.json") for n in objects if n.endswith("status.json")]
    root = min(roots, key=len, default="")
    wanted = {}
    for name, uri in objects.items():
        relative = name.removeprefix(root)
        *folders, base_name = relative.split("/")
        skipped = NEURON_GRAPHS in folders or ("model" in folders and not model)
        skipped |= "checkpoints" in folders and not checkpoints
        if skipped or not name.startswith(root) or relative in OWN_FILES or not base_name:
            continue
        wanted[uri] = path_within(submission.folder, relative, str(uri))
    return [path for uri, path in wanted.items() if store.download_file(uri, path)]
