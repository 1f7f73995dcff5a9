#!/usr/bin/env bash
# Build a base image from Debian and the torch build that the local pip selects.
# Usage: base.sh TAG. Requires root, mmdebstrap and a container engine. PYTHON is the Python that downloads torch.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tag=${1:?base.sh TAG}
engine=${ENGINE:-$("$here/../engine.sh")}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Debian 12 has Python 3.11. The constraints pin torch and its dependencies to the versions in the images'
# lock files, so that the base and the layers above it contain the same version of each package.
"${PYTHON:-python3}" -m pip install --quiet --disable-pip-version-check --only-binary :all: --python-version 3.11 \
  --no-compile --constraint "$here/../../constraints.txt" --target "$work/torch" torch &
torch=$!
mmdebstrap --quiet --variant=essential --include=python3,python3-venv,ca-certificates,libgomp1,libstdc++6 \
  --dpkgopt=force-unsafe-io --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' bookworm "$work/rootfs.tar"
wait "$torch"
"$engine" build --quiet --file "$here/Dockerfile" --tag "$tag" "$work" >/dev/null
echo "$tag"
