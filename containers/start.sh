#!/bin/sh
# Entry point of the images. That of AWS's bases runs first: it enables CUDA's forward compatibility for older drivers.
set -eu
set -- python -m containers.entrypoint "$@"
if [ -x /usr/local/bin/entrypoint.sh ]; then
  exec /usr/local/bin/entrypoint.sh "$@"
fi
exec "$@"
