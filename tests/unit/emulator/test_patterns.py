"""Patterns of AWS's service descriptions, which are written for Java."""

from __future__ import annotations

import re

import pytest

from emulator.botocore_schema import service_model, to_python_pattern

SERVICES = (
    *("sagemaker", "sagemaker-runtime", "application-autoscaling"),
    *("bedrock", "bedrock-runtime", "service-quotas"),
)


@pytest.mark.parametrize("service", SERVICES)
def test_every_pattern_of_a_service_can_be_applied(service: str) -> None:
    model = service_model(service)
    patterns = {model.shape_for(name).metadata.get("pattern") for name in model.shape_names}
    for pattern in filter(None, patterns):
        re.compile(to_python_pattern(pattern))


@pytest.mark.parametrize(
    ("pattern", "allowed", "refused"),
    [
        (r"\p{ASCII}*", "a-b", "ä"),
        (r"\A\S[\p{Print}]*\z", "a b", " a"),
        (r"[\p{L}\p{Z}\p{N}_.:/=+\-@]*", "Größe 3", "a;b"),
        (r"arn:[\p{Alnum}\-]+:x", "arn:aws-cn:x", "arn:a_b:x"),
        (r"([\p{L}_.\-@]*)${1,128}", "a@b", "a b"),
        (r"[\u0020-\uD7FF\uE000-\uFFFD\uD800\uDC00-\uDBFF\uDFFF\t]*", "a 😀", "\x01"),
    ],
)
def test_a_pattern_means_what_it_means_to_the_service(
    pattern: str, allowed: str, refused: str
) -> None:
    assert re.fullmatch(to_python_pattern(pattern), allowed)
    assert not re.fullmatch(to_python_pattern(pattern), refused)
