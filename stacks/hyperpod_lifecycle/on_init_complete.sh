#!/bin/bash
# Prepare one node of a HyperPod Slurm cluster for Temper. HyperPod runs it as root after its own
# initialization (LifeCycleConfig.OnInitComplete), which configures Slurm and mounts Lustre: when a
# node is created, replaced or patched. Each step can be repeated.
#
# Output goes to CloudWatch, /aws/sagemaker/Clusters/NAME/ID, stream LifecycleConfig/GROUP/INSTANCE.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=/dev/null  # written by the deployment
. "$here/settings.env"
export TEMPER_SHARED TEMPER_SOFTWARE TEMPER_GID TEMPER_STATE=${TEMPER_STATE:-/opt/temper}

log=${TEMPER_LOG:-/var/log/provision/temper.log}
mkdir -p "$(dirname "$log")"
exec > >(tee -a "$log") 2>&1

ended() {
    local code=$?
    if [ "$code" != 0 ]; then
        echo "temper: FAILED with code $code: this node accepts no jobs"
        # HyperPod uploads the log once a minute, and ends the instance after a failure.
        sleep "${TEMPER_LOG_UPLOAD_S:-70}"
    fi
}
trap ended EXIT

echo "temper: preparing $(hostname) with the scripts $TEMPER_DIGEST"
mkdir -p "$TEMPER_STATE/bin"
for step in node_type shared_folders users containers; do
    echo "temper: $step"
    bash "$here/$step.sh"
done
install -m 755 "$here/authorize-key.sh" "$TEMPER_STATE/bin/authorize-key"
echo "$TEMPER_DIGEST" >"$TEMPER_STATE/lifecycle-digest"
echo "temper: ready"
