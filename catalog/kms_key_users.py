"""AWS services that use each KMS key of the platform by themselves, without a caller's identity."""

# Domain of the key → service principals; {region} is the Region of the key.
KEY_SERVICES: dict[str, tuple[str, ...]] = {
    "data": (),
    "models": (),
    "logs": ("logs.{region}.amazonaws.com", "cloudtrail.amazonaws.com"),
    "messages": (
        "cloudwatch.amazonaws.com",
        "events.amazonaws.com",
        "budgets.amazonaws.com",
        "costalerts.amazonaws.com",
        "scheduler.amazonaws.com",
        "sns.amazonaws.com",
    ),
}
