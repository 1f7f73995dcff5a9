#!/usr/bin/env bash
# Write the hash-locked requirements of the images from the versions pinned in constraints.txt.
# Usage: lock.sh UV
set -euo pipefail
cd "$(dirname "$0")/.."
uv=${1:?lock.sh UV}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

compile() { # OUTPUT INPUT… [OPTION…]
  local output=$1
  shift
  "$uv" pip compile "$@" --constraint constraints.txt --universal --python-version 3.11 --generate-hashes \
    --no-emit-index-url --no-annotate --no-header --quiet --output-file "$output"
}

# The base image provides torch and its dependencies. DeepSpeed is locked separately: it is built from source.
printf 'torch ; python_version < "3"\n' >"$work/without-torch"
printf 'setuptools\n' >"$work/build.in"
compile containers/gpu/requirements.txt pyproject.toml "$work/build.in" --extra train --extra account \
  --override "$work/without-torch" --no-emit-package deepspeed
printf 'deepspeed\n' >"$work/deepspeed.in"
compile "$work/deepspeed.txt" "$work/deepspeed.in" --override "$work/without-torch"
sed -n '/^deepspeed==/,/[^\\]$/p' "$work/deepspeed.txt" >containers/gpu/deepspeed.txt
printf 'torch ; python_version < "3"\ndeepspeed ; python_version < "3"\nbitsandbytes ; python_version < "3"\n' \
  >"$work/neuron"
compile containers/neuron/requirements.txt pyproject.toml "$work/build.in" --extra train --extra account --override "$work/neuron"
# A server needs what loads models and tokenizers, and nothing that trains, evaluates or tracks. The watch over a
# deployment runs in its image, and masks the cases that it writes.
for package in trl datasets pyarrow mlflow-skinny sqlalchemy alembic sqlparse matplotlib jsonschema sacrebleu nltk \
  fastapi; do
  printf '%s ; python_version < "3"\n' "$package"
done >"$work/training"
compile containers/serve/requirements.txt pyproject.toml "$work/build.in" --extra train --extra serve --extra llama-cpp \
  --extra mask --extra languages --extra bedrock \
  --override "$work/neuron" --override "$work/training"
# The base of the image `prepare` has Python alone.
compile containers/prepare/requirements.txt pyproject.toml "$work/build.in" --extra prepare
printf 'uv\ncyclonedx-bom\n' >"$work/tools.in"
compile containers/tools.txt "$work/tools.in"
