"""Interface endpoints that an environment needs."""

from catalog.endpoint_services import SERVICES_BY_FEATURE
from stacks.settings.environment import Environment


def required_services(environment: Environment) -> dict[str, str]:
    """Return the interface endpoints that an environment needs.

    Returns:
        By the last part of the endpoint's service name, the IAM prefix of the service.
    """
    if environment.network.endpoints == "gateway-only":
        return {}
    hyperpod = environment.hyperpod
    features = {
        "hyperpod": hyperpod.enabled,
        "hyperpod-eks": hyperpod.enabled and hyperpod.orchestrator == "eks",
        "accounting": hyperpod.enabled and hyperpod.accounting is not None,
        "mlflow": environment.training.mlflow,
        # In an isolated network no job can reach the Hub, so none needs its token.
        "hub-token": environment.storage.hub_token and environment.network.mode == "private",
        "keys": bool(environment.storage.keys),
        "bedrock": environment.bedrock.enabled,
        "serving": environment.serving.enabled,
        "judges": bool(environment.bedrock.judges),
    }
    services: dict[str, str] = {}
    for feature, on in features.items():
        if on:
            services.update(SERVICES_BY_FEATURE[feature])
    return services
