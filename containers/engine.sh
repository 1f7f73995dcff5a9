#!/usr/bin/env bash
# engine.sh: print the name of an installed program that builds images. Docker without its daemon does not count.
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
