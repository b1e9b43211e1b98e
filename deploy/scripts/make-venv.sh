#!/bin/sh
# A virtual environment with Python 3.11 or newer: make-venv.sh PYTHON FOLDER
set -eu
wanted=$1 folder=$2
for python in "$wanted" python3 python3.13 python3.12 python3.11; do
  if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
      exec "$python" -m venv "$folder"
    fi
    missing="$python has no venv: apt-get install python3-venv"
  fi
done
echo "${missing:-callmesh needs Python 3.11 or newer; name it: make PYTHON=/path/to/python3.11 …}" >&2
exit 1
