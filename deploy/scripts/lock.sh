#!/bin/sh
# Make the lock files again: lock.sh UV. Pinned with hashes, for every platform, no index address.
set -eu
uv=$1
compile() { # OUTPUT OPTIONS…
  out=$1
  shift
  "$uv" pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 \
    --no-emit-index-url "$@" pyproject.toml --output-file "deploy/locks/$out"
}
compile runtime.txt
compile otel.txt --extra otel
compile dev.txt --extra otel --group dev
