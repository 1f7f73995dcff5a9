"""Scaling of endpoints by their calls, for components down to zero copies.

docs.aws.amazon.com/sagemaker/latest/dg/endpoint-auto-scaling-zero-instances.html
"""

import aws_cdk as cdk
from aws_cdk import aws_applicationautoscaling as autoscaling
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from stacks.constructs.alarm_set import RUNBOOKS
from stacks.constructs.model_endpoint import VARIANT
from stacks.settings.serving import ScalingSettings

COOLDOWN_OUT, COOLDOWN_IN = 60, 600


def scale_variant(
    scope: Construct, scaling: ScalingSettings, *, endpoint: sagemaker.CfnEndpoint, name: str
) -> None:
    """Scale the instances of a variant, if their number may change.

    Args:
        scope: Stack of the deployment.
        scaling: Limits and aim.
        endpoint: The endpoint.
        name: Its name.
    """
    if scaling.min == scaling.max:
        return
    target = _target(
        scope,
        scaling,
        resource=f"endpoint/{name}/variant/{VARIANT}",
        dimension="sagemaker:variant:DesiredInstanceCount",
    )
    target.node.add_dependency(endpoint)
    _track_calls(scope, scaling, target, "SageMakerVariantInvocationsPerInstance")


def scale_component(
    scope: Construct,
    scaling: ScalingSettings,
    *,
    component: sagemaker.CfnInferenceComponent,
    name: str,
) -> None:
    """Scale the copies of a component; from zero, a call that finds none wakes the first.

    Args:
        scope: Stack of the deployment.
        scaling: Limits and aim.
        component: The component.
        name: Its name.
    """
    if scaling.min == scaling.max:
        return
    target = _target(
        scope,
        scaling,
        resource=f"inference-component/{name}",
        dimension="sagemaker:inference-component:DesiredCopyCount",
    )
    target.node.add_dependency(component)
    _track_calls(scope, scaling, target, "SageMakerInferenceComponentInvocationsPerCopy")
    if scaling.min == 0:
        _wake(scope, target, name)


def _target(
    scope: Construct, scaling: ScalingSettings, *, resource: str, dimension: str
) -> autoscaling.CfnScalableTarget:
    return autoscaling.CfnScalableTarget(
        scope,
        "Scaling",
        service_namespace="sagemaker",
        resource_id=resource,
        scalable_dimension=dimension,
        min_capacity=scaling.min,
        max_capacity=scaling.max,
    )


def _track_calls(
    scope: Construct, scaling: ScalingSettings, target: autoscaling.CfnScalableTarget, metric: str
) -> None:
    kind = autoscaling.CfnScalingPolicy
    kind(
        scope,
        "ByCalls",
        policy_name="calls",
        policy_type="TargetTrackingScaling",
        scaling_target_id=target.ref,
        target_tracking_scaling_policy_configuration=(
            kind.TargetTrackingScalingPolicyConfigurationProperty(
                target_value=scaling.calls_per_minute,
                predefined_metric_specification=kind.PredefinedMetricSpecificationProperty(
                    predefined_metric_type=metric
                ),
                scale_out_cooldown=COOLDOWN_OUT,
                scale_in_cooldown=COOLDOWN_IN,
            )
        ),
    )


def _wake(scope: Construct, target: autoscaling.CfnScalableTarget, name: str) -> None:
    """Start the first copy when a call found none; target tracking has no metric at zero."""
    kind = autoscaling.CfnScalingPolicy
    policy = kind(
        scope,
        "FromZero",
        policy_name="from-zero",
        policy_type="StepScaling",
        scaling_target_id=target.ref,
        step_scaling_policy_configuration=kind.StepScalingPolicyConfigurationProperty(
            adjustment_type="ChangeInCapacity",
            metric_aggregation_type="Maximum",
            cooldown=COOLDOWN_OUT,
            step_adjustments=[
                kind.StepAdjustmentProperty(metric_interval_lower_bound=0, scaling_adjustment=1)
            ],
        ),
    )
    alarm = cloudwatch.CfnAlarm(
        scope,
        "Wake",
        alarm_name=f"{name}-wake",
        alarm_description=(
            f"A call found no copy of {name}: the first one starts, and calls fail for minutes. "
            f"Likely cause: the deployment scales to zero. Runbook: {RUNBOOKS}/deployment-wake.md"
        ),
        namespace="AWS/SageMaker",
        metric_name="NoCapacityInvocationFailures",
        dimensions=[
            cloudwatch.CfnAlarm.DimensionProperty(name="InferenceComponentName", value=name)
        ],
        statistic="Sum",
        period=cdk.Duration.minutes(1).to_seconds(),
        evaluation_periods=1,
        threshold=1,
        comparison_operator="GreaterThanOrEqualToThreshold",
        treat_missing_data="notBreaching",
        alarm_actions=[policy.ref],
    )
    alarm.node.add_dependency(policy)
