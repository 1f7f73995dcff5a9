#!/bin/bash
# Write the type of this node (controller, login or compute) to /opt/temper/node-type.
#
# HyperPod describes the cluster in two files before any script runs; the services of Slurm may start
# later, so they do not tell.
set -euo pipefail

config=${TEMPER_CONFIG:-/opt/ml/config}
addresses=${TEMPER_ADDRESSES:-$(hostname -I)}
python3 - "$config" "$addresses" >"$TEMPER_STATE/node-type" <<'PYTHON'
import json
import sys
from pathlib import Path

folder, addresses = Path(sys.argv[1]), sys.argv[2].split()
groups = json.loads((folder / "resource_config.json").read_text())["InstanceGroups"]
roles = json.loads((folder / "provisioning_parameters.json").read_text())
mine = [
    group["Name"]
    for group in groups
    for instance in group.get("Instances") or ()
    if instance.get("CustomerIpAddress") in addresses
]
if not mine:
    sys.exit(f"temper: none of {' '.join(addresses)} is an address in resource_config.json")
types = {roles.get("controller_group"): "controller", roles.get("login_group"): "login"}
print(types.get(mine[0], "compute"))
PYTHON
echo "temper: this is a $(cat "$TEMPER_STATE/node-type") node"
