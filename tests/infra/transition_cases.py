"""Transitions of a live environment: pairs of environments that differ in one setting.

`python -m tests.infra.transition_cases` prints the table of docs/platform/changes.md.
"""

import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from stacks.feature_flags import FLAGS
from stacks.platform import build
from stacks.settings import Environment
from stacks.settings.checks import cross_section_problems
from stacks.transitions.assembly import read_assembly
from stacks.transitions.changes import HOLDS_DATA, Change
from stacks.transitions.expansion import expand
from stacks.transitions.plan import DeploymentPlan, make_plan
from stacks.transitions.ways_round import way_round

HERE = Path(__file__).parent / "environments"
Settings = Mapping[str, Any]
ZONES = [
    {"name": "us-east-1a", "id": "use1-az4"},
    {"name": "us-east-1b", "id": "use1-az6"},
    {"name": "us-east-1c", "id": "use1-az1"},
]
BOTH = ["us-east-1a", "us-east-1b"]
OTHERS = "arn:aws:iam::111122223333:role/people/others"


@dataclass(frozen=True)
class Case:
    """Change of settings, by dotted path; None removes a setting.

    Attributes:
        title: The change, as the table names it.
        after: Settings that change.
        before: Settings of both sides in which the base differs.
        base: Environment file of the tests.
        reversible: True if the way back is a transition too.
    """

    title: str
    after: Settings
    before: Settings = field(default_factory=dict)
    base: str = "everything"
    reversible: bool = True


SLURM_GROUP = {"name": "more", "instance": "ml.g5.12xlarge", "count": 2}
CASES = (
    Case("`hyperpod.enabled: false`", {"hyperpod.enabled": False}),
    Case("`hyperpod.enabled: false`, EKS", {"hyperpod.enabled": False}, base="eks"),
    Case("`hyperpod.accounting` removed", {"hyperpod.accounting": None}),
    Case("one more instance group", {"hyperpod.groups.3": SLURM_GROUP, "hyperpod.quotas.ml_g5": 4}),
    Case(
        "a third zone at the end of `network.zones`, with `hyperpod.zones`",
        {"network.zones": ZONES, "hyperpod.zones": BOTH},
    ),
    Case("a third zone at the end, without `hyperpod.zones`", {"network.zones": ZONES}),
    Case(
        "a zone in front of the others",
        {"network.zones": [ZONES[2], *ZONES[:2]], "hyperpod.zones": BOTH},
    ),
    Case("`network.mode: isolated`", {"network.mode": "isolated"}),
    Case("another `network.cidr`", {"network.cidr": "10.99.0.0/16"}),
    Case("another `network.reserved_zones`", {"network.reserved_zones": 2}),
    Case(
        "another `storage.lustre.zone`",
        {"storage.lustre.zone": "us-east-1a"},
        {"storage.lustre.efa": False},
    ),
    Case("larger `storage.lustre.capacity_gib`", {"storage.lustre.capacity_gib": 38400}),
    Case("`bedrock` removed", {"bedrock": {}}, {"serving.deployments.0.watch.judge": None}),
    Case("`training.mlflow: false`", {"training.mlflow": False}),
    Case("another recipient in `monitoring.page`", {"monitoring.page": ["other@example.com"]}),
    Case("`monitoring.trail: false`", {"monitoring.trail": False}),
    Case("`monitoring.budget: null`", {"monitoring.budget": "null"}),
    Case("other `security.key_administrators`", {"security.key_administrators": [OTHERS]}),
    Case("`security.permission_boundary: none`", {"security.permission_boundary": "none"}),
    Case("a key removed from `storage.keys`", {"storage.keys": []}),
    Case("`images.build: false`", {"images.build": False, "images.approval": "none"}),
    Case("`protect: false`", {"protect": False}, {"hyperpod.accounting": None}),
    Case(
        "another `prefix`: new stacks, and the old ones stay and are named",
        {"prefix": "temper-new"},
        reversible=False,
    ),
)


def assemble(base: str, changes: Iterable[Settings], folder: Path) -> Path:
    """Synthesize an environment of the tests with other settings, and return its assembly.

    Args:
        base: Name of the environment file.
        changes: Settings by dotted path, applied one after the other.
        folder: Folder of the assembly.
    """
    import aws_cdk as cdk

    content = yaml.safe_load((HERE / f"{base}.yaml").read_text(encoding="utf-8"))
    for settings in changes:
        for path, value in settings.items():
            _set(content, path.replace("ml_g5", "ml/g5/12xlarge"), value)
    environment = Environment.model_validate(content)
    problems = list(cross_section_problems(environment))
    assert not problems, problems
    app = cdk.App(context=FLAGS, outdir=str(folder))
    build(app, environment)
    app.synth()
    return folder


def _set(content: Any, path: str, value: Any) -> None:
    *sections, last = path.split(".")
    for section in sections:
        content = content[int(section)] if section.isdigit() else content.setdefault(section, {})
    last = last.replace("/", ".")
    if isinstance(content, list):
        content.append(value)
    elif value is None:
        content.pop(last, None)
    else:
        content[last] = None if value == "null" else value


def plan_of(before: Path, after: Path) -> DeploymentPlan:
    """Return the plan of a deployment from one assembly to another."""
    live, new = (
        {name: stack.template for name, stack in read_assembly(folder).items()}
        for folder in (before, after)
    )
    prefix = next(iter(new)).rpartition("-")[0]
    # Stacks under another prefix are named, and not touched.
    return make_plan({k: v for k, v in live.items() if k.rpartition("-")[0] == prefix}, new)


def row(case: Case, plan: DeploymentPlan) -> str:
    """Return the row of the table for one case."""
    replaced = [each for each in plan.changes if each.kind == "replaced"]
    removed = [
        each for each in plan.changes if each.kind == "deleted" and each.resource_type in HOLDS_DATA
    ]
    kept = [each for each in removed if each.policy == "Retain"]
    gone = [each for each in removed if each.policy != "Retain"]
    refused = [each for each in plan.changes if each.refusal]
    refused = refused or ([each for each in replaced if each.loses_data] if plan.refusals else [])
    steps = 2 if expand(plan.live, plan.new) and not plan.refusals else 1
    cells = [
        case.title,
        ", ".join(name.rpartition("-")[2] for name in plan.stale),
        _types(replaced),
        _types(gone),
        _types(kept),
        "refused" if plan.refusals else str(steps),
        "; ".join(dict.fromkeys(way_round(each) for each in refused)),
    ]
    return f"| {' | '.join(cell or '–' for cell in cells)} |"


def _types(changes: Iterable[Change]) -> str:
    return ", ".join(sorted({each.resource_type.removeprefix("AWS::") for each in changes}))


HEADER = (
    "| change | stacks deleted | replaced | removed, with data | stays in the account | steps "
    "| instead |",
    "|---|---|---|---|---|---|---|",
)


def table(folder: Path) -> str:
    """Return the table of docs/platform/changes.md.

    Args:
        folder: Folder for the assemblies.
    """
    return "\n".join([*HEADER, *_rows(folder)])


def _rows(folder: Path) -> Iterator[str]:
    bases: dict[str, Path] = {}
    for number, case in enumerate(CASES):
        key = f"{case.base}-{sorted(case.before)}"
        if key not in bases:
            bases[key] = assemble(case.base, [case.before], folder / f"base-{len(bases)}")
        after = assemble(case.base, [case.before, case.after], folder / f"after-{number}")
        yield row(case, plan_of(bases[key], after))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as work:
        sys.stdout.write(table(Path(work)) + "\n")
