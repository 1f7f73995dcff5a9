"""Stack of the container images: repositories, the build project, and promotion after a scan."""

from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.constructs.encrypted_log_group import EncryptedLogGroup
from stacks.constructs.image_build import ImageBuild
from stacks.constructs.image_promotion import ImagePromotion
from stacks.constructs.image_repository import ImageRepository
from stacks.constructs.ssm_parameters import publish_parameters
from stacks.policies.iam_statements import IamContext
from stacks.settings import Environment
from stacks.storage import StorageStack
from stacks.temper_stack import TemperStack


class ImagesStack(TemperStack):
    """Stack with one repository per kind of image, the build project and image promotion."""

    def __init__(
        self,
        scope: Construct,
        *,
        environment: Environment,
        context: IamContext,
        storage: StorageStack,
        build_role: iam.Role,
        approver_role: iam.Role | None,
    ) -> None:
        super().__init__(scope, "images", environment=environment)
        settings = environment.images
        repositories = [
            ImageRepository(
                self,
                kind.title(),
                name=self.names.repository(kind),
                key=context.models,
                keep=settings.keep,
                removal=self.removal,
            ).repository
            for kind in settings.kinds
        ]
        uris = {
            f"images/{kind}/repository": repository.repository_uri
            for kind, repository in zip(settings.kinds, repositories, strict=True)
        }
        if settings.build:
            ImageBuild(
                self,
                "Build",
                names=self.names,
                role=build_role,
                source=storage.runs,
                key=context.data,
                log=EncryptedLogGroup(
                    self,
                    "BuildLog",
                    name=f"/temper/{self.names.prefix}/image-build",
                    key=context.logs,
                    days=30,
                    removal=self.removal,
                ).group,
                size=settings.build_compute,
                cached=settings.pull_through_cache,
            )
            uris["images/build-project"] = self.names.build_project
            uris["images/build-compute"] = settings.build_compute
        uris["images/approval"] = settings.approval
        uris["images/refuse-findings-from"] = settings.refuse_findings_from
        publish_parameters(self, self.names, uris)
        self.promotion = ImagePromotion(
            self,
            "Promotion",
            names=self.names,
            context=context,
            repositories=repositories,
            settings=settings,
            approver=approver_role,
        )
        if settings.pull_through_cache:
            ecr.CfnPullThroughCacheRule(
                self,
                "PublicImages",
                ecr_repository_prefix=f"{self.names.prefix}/public",
                upstream_registry_url="public.ecr.aws",
            )
