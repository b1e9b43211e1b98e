"""What the parts of a site are made of: strict models, sealed secrets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    SecretStr,
    StringConstraints,
    ValidationInfo,
)

from shared.secrets import PREFIX, Sealed, SecretBox

#: In place of a secret that is set; sent back, it means that it stays.
KEPT = "********"
#: Keys and numbers that lead to a part of a site.
PartPath = tuple[str | int, ...]
Did = Annotated[str, StringConstraints(pattern=r"^\+?[0-9*#]{1,20}$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=500)]


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name} is no time zone; say one such as Europe/Berlin") from None
    return name


Zone = Annotated[Text, AfterValidator(_zone)]


@dataclass(frozen=True, slots=True)
class Sealing:
    """
    Validation context while a *file* is read: its secrets are resolved and sealed. *kept*: who
    reads it puts what is stored in the place of asterisks; else they are a fault.
    """

    box: SecretBox
    environment: Mapping[str, str]
    folder: Path
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Typed:
    """
    Validation context for what came over the API: a secret is its text, never a place on this
    machine; *stored* are sealed ones that stay.
    """

    box: SecretBox
    stored: Mapping[str, str]


def _seal(value: Any, info: ValidationInfo) -> Any:
    """``{env: NAME}``, ``{file: path}`` or the text itself; in a stored site, sealed already."""
    sealing = info.context
    if isinstance(sealing, Typed):
        if value in sealing.stored.values():
            return value
        if not isinstance(value, str) or value.startswith(PREFIX):
            raise ValueError("a secret is its text")
        plain = value
    elif isinstance(sealing, Sealing):
        plain = _resolved(value, sealing)
    else:
        return value
    if not plain.strip():
        raise ValueError("the secret is empty")
    return sealing.box.seal(SecretStr(plain))


def _resolved(value: Any, sealing: Sealing) -> str:
    if value == KEPT and not sealing.kept:
        raise ValueError("asterisks are no secret: say it, as {env: NAME} or {file: path}")
    if isinstance(value, str) and not value.startswith(PREFIX):
        return value
    if isinstance(value, Mapping) and set(value) == {"env"}:
        found = sealing.environment.get(str(value["env"]))
        if found is None:
            raise ValueError(f"the environment has no {value['env']}")
        return found
    if isinstance(value, Mapping) and set(value) == {"file"}:
        try:
            return (sealing.folder / str(value["file"])).read_text().strip()
        except OSError as error:
            raise ValueError(f"cannot read {value['file']}: {error.strerror}") from None
    raise ValueError("a secret is a text, {env: NAME} or {file: path}")


Secret = Annotated[Sealed, BeforeValidator(_seal)]


class Part(BaseModel):
    """Unknown keys are faults: a misspelt one would silently mean the default."""

    model_config = ConfigDict(frozen=True, extra="forbid")
