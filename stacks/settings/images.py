"""Container images: where they live, how they are built, what stops one."""

from typing import Literal

from pydantic import Field

from stacks.settings.section import Section


class ImageSettings(Section):
    """ECR repositories and the build project."""

    kinds: tuple[Literal["gpu", "neuron"], ...] = ("gpu", "neuron")
    keep: int = Field(20, ge=2, description="images kept per repository")
    build: bool = True
    build_compute: Literal["small", "medium", "large", "x2_large"] = "large"
    pull_through_cache: bool = False
    refuse_findings_from: Literal["HIGH", "CRITICAL"] = "CRITICAL"
