"""Tags of what serves a model on AWS: endpoints, their configurations, components, throughput.

Each deployment has an end: a time, hours without calls, or, with a reason, none. The scheduled
function of the platform reads these tags and removes what has reached its end
(`stacks/handlers/undeploy`); policies refuse an endpoint without them.
"""

DEPLOYMENT = "temper:deployment"
"""Name of the deployment."""
MODEL = "temper:model"
"""Name of the registered model."""
VERSION = "temper:version"
"""Version of the model."""
OWNER = "temper:owner"
"""Person or role that deployed it."""

UNTIL = "temper:until"
"""End in UTC, like `2026-12-31T18:00:00Z`; a date alone is its first minute."""
IDLE_HOURS = "temper:idle-hours"
"""Hours without calls after which it is removed, like `6`."""
FOREVER = "temper:forever"
"""Reason for which it has no end."""
FORM = "temper:form"
"""Form of the version that was asked for, like `gguf`; a swap keeps it."""
CHAT = "temper:chat"
"""`false` if only texts are asked; a swap keeps it."""
SINCE = "temper:since"
"""Time since which a model serves its deployment, where each version is a resource of its own."""
HOURLY_USD = "temper:hourly-usd"
"""Price of an hour that was named when it was deployed, where AWS publishes none."""
TARGET = "temper:target"
"""Kind of a deployment whose endpoint another service made, such as `hyperpod`."""
STACK = "temper:stack"
"""CloudFormation stack that is deleted in place of the single resource."""

ENDS = (UNTIL, IDLE_HOURS, FOREVER)
"""At least one of these is required; `temper:forever` excludes the others."""
