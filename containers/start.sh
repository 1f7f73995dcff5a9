#!/bin/sh
# The first command of an image. AWS's own bases first put CUDA's forward compatibility in place, for older drivers.
set -eu
set -- python -m containers.entrypoint "$@"
if [ -x /usr/local/bin/entrypoint.sh ]; then
  exec /usr/local/bin/entrypoint.sh "$@"
fi
exec "$@"
