"""Stack of one deployment: an endpoint of a registered model, with its scaling, alarms and budget.

Each deployment has a stack of its own, so that the removal of one, by hand or by the schedule, is
the deletion of its stack, and a rollback of one leaves the others as they are.
"""

import aws_cdk as cdk
from aws_cdk import aws_sagemaker as sagemaker
from aws_cdk import aws_sns as sns
from constructs import Construct

from catalog import deployment_tags as tags
from stacks.constructs.deployment_alarms import DeploymentAlarms
from stacks.constructs.deployment_budget import add_budget
from stacks.constructs.deployment_watch import DeploymentWatch
from stacks.constructs.encrypted_log_group import EncryptedLogGroup
from stacks.constructs.endpoint_scaling import scale_component, scale_variant
from stacks.constructs.golden_replay import (
    GoldenReplay,
    ReplayedDeployment,
    endpoint_statements,
)
from stacks.constructs.model_endpoint import (
    add_component,
    add_configuration,
    add_model,
    deployment_config,
)
from stacks.policies.iam_statements import IamContext
from stacks.serving import ServingStack
from stacks.settings import Environment
from stacks.settings.serving import DeploymentSettings
from stacks.temper_stack import TemperStack


class DeploymentStack(TemperStack):
    """Stack of one deployment. It holds no data, so it is never protected from deletion.

    Attributes:
        endpoint_name: Name by which callers reach it, whichever version runs.
    """

    def __init__(
        self,
        scope: Construct,
        *,
        environment: Environment,
        settings: DeploymentSettings,
        context: IamContext,
        serving: ServingStack,
        pages: sns.ITopic,
    ) -> None:
        super().__init__(scope, f"serving-{settings.name}", environment=environment, protect=False)
        self.endpoint_name = f"{self.names.prefix}-{settings.name}"
        self._settings, self._context, self._serving = settings, context, serving
        self._tag()
        self.add_stack_dependency(serving, "endpoints need its role, its subnets and its removal")
        alarms = DeploymentAlarms(
            self,
            "Alarms",
            names=self.names,
            settings=settings,
            endpoint=self.endpoint_name,
            pages=pages,
        )
        endpoint = self._add_endpoint(alarms)
        if settings.to == "component":
            component = add_component(
                self,
                settings,
                name=self.endpoint_name,
                endpoint=endpoint,
                model=self._model("Model", settings),
                rollback=alarms.rollback,
            )
            scale_component(self, settings.scaling, component=component, name=self.endpoint_name)
        else:
            scale_variant(self, settings.scaling, endpoint=endpoint, name=self.endpoint_name)
        if settings.watch and serving.watch_caller:
            DeploymentWatch(
                self,
                "Watch",
                context=context,
                settings=settings,
                endpoint=self.endpoint_name,
                caller=serving.watch_caller,
                role=serving.role,
                network={"Subnets": serving.subnets, "SecurityGroupIds": [serving.group]},
                tags={tags.DEPLOYMENT: settings.name, "Environment": environment.name},
                pages=pages,
            )
        if settings.golden:
            replayed = ReplayedDeployment(
                settings.name,
                "component" if settings.to == "component" else "endpoint",
                self.endpoint_name,
                self.endpoint_name if settings.to == "component" else "",
            )
            GoldenReplay(
                self,
                "Golden",
                context=context,
                deployment=replayed,
                settings=settings.golden,
                statements=endpoint_statements(context, replayed),
                pages=pages,
            )
        add_budget(
            self,
            name=f"{self.endpoint_name}-monthly",
            tag=f"user:{tags.DEPLOYMENT}${settings.name}",
            monthly_usd=settings.monthly_usd,
            topic=pages,
        )
        cdk.CfnOutput(self, "EndpointName", value=self.endpoint_name)

    def _tag(self) -> None:
        """Tag all resources with the version and the end; these tags separate the costs."""
        name, _, version = self._settings.model.partition("@")
        end = self._settings.end
        values = {
            tags.DEPLOYMENT: self._settings.name,
            tags.MODEL: name,
            tags.VERSION: version,
            tags.OWNER: self.environment_settings.owner,
            tags.STACK: self.stack_name,
            tags.UNTIL: end.until,
            tags.IDLE_HOURS: str(end.idle_hours) if end.idle_hours else None,
            tags.FOREVER: end.forever.strip() if end.forever else None,
        }
        for key, value in values.items():
            if value:
                cdk.Tags.of(self).add(key, value)

    def _model(self, id: str, settings: DeploymentSettings, *, files: str | None = None) -> str:
        return add_model(
            self,
            id,
            settings,
            files=f"s3://{self.names.bucket('models')}/registry/sha256/{files or settings.files}/",
            image=f"{self.names.repository_uri(settings.image_kind)}@{settings.image}",
            role=self._serving.role,
            subnets=self._serving.subnets,
            group=self._serving.group,
        )

    def _add_endpoint(self, alarms: DeploymentAlarms) -> sagemaker.CfnEndpoint:
        settings = self._settings
        for kind in ("Endpoints", *(["InferenceComponents"] if settings.to == "component" else [])):
            # SageMaker would create the group itself, without a key and a retention period.
            EncryptedLogGroup(
                self,
                f"{kind}Log",
                name=f"/aws/sagemaker/{kind}/{self.endpoint_name}",
                key=self._context.logs,
                days=self.environment_settings.serving.log_days,
                removal=cdk.RemovalPolicy.DESTROY,
            )
        on_variant = settings.to == "variant"
        shadow = settings.shadow
        configuration = add_configuration(
            self,
            settings,
            model=self._model("Model", settings) if on_variant else None,
            shadow_model=self._model("ShadowModel", settings, files=shadow.files)
            if shadow
            else None,
            role=self._serving.role,
            key=self._context.data,
            capture=f"s3://{self.names.bucket('runs')}/serving/{settings.name}/capture",
            subnets=self._serving.subnets,
            group=self._serving.group,
        )
        endpoint = sagemaker.CfnEndpoint(
            self,
            "Endpoint",
            endpoint_name=self.endpoint_name,
            endpoint_config_name=configuration.attr_endpoint_config_name,
            deployment_config=deployment_config(settings.shifting, alarms.rollback)
            if on_variant
            else None,
            # Without it an update would reset the fleet to its initial number of instances.
            retain_all_variant_properties=on_variant or None,
            exclude_retained_variant_properties=[
                sagemaker.CfnEndpoint.VariantPropertyProperty(
                    variant_property_type="DataCaptureConfig"
                )
            ]
            if on_variant
            else None,
        )
        endpoint.node.add_dependency(alarms)
        return endpoint
