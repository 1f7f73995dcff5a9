"""Archive of a grader: the rewards of a job as the code of a Lambda function."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from planning.managed.packed_rewards import STAND_INS, reward_files
from training.config.rewards import RewardSection

Contract = Literal["list", "http"]
HANDLER = "lambda_function.lambda_handler"
_RUNTIME = Path(__file__).with_name("runtime")
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""Earliest time of a file in a zip archive, so that equal rewards make equal archives."""


@dataclass(frozen=True)
class GraderPackage:
    """Code of a grader.

    Attributes:
        archive: Bytes of the zip archive; equal for equal rewards.
    """

    archive: bytes

    @property
    def sha256(self) -> str:
        """SHA-256 of the archive in Base64, which Lambda reports as `CodeSha256`."""
        return base64.b64encode(hashlib.sha256(self.archive).digest()).decode()


def build_package(rewards: Sequence[RewardSection], contract: Contract) -> GraderPackage:
    """Return the archive of a function that scores answers as a job's own training would.

    Args:
        rewards: Rewards that `reward_problems` has nothing against.
        contract: Form of the function's answer: a list of scores, or an HTTP response.
    """
    closure = reward_files(rewards)
    settings = {"response": contract, "rewards": [_settings(section) for section in rewards]}
    files = {name: path.read_bytes() for name, path in closure.files.items()}
    files["rewards.json"] = json.dumps(settings, indent=1, sort_keys=True).encode()
    for name in ("lambda_function", *(one for one in STAND_INS if one in closure.packages)):
        files[f"{name}.py"] = (_RUNTIME / f"{name}.py").read_bytes()
    buffer = io.BytesIO()
    # Stored and not compressed: compressors of different versions produce different bytes.
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, files[name])
    return GraderPackage(buffer.getvalue())


def _settings(section: RewardSection) -> dict[str, Any]:
    return {**section.model_dump(mode="json"), "impl": section.impl}
