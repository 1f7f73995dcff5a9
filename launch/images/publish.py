"""The work of `temper publish-image` and `temper approve-image`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from launch.aws.platform_parameters import PlatformParameters, read_platform_parameters
from launch.aws.s3 import S3Uri
from launch.aws.session import AwsSession, explain_aws_errors
from launch.confirm import confirm
from launch.environment import read_environment
from launch.errors import InvalidOptionError, LaunchError
from launch.images.builds import Build, ImageBuilds, cost_statement
from launch.images.gate import GateTimings, ImageGate
from launch.images.local_build import build_and_push
from launch.images.registry import EcrRepository, RegistryImage
from launch.images.source import ImageSource, read_source
from training.console import say

KINDS = ("gpu", "neuron", "prepare", "serve", "serve-gpu", "serve-neuron")
ROOT = Path(__file__).parents[2]
SOURCE_KEY = "source/temper.zip"


class ImagePublisher:
    """Publication of the image of one commit: build, scan, approval, promotion.

    Every step is looked up before it is taken, so that the same command continues where an earlier
    one stopped.

    Args:
        account: Session with the account of the environment.
        kind: Kind of image.
        timings: Periods of waiting.
        report: Called with one line per change of state.
    """

    def __init__(
        self,
        account: AwsSession,
        kind: str,
        timings: GateTimings | None = None,
        report: Callable[[str], None] = say,
    ):
        if kind not in KINDS:
            raise InvalidOptionError(f"KIND {kind}: write {', '.join(KINDS[:-1])} or {KINDS[-1]}")
        self.account, self.kind, self._report = account, kind, report
        self.timings = timings or GateTimings()
        environment = account.environment
        account.caller()
        self.platform: PlatformParameters = read_platform_parameters(
            environment, account.client("ssm")
        )
        uri = self.platform.get(f"images/{kind}/repository")
        if uri is None:
            raise LaunchError(
                f"the environment {environment.name} has no repository for {kind} images: add it "
                f"to images.kinds in environments/{environment.name}.yaml and deploy it"
            )
        self.repository = EcrRepository(account.client("ecr"), uri)
        self.gate = ImageGate(
            environment, account.client("ssm"), self.repository, kind, self.timings, report
        )

    def publish(self, source: ImageSource, *, local: bool = False) -> str:
        """Publish the image of a commit and return its address, by digest.

        Args:
            source: Commit and version.
            local: Build on this machine instead of in CodeBuild.

        Raises:
            LaunchError: The image cannot be built, is refused, or waits for its approval.
        """
        self._report(f"image: {self.repository.name}:{source.tag}")
        image = self.repository.find(source.tag)
        if image:
            self._report(f"built: {image.digest}, pushed {image.pushed_at}")
        else:
            image = self._build(source, local=local)
        self.gate.await_scan(image)
        return self.gate.await_promotion(image)

    def approve(self, tag_or_digest: str = "") -> str:
        """Approve an image, the newest if none is named, and return its address.

        Raises:
            LaunchError: The image does not exist, is not fit for use, or was built by the caller.
        """
        if not self.gate.needs_approval:
            raise LaunchError(
                f"the environment {self.account.environment.name} does not require approvals "
                "(images.approval: none)"
            )
        image = self.repository.find(tag_or_digest) if tag_or_digest else self.repository.newest()
        if image is None:
            raise LaunchError(
                f"{self.repository.name} has no image {tag_or_digest}".rstrip()
                + f". Build one: temper publish-image {self.kind} "
                f"--env {self.account.environment.name}"
            )
        scan = self.repository.scan(image.digest)
        self.gate.require_good(scan, image)
        builders = self._builders(image)
        confirm(
            f"{', '.join(image.tags)}, pushed {image.pushed_at}, built by {', '.join(builders)}: "
            f"approve it for the jobs of {self.account.environment.name}?"
        )
        self.gate.approve(image.digest)
        self._report(f"approved: {image.digest}")
        return self.gate.await_promotion(image)

    def _builders(self, image: RegistryImage) -> list[str]:
        """Return who built an image.

        Raises:
            LaunchError: No build is known, or the caller started one of them.
        """
        builders = sorted(
            {
                build.initiator
                for build in self._builds().recent()
                if any(build.is_of(self.kind, tag) for tag in image.tags)
            }
        )
        if not builders:
            raise LaunchError(
                f"no recent build of {self._builds().project} made {', '.join(image.tags)}; "
                "only images of the build project can be approved"
            )
        caller = self.account.caller().rpartition("/")[2]
        if any(builder.rpartition("/")[2].lower() == caller.lower() for builder in builders):
            raise LaunchError(
                f"{caller} started the build of this image; another person must approve it"
            )
        return builders

    def _builds(self) -> ImageBuilds:
        project = self.platform.get("images/build-project")
        if project is None:
            raise LaunchError(
                f"the environment {self.account.environment.name} has no build project "
                "(images.build: false): use --local, with credentials that may push"
            )
        clients = self.account.client("codebuild"), self.account.client("logs")
        return ImageBuilds(*clients, project)

    def _build(self, source: ImageSource, *, local: bool) -> RegistryImage:
        if local:
            self._build_here(source)
        else:
            self._build_in_codebuild(source)
        image = self.repository.find(source.tag)
        if image is None:
            raise LaunchError(
                f"the build ended, and {self.repository.name} has no tag {source.tag}: "
                "is it of another kind, or was it deleted since?"
            )
        self._report(f"built: {image.digest}")
        return image

    def _build_here(self, source: ImageSource) -> None:
        if self.gate.needs_approval:
            raise LaunchError(
                f"the environment {self.account.environment.name} requires approvals "
                "(images.approval), which need a build whose initiator AWS records: leave --local "
                "out"
            )
        source.require_clean()
        build_and_push(self.kind, source, self.repository.uri, self.account.client("ecr"))

    def _build_in_codebuild(self, source: ImageSource) -> None:
        builds = self._builds()
        recent = builds.recent()
        build = next(
            (b for b in recent if b.status == "IN_PROGRESS" and b.is_of(self.kind, source.tag)),
            None,
        )
        if build:
            self._report(f"building: {build.id}, started by {build.initiator}")
        else:
            build = self._start(builds, recent, source)
        try:
            builds.follow(build, self._report, self.timings.poll_s)
        except KeyboardInterrupt:
            self._report(
                f"the build {build.id} continues in CodeBuild; run the same command to look again"
            )
            raise

    def _start(self, builds: ImageBuilds, recent: list[Build], source: ImageSource) -> Build:
        source.require_clean()
        if source.untracked:
            self._report(f"not packed, because git does not track it: {source.untracked[0]} …")
        compute = self.platform.get("images/build-compute") or "large"
        confirm(
            f"Build the {self.kind} image {source.tag} with {builds.project}? "
            f"{cost_statement(recent, self.kind, compute)}."
        )
        version = self._upload(source)
        build = builds.start(self.kind, source, version)
        self._report(f"building: {build.id}")
        return build

    def _upload(self, source: ImageSource) -> str:
        """Upload the source, and return the version of the object, which the build names."""
        to = S3Uri(self.platform["buckets/runs"], SOURCE_KEY)
        with tempfile.TemporaryDirectory() as scratch:
            archive = Path(scratch) / "temper.zip"
            source.write_archive(archive)
            size_mib = archive.stat().st_size / 2**20
            with explain_aws_errors(f"copying the source to {to}"), archive.open("rb") as body:
                answer = self.account.client("s3").put_object(
                    Bucket=to.bucket, Key=to.key, Body=body
                )
        self._report(f"source: {size_mib:.1f} MiB to {to}")
        return str(answer.get("VersionId", ""))


def publish_image(kind: str, *, env: str, version: str = "", local: bool = False) -> None:
    """Build the image of the current commit, and wait until jobs use it.

    Args:
        kind: one of `KINDS`.
        env: A file of `environments/`.
        version: Version of the image; that of the project if empty.
        local: Build on this machine instead of in CodeBuild.
    """
    publisher = ImagePublisher(AwsSession(read_environment(env)), kind)
    publisher.publish(read_source(ROOT, version), local=local)


def approve_image(kind: str, tag_or_digest: str, *, env: str) -> None:
    """Approve an image for the jobs of an environment.

    Args:
        kind: one of `KINDS`.
        tag_or_digest: The image; the newest if empty.
        env: A file of `environments/`.
    """
    ImagePublisher(AwsSession(read_environment(env)), kind).approve(tag_or_digest)
