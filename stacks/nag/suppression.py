"""An accepted finding of the public packs, with its reason.

`rule` is a pattern for the name of the rule without its pack and, for a wildcard, the action or
resource in brackets. `path` is a pattern for the construct path without the prefix of the
environment.
"""

import re
from dataclasses import dataclass

PACK = re.compile(r"^(AwsSolutions|NIST\.800\.53\.R5|HIPAA\.Security|PCI\.DSS\.321)-")
STACK = re.compile(
    r"^.*?-(security|network|storage|images|training|hyperpod|bedrock|pipelines|monitoring"
    r"|serving(?:-[a-z0-9-]+)?)/"
)


@dataclass(frozen=True)
class Suppression:
    """Reason for accepting the findings that match."""

    rule: str
    path: str
    reason: str

    def matches(self, rule: str, path: str) -> bool:
        """Return whether this entry explains the finding of `rule` at `path`."""
        name, relative_path = PACK.sub("", rule), STACK.sub(r"\1/", path)
        return bool(re.fullmatch(self.rule, name) and re.fullmatch(self.path, relative_path))


PROVIDER = (
    r"(bedrock/(Throughput|InvocationLogging)|hyperpod/(Lifecycle/Publish|Log/Set))/Provider/.*"
)
"""Paths of the functions of CDK's provider framework."""
