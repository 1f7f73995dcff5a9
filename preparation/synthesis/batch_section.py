"""Section of a teacher that Amazon Bedrock runs as a batch inference job."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from training.config.judges import JudgeSection, TokenPrice
from training.config.types import PositiveInt


class BedrockBatchTeacher(JudgeSection):
    """Model on Amazon Bedrock whose requests are sent as batch inference jobs.

    Each round of requests is one job, which may take hours. AWS prices it below single calls.
    """

    kind: Literal["bedrock_batch"]
    model: str
    """Name or ARN of the model or inference profile; it must support batch inference."""
    region: str = Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")
    role_arn: str = Field(pattern=r"^arn:aws(-[^:]+)?:iam::\d{12}:role/.+$")
    """Service role that Bedrock assumes to read the requests and to write the replies."""
    s3_uri: str = Field(pattern=r"^s3://[a-z0-9][-.a-z0-9]{1,61}[a-z0-9](/.+)?$")
    """Prefix in S3 of the requests and replies, `s3://BUCKET/PREFIX`."""
    price: TokenPrice | None = None
    """Price of batch inference, in US dollars per million tokens."""
    min_records: PositiveInt = 100
    """Quota "Minimum number of records per batch inference job" of the model."""
