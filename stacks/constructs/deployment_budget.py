"""Monthly budget of one deployment, by its tag."""

from aws_cdk import aws_budgets as budgets
from aws_cdk import aws_sns as sns
from constructs import Construct

NOTIFY_PERCENT = (80, 100)


def add_budget(
    scope: Construct, *, name: str, tag: str, monthly_usd: int, topic: sns.ITopic
) -> None:
    """Create a budget, whose name, which begins with that of the deployment, is in its mails.

    The costs of a tag are known once it is activated as a cost allocation tag.

    Args:
        scope: Stack of the deployment.
        name: Name of the budget.
        tag: Tag of the resources as Budgets writes it: `user:KEY$VALUE`.
        monthly_usd: Amount.
        topic: Topic of the notifications.
    """
    kind = budgets.CfnBudget
    kind(
        scope,
        "Budget",
        budget=kind.BudgetDataProperty(
            budget_name=name,
            budget_type="COST",
            time_unit="MONTHLY",
            budget_limit=kind.SpendProperty(amount=monthly_usd, unit="USD"),
            cost_filters={"TagKeyValue": [tag]},
        ),
        notifications_with_subscribers=[
            kind.NotificationWithSubscribersProperty(
                notification=kind.NotificationProperty(
                    comparison_operator="GREATER_THAN",
                    notification_type="ACTUAL",
                    threshold=percent,
                    threshold_type="PERCENTAGE",
                ),
                subscribers=[
                    kind.SubscriberProperty(address=topic.topic_arn, subscription_type="SNS")
                ],
            )
            for percent in NOTIFY_PERCENT
        ],
    )
