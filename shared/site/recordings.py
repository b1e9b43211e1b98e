"""Where the recordings of a PBX connection come from, and which of its names can be fetched."""

from __future__ import annotations

import base64
from functools import partial
from pathlib import PurePosixPath
from urllib.parse import quote

from yarl import URL

from shared.crm.language.text import compile_text
from shared.errors import BadSetting, ContractError
from shared.net.client import HttpClient
from shared.pbx.fetching import Asked, WebRecordings, at_origin
from shared.pbx.wazo.recordings import path_of
from shared.pbx.yeastar.recordings import is_recording
from shared.recordings.folder import within
from shared.secrets import SecretBox
from shared.site.fetching import FilesOfPbx, HttpOfPbx
from shared.site.pbx import Pbx, WazoPbx, YeastarPbx


def can_fetch(pbx: Pbx, recording: str) -> bool:
    """Whether there is a way to a recording of this name, by its words alone: nothing is asked."""
    match pbx.fetch_recordings:
        case FilesOfPbx(folder=folder):
            return within(PurePosixPath(folder), recording) is not None
        case HttpOfPbx() as said:
            return address_of(recording, said) is not None
    match pbx:
        case YeastarPbx():
            return is_recording(recording)
        case WazoPbx():
            return path_of(recording, pbx.url) is not None
    # A UIS account tells addresses that its own users can hear; others may be asked to log in.
    return False


def address_of(recording: str, said: HttpOfPbx) -> URL | None:
    """None for a name that would lead elsewhere: to another host, up the folders, to no file."""
    if "://" in recording:
        return at_origin(recording, str(said.origin))
    name = recording.removeprefix("/")
    if not name.isprintable() or any(part in {"", ".", ".."} for part in name.split("/")):
        return None
    variables = {"Recording": name, "File": PurePosixPath(name).name}
    try:
        # Folders stay folders; all else of a name is no part of the address's own.
        text = compile_text(said.url).text(variables, escape=partial(quote, safe="/"))
        url = URL(text, encoded=True)
        return url if url.origin() == said.origin else None
    except (ContractError, ValueError, UnicodeError):
        return None


def by_http(pbx: str, said: HttpOfPbx, http: HttpClient, box: SecretBox) -> WebRecordings:
    """Raises: BadSetting: no key opens its secrets, or they would go out in clear."""
    host = said.origin.host or ""
    if said.origin.scheme == "http" and not http.may_be_plain(host):
        raise BadSetting(
            f"pbx {pbx}: fetch_recordings.url: http lets everybody listen; use https, or let the "
            f"operator list {host} in CALLMESH_NET_ALLOW or CALLMESH_NET_PLAIN"
        )
    headers = {name: box.open(value).get_secret_value() for name, value in said.headers.items()}
    if said.username is not None and said.password is not None:
        login = f"{said.username}:{box.open(said.password).get_secret_value()}"
        headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"

    def asked(recording: str) -> Asked | None:
        url = address_of(recording, said)
        return Asked(url, headers) if url is not None else None

    return WebRecordings(http, asked)
