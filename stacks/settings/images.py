"""Container images: where they live, how they are built, what stops one."""

from typing import Literal

from pydantic import Field

from stacks.settings.base import SettingsSection


class ImageSettings(SettingsSection):
    """ECR repositories and the build project."""

    kinds: tuple[Literal["gpu", "neuron"], ...] = Field(
        ("gpu", "neuron"), description="one repository each"
    )
    keep: int = Field(20, ge=2, description="images kept per repository")
    build: bool = Field(True, description="the CodeBuild project that builds containers/")
    build_compute: Literal["small", "medium", "large", "x2_large"] = Field(
        "large", description="its size"
    )
    pull_through_cache: bool = Field(False, description="a cache of public.ecr.aws in the account")
    refuse_findings_from: Literal["HIGH", "CRITICAL"] = Field(
        "CRITICAL", description="a scan with such a finding stops promotion"
    )
