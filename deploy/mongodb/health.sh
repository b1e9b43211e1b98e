#!/bin/sh
# Is this mongod a primary that the mesh can log in to? If not, health.js does what is missing.
set -eu
# mongosh writes a log at every run: into a home that goes with it.
HOME=$(mktemp -d)
export HOME
trap 'rm -rf "$HOME"' EXIT
mongosh --quiet --norc --nodb "$(dirname "$0")/health.js"
