"""Bedrock guardrail: content filters for prompts and answers, and masked personal data."""

from aws_cdk import aws_bedrock as bedrock
from aws_cdk import aws_kms as kms
from constructs import Construct

from stacks.naming import ResourceNames
from stacks.settings.bedrock import Guardrail

FILTERS = ("HATE", "INSULTS", "SEXUAL", "VIOLENCE", "MISCONDUCT")
PERSONAL = ("EMAIL", "PHONE", "US_SOCIAL_SECURITY_NUMBER", "CREDIT_DEBIT_CARD_NUMBER", "PASSWORD")


class ContentGuardrail(Construct):
    """Guardrail that takes effect on the calls that name it, and on no others."""

    def __init__(
        self, scope: Construct, id: str, *, names: ResourceNames, settings: Guardrail, key: kms.IKey
    ) -> None:
        super().__init__(scope, id)
        kind = bedrock.CfnGuardrail
        filters = [
            kind.ContentFilterConfigProperty(
                type=each, input_strength=settings.strength, output_strength=settings.strength
            )
            for each in FILTERS
        ]
        # Bedrock accepts the prompt attack filter for inputs only.
        filters.append(
            kind.ContentFilterConfigProperty(
                type="PROMPT_ATTACK", input_strength=settings.strength, output_strength="NONE"
            )
        )
        personal = [
            kind.PiiEntityConfigProperty(type=each, action="ANONYMIZE") for each in PERSONAL
        ]
        self.guardrail = kind(
            self,
            "Guardrail",
            name=f"{names.prefix}-guardrail",
            blocked_input_messaging="This request is outside what this service answers.",
            blocked_outputs_messaging="The answer was withheld by the content policy.",
            kms_key_arn=key.key_arn,
            content_policy_config=kind.ContentPolicyConfigProperty(filters_config=filters),
            sensitive_information_policy_config=kind.SensitiveInformationPolicyConfigProperty(
                pii_entities_config=personal
            )
            if settings.anonymize_pii
            else None,
        )
