"""Reading documents, so that tests can hold them to the code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

_LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")
_BLOCK = re.compile(r"^```(?:sh|bash|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def linked_files(page: Path) -> Iterator[Path]:
    """Files that *page* links to, as its readers would resolve them."""
    for target in _LINK.findall(page.read_text()):
        if "://" not in target and not target.startswith("mailto:"):
            yield (page.parent / target).resolve()


def shell_blocks(text: str) -> list[str]:
    """What a reader would type."""
    return _BLOCK.findall(text)
