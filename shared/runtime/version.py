"""The version of what is installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("callmesh")
except PackageNotFoundError:  # run from a checkout that was never installed
    VERSION = "0"
