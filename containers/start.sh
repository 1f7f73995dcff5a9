#!/bin/sh
# Entry point of the images. It runs through the entry point of the AWS base image, if present, which enables CUDA
# forward compatibility for older drivers.
set -eu
set -- python -m containers.entrypoint "$@"
if [ -x /usr/local/bin/entrypoint.sh ]; then
  exec /usr/local/bin/entrypoint.sh "$@"
fi
exec "$@"
