"""Addresses of AWS services, as AWS's own clients find them."""

from __future__ import annotations

from account.errors import AccountError


def service_address(service: str, region: str | None) -> tuple[str, str]:
    """Return the address of a service and its Region.

    The variables `AWS_ENDPOINT_URL` and `AWS_ENDPOINT_URL_<SERVICE>` and the profile take
    precedence, so that a VPC endpoint or an emulated account is named as for every AWS client.

    Args:
        service: Name of the service, such as `bedrock-runtime`.
        region: Region; None for that of the environment or the profile.

    Raises:
        AccountError: There is no such Region, none is set, or botocore is not installed.
    """
    try:
        import botocore.session
        from botocore.exceptions import BotoCoreError
    except ImportError as error:
        raise AccountError(
            "botocore, which knows the addresses of AWS, is not installed (pip install boto3)"
        ) from error
    try:
        client = botocore.session.get_session().create_client(service, region_name=region)
    except (BotoCoreError, ValueError) as error:
        raise AccountError(f"the address of {service} is not known: {error}") from error
    return str(client.meta.endpoint_url).rstrip("/"), str(client.meta.region_name)
