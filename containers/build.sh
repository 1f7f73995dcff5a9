#!/usr/bin/env bash
# Build a container image. Both `make image` and the platform's CodeBuild project run this script.
#
# Environment variables:
#   KIND        gpu, neuron, prepare, serve, serve-gpu or serve-neuron
#   IMAGE       name of the image; temper-KIND:VERSION-COMMIT by default
#   BASE_IMAGE  base image; the one in the Dockerfile by default
#   BUILD_ARGS  additional --build-arg values, such as CUDA_ARCH=8.6
#   ENGINE      docker, podman or buildah; the first one available by default
#   PUSH        1 pushes the image
#   FRESH       1 builds every layer without the cache
#   PUBLIC_REGISTRY  replacement for public.ecr.aws, such as an account's pull-through cache
set -euo pipefail
cd "$(dirname "$0")/.."

kind=${KIND:-gpu}
dockerfile=containers/$kind/Dockerfile
[ -f "$dockerfile" ] || { echo "no such KIND: $kind (gpu, neuron, prepare, serve, serve-gpu or serve-neuron)" >&2; exit 2; }
engine=${ENGINE:-$(bash containers/engine.sh)}
version=${VERSION:-$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' training/__init__.py)}
commit=${COMMIT:-$(git rev-parse HEAD 2>/dev/null || echo unknown)}
image=${IMAGE:-temper-$kind:$version-${commit:0:12}}
base=${BASE_IMAGE:-$(sed -n 's/^ARG BASE_IMAGE=//p' "$dockerfile")}
base=${base/#public.ecr.aws/${PUBLIC_REGISTRY:-public.ecr.aws}}

# The digest is recorded because the tag may later point to another image.
[[ "$base" = localhost/* ]] || "$engine" pull --quiet "$base" >/dev/null
if [ "$engine" = buildah ]; then
  digest=$(buildah inspect --type image --format '{{.FromImageDigest}}' "$base")
else
  digest=$("$engine" image inspect --format '{{if .RepoDigests}}{{index .RepoDigests 0}}{{end}}' "$base" | sed 's/.*@//')
fi

arguments=(--file "$dockerfile" --tag "$image"
  --build-arg "BASE_IMAGE=$base" --build-arg "BASE_NAME=$base" --build-arg "BASE_DIGEST=${digest:-unknown}"
  --build-arg "VERSION=$version" --build-arg "COMMIT=$commit")
if [ "${FRESH:-}" = 1 ]; then arguments+=(--no-cache); fi
for argument in ${BUILD_ARGS:-}; do arguments+=(--build-arg "$argument"); done
# The CA certificates of the local network are mounted as a secret during the build and stored in no layer.
if [ -n "${SSL_CERT_FILE:-}" ]; then
  arguments+=(--secret "id=ca,src=$SSL_CERT_FILE"
    --build-arg PIP_CERT=/run/secrets/ca --build-arg SSL_CERT_FILE=/run/secrets/ca)
fi
if [ "$engine" = docker ]; then
  export DOCKER_BUILDKIT=1
else
  # --layers caches intermediate layers for the next build; the OCI format does not support HEALTHCHECK.
  arguments+=(--layers --format docker)
fi
"$engine" build "${arguments[@]}" .
if [ "${PUSH:-}" = 1 ]; then "$engine" push "$image"; fi
echo "$image"
