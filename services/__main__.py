"""
``python -m services`` is ``callmesh``.

What the imports make, some 150,000 objects, stays until the end: it is not searched for garbage
while it is made, which would be a fifth of every command's start, nor ever after, which would stop
a service for about 0.1 s each time (both measured).
"""

from __future__ import annotations

import gc


def main() -> None:
    """As :func:`services.cli.main.main`."""
    gc.disable()
    from services.cli.main import main as callmesh

    gc.freeze()
    gc.enable()
    callmesh()


if __name__ == "__main__":
    main()
