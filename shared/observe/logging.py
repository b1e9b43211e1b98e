"""
Logs: one line per thing done, an event name in the past tense plus keys, JSON on standard output.

Secrets never get out: keys that name one are masked whatever their value, and so is a
``SecretStr`` under any key. Phone numbers are personal data: masked to their last three digits
unless the operator asks for them in clear.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from datetime import datetime
from enum import StrEnum
from typing import Any, TextIO

import orjson
import structlog
from pydantic import BaseModel, SecretBytes, SecretStr

_SECRET_KEY = re.compile(
    r"secret|token|passw|authori[sz]ation|api[_-]?key|cookie|credential|private[_-]?key",
    re.IGNORECASE,
)
NUMBER_KEYS = frozenset({"number", "caller", "from_number", "to_number", "dialled", "did"})
#: A credential inside a text: a URL's user part, or a value after a telling name.
_SECRET_IN_TEXT = re.compile(
    r"(?P<url>://[^\s/:@]*:)[^\s/@]+(?=@)"
    r"|(?P<name>(?:secret|token|password|passwd|api_?key|key)[\"']?\s*[=:]\s*)"
    r"(?:(?P<quote>[\"'])(?:(?!(?P=quote)).)+"
    r"|(?:(?:Bearer|Basic|Zoho-oauthtoken)\s+)?[^\s\"'&,;}]+)"
    r"|(?P<scheme>\b(?:Bearer|Basic|Zoho-oauthtoken)\s+)[^\s\"',;}]+",
    re.IGNORECASE,
)
MASK = "***"
#: What JSON's writer takes.
_LARGEST_INT = 2**63


class LogFormat(StrEnum):
    JSON = "json"
    CONSOLE = "console"


def mask_text(text: str) -> str:
    """*text* with credentials in URLs, headers and key=value pairs blotted out."""
    return _SECRET_IN_TEXT.sub(
        lambda m: f"{m['url'] or m['name'] or m['scheme']}{m['quote'] or ''}{MASK}", text
    )


def mask_number(number: str) -> str:
    """``+447700900123`` as ``***123``; short internal numbers are no personal data."""
    return number if len(number) <= 5 else f"{MASK}{number[-3:]}"  # noqa: PLR2004  an extension


def redact(event: Mapping[str, Any], *, numbers_in_clear: bool) -> dict[str, Any]:
    """A copy of *event* that may be shown."""
    return {str(key): _shown(str(key), value, numbers_in_clear) for key, value in event.items()}


def _shown(key: str, value: Any, numbers_in_clear: bool) -> Any:
    """Whatever is no plain value becomes text here, so that nothing does after the masking."""
    if isinstance(value, SecretStr | SecretBytes) or (value and _SECRET_KEY.search(key)):
        return MASK
    match value:
        case None | float() | datetime() | logging.LogRecord():
            return value
        case int() if abs(value) < _LARGEST_INT:
            return value
        case str() if key in NUMBER_KEYS and not numbers_in_clear:
            return mask_number(value)
        case BaseModel():
            return redact(dict(value), numbers_in_clear=numbers_in_clear)
        case Mapping():
            return redact(value, numbers_in_clear=numbers_in_clear)
        case list() | tuple():
            return [_shown(key, item, numbers_in_clear) for item in value]
        case _:
            # A lone surrogate, which aiohttp makes of odd bytes in a path, has no UTF-8.
            return mask_text(str(value).encode(errors="replace").decode())


class Redact:
    """The structlog processor over :func:`redact`."""

    def __init__(self, *, numbers_in_clear: bool) -> None:
        self._numbers_in_clear = numbers_in_clear

    def __call__(
        self, _logger: Any, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        return redact(event, numbers_in_clear=self._numbers_in_clear)


def configure(
    *,
    form: LogFormat,
    level: str = "INFO",
    numbers_in_clear: bool = False,
    stream: TextIO | None = None,
) -> None:
    """Set logging up for this process; libraries' own loggers come out in the same form."""
    out = stream or sys.stdout
    before: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        structlog.processors.format_exc_info,
        Redact(numbers_in_clear=numbers_in_clear),
    ]
    render: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=out.isatty())
        if form is LogFormat.CONSOLE
        else structlog.processors.JSONRenderer(serializer=_dumps)
    )
    structlog.configure(
        processors=[*before, render],
        wrapper_class=structlog.make_filtering_bound_logger(level.lower()),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*before, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    root = logging.getLogger()  # noqa: TID251  libraries log here; we only route them
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in ("aiormq", "aio_pika", "aiohttp.server"):
        # Tracebacks of several lines for each lost connection, about which the bus says a line; and
        # request lines that cannot be read, whole, with the codes of consents in them.
        logging.getLogger(name).setLevel(logging.CRITICAL)  # noqa: TID251  as above


def _dumps(event: Any, **options: Any) -> str:
    return orjson.dumps(event, default=options.get("default", str)).decode()
