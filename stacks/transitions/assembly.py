"""Cloud assemblies: reading their templates, and copies of them with other templates.

A template is itself an asset, uploaded under the hash of its content. A copy with another template
therefore gets another hash, without which the CLI would deploy the template it uploaded before.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class AssembledStack:
    """Stack of an assembly.

    Attributes:
        name: Name of the stack.
        template: Its template.
        dependencies: Names of the stacks that are deployed before it.
        tags: Tags of the stack.
    """

    name: str
    template: dict[str, Any]
    dependencies: tuple[str, ...]
    tags: dict[str, str]


def read_assembly(folder: Path) -> dict[str, AssembledStack]:
    """Return the stacks of an assembly by name, each after those that it depends on."""
    artifacts = _artifacts(folder)
    stacks = {
        name: AssembledStack(
            name,
            json.loads((folder / each["properties"]["templateFile"]).read_text(encoding="utf-8")),
            tuple(other for other in each.get("dependencies", ()) if other in artifacts),
            dict(each["properties"].get("tags", {})),
        )
        for name, each in artifacts.items()
    }
    ordered: dict[str, AssembledStack] = {}
    while len(ordered) < len(stacks):
        for name, stack in stacks.items():
            if name not in ordered and set(stack.dependencies) <= set(ordered):
                ordered[name] = stack
    return ordered


def with_templates(folder: Path, templates: Mapping[str, Any], copy: Path) -> Path:
    """Copy an assembly, replace some of its templates, and return the copy.

    Args:
        folder: The assembly.
        templates: New templates by stack name.
        copy: Folder of the copy; it is overwritten.
    """
    if copy.exists():
        shutil.rmtree(copy)
    shutil.copytree(folder, copy)
    artifacts = _artifacts(folder)
    manifest = copy / "manifest.json"
    for name, template in templates.items():
        file = copy / artifacts[name]["properties"]["templateFile"]
        text = json.dumps(template, indent=1)
        new = hashlib.sha256(text.encode()).hexdigest()
        file.write_text(text, encoding="utf-8")
        url = artifacts[name]["properties"]["stackTemplateAssetObjectUrl"]
        old = Path(url).stem
        assets = copy / f"{file.name.removesuffix('.template.json')}.assets.json"
        for index in (manifest, assets):
            if index.is_file():
                content = index.read_text(encoding="utf-8")
                index.write_text(content.replace(old, new), encoding="utf-8")
    return copy


def _artifacts(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the stacks of the manifest, by stack name."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return {
        artifact["properties"].get("stackName", name): artifact
        for name, artifact in manifest["artifacts"].items()
        if artifact["type"] == "aws:cloudformation:stack"
    }
