"""
Secrets at rest: documents hold sealed text, never a value.

Sealed with Fernet (AES-128-CBC and HMAC-SHA256) under keys from the environment. Several keys
may be given: the first seals, all open, so that a key is rotated by putting the new one in front.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import SecretStr, StringConstraints

from shared.errors import BadSetting

PREFIX = "sealed:"
#: What a document holds in place of a secret.
Sealed = Annotated[str, StringConstraints(pattern=r"^sealed:[A-Za-z0-9_=-]+$")]


class SecretBox:
    """Raises BadSetting for a key that is none."""

    def __init__(self, keys: Sequence[SecretStr]) -> None:
        try:
            fernets = [Fernet(key.get_secret_value()) for key in keys]
            self._first, self._fernet = fernets[0], MultiFernet(fernets)
            self._keys = [base64.urlsafe_b64decode(key.get_secret_value()) for key in keys]
        except (ValueError, IndexError) as error:
            raise BadSetting(
                "CALLMESH_SECRET_KEYS: each key is 32 bytes in URL-safe base64; "
                "`callmesh new-key` prints one"
            ) from error

    def seal(self, value: SecretStr) -> Sealed:
        return PREFIX + self._fernet.encrypt(value.get_secret_value().encode()).decode()

    def is_current(self, sealed: Sealed) -> bool:
        """Whether the first key sealed it."""
        try:
            self._first.decrypt(sealed.removeprefix(PREFIX))
        except InvalidToken:
            return False
        return True

    def signing_keys(self, purpose: str) -> tuple[bytes, ...]:
        """32 bytes of each key, for this *purpose* alone: the first signs, all vouch."""
        return tuple(
            HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose.encode()).derive(key)
            for key in self._keys
        )

    def open(self, sealed: Sealed) -> SecretStr:
        """Raises BadSetting when no key fits: the key was lost or not rotated but replaced."""
        try:
            return SecretStr(self._fernet.decrypt(sealed.removeprefix(PREFIX)).decode())
        except InvalidToken as error:
            raise BadSetting(
                "CALLMESH_SECRET_KEYS: none of the keys opens a stored secret; "
                "put the key that sealed it back, behind the new one"
            ) from error


def new_key() -> SecretStr:
    return SecretStr(Fernet.generate_key().decode())


def key_kept_in(path: Path) -> SecretStr:
    """The key in *path*; made there at the first call, readable by its owner alone."""
    if not path.exists():
        fresh = path.with_name(f"{path.name}.{os.getpid()}")
        with os.fdopen(os.open(fresh, os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
            file.write(new_key().get_secret_value())
            file.flush()
            os.fsync(file.fileno())
        # A link appears with all its text, and not where another process was faster.
        with suppress(FileExistsError):
            path.hardlink_to(fresh)
        fresh.unlink()
        # On the disk before anything that it seals is.
        _sync(path.parent)
    return SecretStr(path.read_text().strip())


def _sync(folder: Path) -> None:
    """Names in *folder* survive a power cut from here on."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
