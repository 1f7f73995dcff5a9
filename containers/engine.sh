#!/usr/bin/env bash
# Print the name of the first available container engine. Docker counts only if its daemon is running.
set -euo pipefail
for engine in docker podman buildah; do
  command -v "$engine" >/dev/null || continue
  if [ "$engine" != docker ] || docker info >/dev/null 2>&1; then
    echo "$engine"
    exit 0
  fi
done
echo "no program that builds images is installed: install docker, podman or buildah" >&2
exit 1
