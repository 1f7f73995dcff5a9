"""AWS Budget: notifications of actual and forecast cost, and a stop of new jobs at 120 percent."""

from collections.abc import Sequence

from aws_cdk import aws_budgets as budgets
from aws_cdk import aws_ce as ce
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sns as sns
from constructs import Construct

from stacks.constructs.service_role import ServiceRole
from stacks.naming import ResourceNames
from stacks.policies.engineer import CREATE_JOBS
from stacks.policies.iam_statements import allow, deny
from stacks.policies.permissions_boundary import stop_policy_name
from stacks.settings import Environment
from stacks.settings.monitoring import Budget

NOTIFY_PERCENT = (50, 80, 100, 120)
# A forecast needs about five weeks of usage; until then, this notification is not sent.
# docs.aws.amazon.com/cost-management/latest/userguide/budgets-best-practices.html
FORECAST_PERCENT = 100
STOP_PERCENT = 120
# Actions of the model deployer role, besides those on endpoints, that start billed resources.
MORE_WITH_DEPLOYERS = (
    "bedrock:CreateCustomModelDeployment",
    "bedrock:CreateModelInvocationJob",
    "bedrock:CreateProvisionedModelThroughput",
    "sagemaker:CreateInferenceComponent",
    "sagemaker:CreateTransformJob",
)


class BudgetActions(Construct):
    """Budget with its notifications and its stop action, and cost-anomaly detection."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        names: ResourceNames,
        environment: Environment,
        settings: Budget,
        topic: sns.ITopic,
        roles: Sequence[iam.IRole],
    ) -> None:
        super().__init__(scope, id)
        self._names, self._topic = names, topic
        tag = f"user:Environment${environment.name}"
        self._limit, self._tags = (
            settings.monthly_usd,
            [tag] if settings.scope == "environment" else None,
        )
        self.budget = self._add_budget("Budget", "ACTUAL", NOTIFY_PERCENT)
        # A budget of its own: another notification would replace the budget with the stop action.
        self._add_budget("Forecast", "FORECASTED", (FORECAST_PERCENT,))
        if settings.stop_new_jobs:
            self._add_stop_action(roles)
        if settings.anomaly_monitor != "none":
            self._add_anomaly_detection(environment, settings)

    def _add_budget(self, id: str, cost: str, steps: Sequence[int]) -> budgets.CfnBudget:
        kind = budgets.CfnBudget
        subscriber = kind.SubscriberProperty(address=self._topic.topic_arn, subscription_type="SNS")
        return kind(
            self,
            id,
            budget=kind.BudgetDataProperty(
                budget_type="COST",
                time_unit="MONTHLY",
                budget_limit=kind.SpendProperty(amount=self._limit, unit="USD"),
                cost_filters={"TagKeyValue": self._tags} if self._tags else None,
            ),
            notifications_with_subscribers=[
                kind.NotificationWithSubscribersProperty(
                    notification=kind.NotificationProperty(
                        comparison_operator="GREATER_THAN",
                        notification_type=cost,
                        threshold=step,
                        threshold_type="PERCENTAGE",
                    ),
                    subscribers=[subscriber],
                )
                for step in steps
            ],
        )

    def _add_stop_action(self, roles: Sequence[iam.IRole]) -> None:
        """Attach, at the highest step, a policy that denies starting jobs and endpoints."""
        policy = iam.ManagedPolicy(
            self,
            "StopNewJobs",
            managed_policy_name=stop_policy_name(self._names),
            description="Attached by the budget: no new jobs until next month, or until detached",
            statements=[
                deny(
                    "NoNewJobs",
                    [
                        *CREATE_JOBS,
                        "bedrock:CreateModelCustomizationJob",
                        "bedrock:CreateModelImportJob",
                        "codebuild:StartBuild",
                        "sagemaker:CreateEndpoint",
                        *(MORE_WITH_DEPLOYERS if len(roles) > 1 else []),
                    ],
                    ["*"],
                )
            ],
        )
        attach = allow(
            "AttachTheStop",
            ["iam:AttachRolePolicy", "iam:DetachRolePolicy"],
            [role.role_arn for role in roles],
            {"ArnEquals": {"iam:PolicyARN": policy.managed_policy_arn}},
        )
        role = ServiceRole(
            self,
            "Stopper",
            service="budgets.amazonaws.com",
            description="Lets the budget attach the stop",
            statements=[attach],
        ).role
        action = budgets.CfnBudgetsAction
        action(
            self,
            "Stop",
            budget_name=self.budget.ref,
            action_type="APPLY_IAM_POLICY",
            notification_type="ACTUAL",
            approval_model="AUTOMATIC",
            execution_role_arn=role.role_arn,
            action_threshold=action.ActionThresholdProperty(type="PERCENTAGE", value=STOP_PERCENT),
            definition=action.DefinitionProperty(
                iam_action_definition=action.IamActionDefinitionProperty(
                    policy_arn=policy.managed_policy_arn, roles=[role.role_name for role in roles]
                )
            ),
            subscribers=[action.SubscriberProperty(address=self._topic.topic_arn, type="SNS")],
        )

    def _add_anomaly_detection(self, environment: Environment, settings: Budget) -> None:
        ce.CfnAnomalySubscription(
            self,
            "AnomalyMail",
            subscription_name=f"{self._names.prefix}-anomalies",
            frequency="IMMEDIATE",
            monitor_arn_list=[self._anomaly_monitor_arn(environment, settings)],
            subscribers=[
                ce.CfnAnomalySubscription.SubscriberProperty(
                    address=self._topic.topic_arn, type="SNS"
                )
            ],
            threshold_expression=(
                '{"Dimensions": {"Key": "ANOMALY_TOTAL_IMPACT_ABSOLUTE", "MatchOptions": '
                f'["GREATER_THAN_OR_EQUAL"], "Values": ["{settings.anomaly_usd}"]}}}}'
            ),
        )

    def _anomaly_monitor_arn(self, environment: Environment, settings: Budget) -> str:
        """Return the ARN of the anomaly monitor: an existing one, or a new one.

        Only the management account of an organization can monitor a tag, and an account can have
        one monitor of all services, which AWS often creates by default; so none is the default.
        docs.aws.amazon.com/cost-management/latest/userguide/getting-started-ad.html
        """
        if settings.anomaly_monitor not in ("services", "tag"):
            return settings.anomaly_monitor
        by_tag = settings.anomaly_monitor == "tag"
        tag = f'{{"Tags": {{"Key": "Environment", "Values": ["{environment.name}"]}}}}'
        return ce.CfnAnomalyMonitor(
            self,
            "Anomalies",
            monitor_name=f"{self._names.prefix}-anomalies",
            monitor_type="CUSTOM" if by_tag else "DIMENSIONAL",
            monitor_dimension=None if by_tag else "SERVICE",
            monitor_specification=tag if by_tag else None,
        ).attr_monitor_arn
