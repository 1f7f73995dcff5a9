"""Model, endpoint configuration and inference component of a deployment.

docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateEndpointConfig.html
"""

from collections.abc import Sequence

from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from stacks.policies.engineer_guardrails import has_local_disk
from stacks.settings.serving import DeploymentSettings, Shifting

VARIANT, SHADOW_VARIANT = "main", "shadow"
# Loading weights from S3 and into a GPU takes longer than the default of ten minutes.
STARTUP_SECONDS = 1800
SETTINGS = "TEMPER_SERVE_"


def add_model(
    scope: Construct,
    id: str,
    settings: DeploymentSettings,
    *,
    files: str,
    image: str,
    role: iam.IRole,
    subnets: Sequence[str],
    group: str,
) -> str:
    """Create a model without access to any network but that of SageMaker, and return its name.

    Args:
        scope: Stack of the deployment.
        id: Construct id.
        settings: The deployment.
        files: Address of the folder with the model's files.
        image: Address of the image, with its digest.
        role: Role of the container.
        subnets: Ids of its subnets.
        group: Id of its security group.
    """
    kind = sagemaker.CfnModel
    return kind(
        scope,
        id,
        execution_role_arn=role.role_arn,
        enable_network_isolation=True,
        vpc_config=kind.VpcConfigProperty(security_group_ids=[group], subnets=list(subnets)),
        primary_container=kind.ContainerDefinitionProperty(
            image=image,
            environment={f"{SETTINGS}NAME": settings.name, **settings.variables},
            model_data_source=kind.ModelDataSourceProperty(
                s3_data_source=kind.S3DataSourceProperty(
                    s3_uri=files, s3_data_type="S3Prefix", compression_type="None"
                )
            ),
        ),
    ).attr_model_name


def add_configuration(
    scope: Construct,
    settings: DeploymentSettings,
    *,
    model: str | None,
    shadow_model: str | None,
    role: iam.IRole,
    key: kms.IKey,
    capture: str,
    subnets: Sequence[str],
    group: str,
) -> sagemaker.CfnEndpointConfig:
    """Create the configuration of an endpoint: one variant, or instances for components.

    Args:
        scope: Stack of the deployment.
        settings: The deployment.
        model: Name of the variant's model; None for components, which name their own.
        shadow_model: Name of the shadow's model, if there is one.
        role: Role of an endpoint for components.
        key: Key of volumes and captured calls.
        capture: Address of captured calls.
        subnets: Ids of the subnets of an endpoint for components.
        group: Id of its security group.
    """
    kind = sagemaker.CfnEndpointConfig
    of_components = model is None
    shadow = settings.shadow
    instances = [settings.instance, *([shadow.instance or settings.instance] if shadow else [])]
    return kind(
        scope,
        "Configuration",
        # Instances with local disks encrypt them in hardware, and accept no key.
        kms_key_id=None if any(map(has_local_disk, instances)) else key.key_arn,
        production_variants=[_variant(settings, model)],
        shadow_production_variants=[
            kind.ProductionVariantProperty(
                variant_name=SHADOW_VARIANT,
                model_name=shadow_model,
                instance_type=shadow.instance or settings.instance,
                initial_instance_count=1,
                initial_variant_weight=shadow.percent / 100,
                container_startup_health_check_timeout_in_seconds=STARTUP_SECONDS,
                model_data_download_timeout_in_seconds=STARTUP_SECONDS,
            )
        ]
        if shadow
        else None,
        data_capture_config=kind.DataCaptureConfigProperty(
            enable_capture=True,
            initial_sampling_percentage=settings.capture.percent,
            destination_s3_uri=capture,
            kms_key_id=key.key_arn,
            capture_options=[
                kind.CaptureOptionProperty(capture_mode="Input"),
                kind.CaptureOptionProperty(capture_mode="Output"),
            ],
            capture_content_type_header=kind.CaptureContentTypeHeaderProperty(
                json_content_types=["application/json"]
            ),
        )
        if settings.capture
        else None,
        # The models of an endpoint without components state these three themselves.
        execution_role_arn=role.role_arn if of_components else None,
        enable_network_isolation=True if of_components else None,
        vpc_config=kind.VpcConfigProperty(security_group_ids=[group], subnets=list(subnets))
        if of_components
        else None,
    )


def _variant(
    settings: DeploymentSettings, model: str | None
) -> sagemaker.CfnEndpointConfig.ProductionVariantProperty:
    kind = sagemaker.CfnEndpointConfig
    scaling = settings.scaling
    managed = kind.ManagedInstanceScalingProperty(
        status="ENABLED", min_instance_count=min(scaling.min, 1), max_instance_count=scaling.max
    )
    return kind.ProductionVariantProperty(
        variant_name=VARIANT,
        model_name=model,
        instance_type=settings.instance,
        initial_instance_count=max(1, scaling.min) if model else 1,
        initial_variant_weight=1 if model else None,
        inference_ami_version=settings.inference_ami,
        managed_instance_scaling=None if model else managed,
        routing_config=kind.RoutingConfigProperty(routing_strategy="LEAST_OUTSTANDING_REQUESTS"),
        container_startup_health_check_timeout_in_seconds=STARTUP_SECONDS if model else None,
        model_data_download_timeout_in_seconds=STARTUP_SECONDS if model else None,
    )


def deployment_config(
    shifting: Shifting, rollback: Sequence[str]
) -> sagemaker.CfnEndpoint.DeploymentConfigProperty:
    """Return the guardrails of an update: how traffic shifts, and the alarms that shift it back.

    docs.aws.amazon.com/sagemaker/latest/dg/deployment-guardrails-blue-green.html

    Args:
        shifting: The shift.
        rollback: Names of the alarms.
    """
    kind = sagemaker.CfnEndpoint
    size = kind.CapacitySizeProperty(type="CAPACITY_PERCENT", value=shifting.percent)
    return kind.DeploymentConfigProperty(
        auto_rollback_configuration=kind.AutoRollbackConfigProperty(
            alarms=[kind.AlarmProperty(alarm_name=name) for name in rollback]
        ),
        blue_green_update_policy=kind.BlueGreenUpdatePolicyProperty(
            traffic_routing_configuration=kind.TrafficRoutingConfigProperty(
                type=shifting.how.upper().replace("-", "_"),
                canary_size=size if shifting.how == "canary" else None,
                linear_step_size=size if shifting.how == "linear" else None,
                wait_interval_in_seconds=shifting.wait_minutes * 60,
            ),
            termination_wait_in_seconds=shifting.keep_minutes * 60,
        ),
    )


def add_component(
    scope: Construct,
    settings: DeploymentSettings,
    *,
    name: str,
    endpoint: sagemaker.CfnEndpoint,
    model: str,
    rollback: Sequence[str],
) -> sagemaker.CfnInferenceComponent:
    """Create the component of a model, whose copies a new version replaces batch by batch.

    Args:
        scope: Stack of the deployment.
        settings: The deployment.
        name: Name by which callers reach it.
        endpoint: Its endpoint.
        model: Name of its model.
        rollback: Names of the alarms that bring the old version back.
    """
    kind = sagemaker.CfnInferenceComponent
    needs = settings.needs
    assert needs, "a rule of the settings requires it"
    batch = kind.InferenceComponentCapacitySizeProperty(
        type="CAPACITY_PERCENT", value=settings.shifting.percent
    )
    return kind(
        scope,
        "Component",
        inference_component_name=name,
        endpoint_name=endpoint.attr_endpoint_name,
        variant_name=VARIANT,
        specification=kind.InferenceComponentSpecificationProperty(
            model_name=model,
            compute_resource_requirements=kind.InferenceComponentComputeResourceRequirementsProperty(
                min_memory_required_in_mb=needs.memory_mib,
                number_of_accelerator_devices_required=needs.accelerators or None,
                number_of_cpu_cores_required=needs.cpus,
            ),
            startup_parameters=kind.InferenceComponentStartupParametersProperty(
                container_startup_health_check_timeout_in_seconds=STARTUP_SECONDS,
                model_data_download_timeout_in_seconds=STARTUP_SECONDS,
            ),
        ),
        runtime_config=kind.InferenceComponentRuntimeConfigProperty(
            copy_count=max(1, settings.scaling.min)
        ),
        deployment_config=kind.InferenceComponentDeploymentConfigProperty(
            auto_rollback_configuration=kind.AutoRollbackConfigurationProperty(
                alarms=[kind.AlarmProperty(alarm_name=each) for each in rollback]
            ),
            rolling_update_policy=kind.InferenceComponentRollingUpdatePolicyProperty(
                maximum_batch_size=batch,
                wait_interval_in_seconds=settings.shifting.wait_minutes * 60,
            ),
        ),
    )
