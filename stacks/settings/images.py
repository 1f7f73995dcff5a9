"""Settings of the container images: repositories, build and promotion."""

from typing import Literal

from pydantic import Field

from stacks.settings.base import SettingsSection

ImageKind = Literal["gpu", "neuron", "prepare", "serve", "serve-gpu", "serve-neuron"]


class ImageSettings(SettingsSection):
    """Settings of the ECR repositories and the build project."""

    kinds: tuple[ImageKind, ...] = Field(
        ("gpu", "neuron", "prepare"),
        min_length=1,
        description="kinds of images, with one repository each: training on NVIDIA GPUs and on "
        "Trainium, preparation of data, serving on CPUs, on NVIDIA GPUs and on Trainium; `prepare` "
        "also creates the role of processing jobs",
    )
    keep: int = Field(20, ge=2, description="number of images kept per repository")
    build: bool = Field(True, description="create the CodeBuild project that builds containers/")
    build_compute: Literal["small", "medium", "large", "x2_large"] = Field(
        "large", description="compute size of the build project"
    )
    pull_through_cache: bool = Field(
        False, description="create a pull-through cache of public.ecr.aws"
    )
    approval: Literal["required", "none"] = Field(
        "required",
        description="required: jobs use an image only after a role of `security.image_approvers` "
        "approved it; none: every image whose scan found nothing severe",
    )
    refuse_findings_from: Literal["HIGH", "CRITICAL"] = Field(
        "CRITICAL", description="lowest severity of a scan finding that blocks promotion"
    )
