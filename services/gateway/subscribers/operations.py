"""Subscribers by HTTP: set up, changed, removed, and their secrets."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    model_validator,
)
from yarl import URL

from services.gateway.deps import HttpDeps
from services.gateway.setup.changing import note
from services.gateway.subscribers.signing import check_secret, new_secret
from services.gateway.subscribers.subscriber import (
    MOST_HEADERS,
    SubscriberDocument,
    SubscriberSettings,
    SwitchedOff,
    check_settings,
    header_fault,
)
from shared.crm.form.requests import HeaderName
from shared.errors import Conflict, ContractError, Forbidden, NotFound, Stale
from shared.faults import faults_in
from shared.http.auth import Caller, Scope
from shared.http.lists import Paged
from shared.http.patching import MergePatch, merged
from shared.http.routes import FromBody, FromKey, FromPath, Routes
from shared.http.tags import OnlyIf, Tagged, tag_of
from shared.ids import Name, new_id
from shared.moments import Duration, Instant
from shared.secrets import Sealed
from shared.site.parts import KEPT

routes: Routes[HttpDeps] = Routes(tag="mesh")

#: Of one tenant: each is one more request for each event.
MOST_SUBSCRIBERS = 50
_LONGEST_OVERLAP = timedelta(days=7)
_LONGEST_SECRET = 200
HeaderText = Annotated[
    str, StringConstraints(min_length=1, max_length=2000, pattern=r"^[^\x00-\x1f\x7f]*$")
]
Secret = Annotated[SecretStr, Field(max_length=_LONGEST_SECRET)]


class SubscriberIn(SubscriberSettings):
    """As a whole; what is left out is as it is by itself, but for the secret, which stays."""

    headers: Annotated[dict[HeaderName, HeaderText], Field(max_length=MOST_HEADERS)] = Field(
        default_factory=dict,
        description="Sent along, such as `Authorization`. They are shown as asterisks, which keep "
        "what is stored, as long as the host of `url` is the same.",
    )
    secret: Secret | None = Field(
        default=None,
        description="By which the webhooks are signed: `whsec_` and 24 to 64 bytes in base64. Left "
        "out, one is made; asterisks or nothing keep the one that there is.",
    )

    @model_validator(mode="after")
    def can_be_sent(self) -> Self:
        check_settings(self)
        return self

    @property
    def settings(self) -> SubscriberSettings:
        said = self.model_dump(include=set(SubscriberSettings.model_fields), exclude_unset=True)
        return SubscriberSettings.model_validate(said)


class Subscriber(Tagged):
    """A subscriber and how telling it goes."""

    name: Name
    settings: SubscriberSettings
    headers: dict[str, str] = Field(description="Values are asterisks.")
    secret: str | None = Field(
        default=None, description="In the answer that made it alone: it is shown once."
    )
    off: SwitchedOff | None = Field(
        default=None,
        description="`gone`: it answered 410; `failing`: nothing came through for three days. To "
        "put or patch it switches it on.",
    )
    off_at: Instant | None = None
    failing_since: Instant | None = Field(default=None, description="To the minute.")
    last_done_at: Instant | None = Field(
        default=None, description="When a webhook came through last, to the minute."
    )
    created_at: Instant
    changed_at: Instant = Field(description="Also when it was switched off by itself.")
    changed_by: str


class SubscriberList(BaseModel):
    """In the order of their names."""

    subscribers: tuple[Subscriber, ...]
    next_cursor: str | None = None


class ListSubscribers(Paged):
    caller: FromKey[Caller]


class OfSubscriber(BaseModel):
    caller: FromKey[Caller]
    subscriber: FromPath[Name]


class ChangeSubscriber(OnlyIf, OfSubscriber):
    pass


class PutSubscriber(ChangeSubscriber):
    body: FromBody[SubscriberIn]


class PatchSubscriber(ChangeSubscriber):
    body: FromBody[MergePatch]


@routes("GET", "/v1/subscribers", scope=Scope.SUBSCRIBERS_READ, fields=("subscribers",))
async def list_subscribers(deps: HttpDeps, asked: ListSubscribers) -> SubscriberList:
    """List who is told of events, and how that goes."""
    refuse_bound(asked.caller)
    there = await deps.subscribers.list(asked.caller.tenant)
    found, more = asked.page(there, lambda one: one.name)
    return SubscriberList(subscribers=tuple(map(_shown, found)), next_cursor=more)


@routes(
    "GET",
    "/v1/subscribers/{subscriber}",
    scope=Scope.SUBSCRIBERS_READ,
    errors=(NotFound,),
    fields=("",),
)
async def read_subscriber(deps: HttpDeps, asked: OfSubscriber) -> Subscriber:
    """Read one subscriber, and how telling it goes."""
    refuse_bound(asked.caller)
    return _shown(await deps.subscribers.get(asked.caller.tenant, asked.subscriber))


@routes(
    "PUT",
    "/v1/subscribers/{subscriber}",
    scope=Scope.SUBSCRIBERS_WRITE,
    errors=(Conflict, Stale, ContractError),
)
async def put_subscriber(deps: HttpDeps, asked: PutSubscriber) -> Subscriber:
    """Have somebody told of events, or change who is told of which and how.

    From a second later on it is told of what happens. Its secret is in the answer that makes it, and
    nowhere else. To put one that was switched off switches it on.
    """
    return await _put(deps, asked, lambda _: asked.body, action="put_subscriber")


@routes(
    "PATCH",
    "/v1/subscribers/{subscriber}",
    scope=Scope.SUBSCRIBERS_WRITE,
    errors=(NotFound, Conflict, Stale, ContractError),
)
async def patch_subscriber(deps: HttpDeps, asked: PatchSubscriber) -> Subscriber:
    """Change a part of what is said of a subscriber; a header that is `null` is removed.

    To patch one that was switched off switches it on.
    """

    def wanted(found: SubscriberDocument | None) -> SubscriberIn:
        if found is None:
            raise NotFound(f"There is no subscriber {asked.subscriber}.")
        known = found.settings.model_dump(mode="json", exclude_unset=True)
        known["headers"] = dict.fromkeys(found.headers, KEPT)
        try:
            return SubscriberIn.model_validate(merged(known, asked.body.root))
        except ValidationError as error:
            raise ContractError(faults_in(error)) from None

    return await _put(deps, asked, wanted, action="patch_subscriber")


@routes(
    "DELETE",
    "/v1/subscribers/{subscriber}",
    scope=Scope.SUBSCRIBERS_WRITE,
    errors=(NotFound, Stale),
)
async def delete_subscriber(deps: HttpDeps, asked: ChangeSubscriber) -> Subscriber:
    """Tell somebody no more; what waits for it is not sent."""
    refuse_bound(asked.caller)
    await _note(deps, asked, "delete_subscriber")
    return _shown(
        await deps.subscribers.remove(
            asked.caller.tenant, asked.subscriber, lambda found: asked.check(_tag(found))
        )
    )


class RotateIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    secret: Secret | None = Field(default=None, description="Left out, one is made.")
    overlap: Annotated[Duration, Field(le=_LONGEST_OVERLAP)] = Field(
        default=timedelta(days=1),
        description="How long the old secret signs beside the new one: until then either is right.",
    )


class RotateSecret(OfSubscriber):
    body: FromBody[RotateIn]


@routes(
    "POST",
    "/v1/subscribers/{subscriber}/rotate-secret",
    scope=Scope.SUBSCRIBERS_WRITE,
    errors=(NotFound, Conflict, ContractError),
)
async def rotate_subscriber_secret(deps: HttpDeps, asked: RotateSecret) -> Subscriber:
    """Have webhooks signed by a new secret, which is in the answer; for a while by both."""
    caller, said = asked.caller, asked.body
    refuse_bound(caller)
    await _note(deps, asked, "rotate_subscriber_secret")
    if said.secret is not None:
        check_secret(said.secret)
    fresh = said.secret or new_secret()
    until = deps.clock.now() + said.overlap

    def edit(found: SubscriberDocument | None) -> SubscriberDocument:
        if found is None:
            raise NotFound(f"There is no subscriber {asked.subscriber}.")
        return found.model_copy(
            update={
                "secret": deps.secrets.seal(fresh),
                "old_secret": found.secret,
                "old_secret_until": until,
                "changed_by": f"key {caller.key_name}",
            }
        )

    changed = await deps.subscribers.change(caller.tenant, asked.subscriber, edit)
    assert changed is not None  # noqa: S101  edit never leaves it as it is
    return _shown(changed, secret=fresh)


# --------------------------------------------------------------------------------------------------


async def _put(
    deps: HttpDeps,
    asked: PutSubscriber | PatchSubscriber,
    wanted: Callable[[SubscriberDocument | None], SubscriberIn],
    *,
    action: str,
) -> Subscriber:
    caller, name = asked.caller, asked.subscriber
    refuse_bound(caller)
    await _note(deps, asked, action)
    others = [one for one in await deps.subscribers.list(caller.tenant) if one.name != name]
    fresh: SecretStr | None = None

    def edit(found: SubscriberDocument | None) -> SubscriberDocument:
        nonlocal fresh
        asked.check(_tag(found) if found is not None else None)
        said = wanted(found)
        if found is None and len(others) >= MOST_SUBSCRIBERS:
            raise Conflict(
                f"A tenant has at most {MOST_SUBSCRIBERS} subscribers; remove one first."
            )
        _check_address(deps, said)
        given = (
            None if said.secret is None or said.secret.get_secret_value() == KEPT else said.secret
        )
        if given is not None:
            check_secret(given)
        now, by = deps.clock.now(), f"key {caller.key_name}"
        headers = _headers(deps, said, found)
        if found is None:
            fresh = given or new_secret()
            return SubscriberDocument(
                key=f"{caller.tenant}/{name}",
                tenant=caller.tenant,
                name=name,
                uid=str(new_id()),
                settings=said.settings,
                headers=headers,
                secret=deps.secrets.seal(fresh),
                created_at=now,
                changed_at=now,
                changed_by=by,
            )
        fresh = None
        changed = {
            "settings": said.settings,
            "headers": headers,
            "changed_by": by,
            "off": None,
            "off_at": None,
            "failing_since": None,
        }
        if given is not None:
            changed |= {"secret": deps.secrets.seal(given), "old_secret": None}
        return found.model_copy(update=changed)

    stored = await deps.subscribers.change(caller.tenant, name, edit)
    assert stored is not None  # noqa: S101  edit never leaves it as it is
    return _shown(stored, secret=fresh)


def refuse_bound(caller: Caller) -> None:
    """Raises: Forbidden. Subscribers are told of everybody's calls."""
    if caller.extension is not None:
        raise Forbidden(
            f"This key is for extension {caller.extension} only; subscribers are of the whole tenant."
        )


def _check_address(deps: HttpDeps, said: SubscriberIn) -> None:
    """Raises: ContractError."""
    origin = URL(_origin_of(said.url))
    if origin.scheme == "http" and not deps.http.may_be_plain(origin.host or ""):
        raise ContractError(
            "body.url: must begin with https://; the operator can allow plain http to a host in "
            "CALLMESH_NET_PLAIN"
        )


def _headers(
    deps: HttpDeps, said: SubscriberIn, found: SubscriberDocument | None
) -> dict[str, Sealed]:
    """Raises: ContractError."""
    sealed: dict[str, Sealed] = {}
    for name, value in said.headers.items():
        if (fault := header_fault(name)) is not None:
            raise ContractError(f"body.{fault}")
        if value != KEPT:
            sealed[name] = deps.secrets.seal(SecretStr(value))
            continue
        if found is None or name not in found.headers:
            raise ContractError(f"body.headers.{name}: none is stored; say it")
        if _origin_of(found.settings.url) != _origin_of(said.url):
            raise ContractError(
                f"body.url: is another host; say headers.{name} again, as it will go there"
            )
        sealed[name] = found.headers[name]
    return sealed


def _origin_of(url: str) -> str:
    """Scheme, host and port as they are written: all that says where it goes."""
    scheme, _, rest = url.partition("://")
    for end in "/?#":
        rest = rest.partition(end)[0]
    return f"{scheme}://{rest}".lower()


def _shown(one: SubscriberDocument, *, secret: SecretStr | None = None) -> Subscriber:
    return Subscriber(
        name=one.name,
        settings=one.settings,
        headers=dict.fromkeys(one.headers, KEPT),
        secret=secret.get_secret_value() if secret is not None else None,
        off=one.off,
        off_at=one.off_at,
        failing_since=one.failing_since,
        last_done_at=one.last_done_at,
        created_at=one.created_at,
        changed_at=one.changed_at,
        changed_by=one.changed_by,
        tag=_tag(one),
    )


def _tag(one: SubscriberDocument) -> str:
    """Of what is set up; not of how telling it goes."""
    return tag_of(
        one.uid,
        one.settings.model_dump_json(),
        dict(one.headers),
        one.secret,
        one.old_secret,
        one.off,
    )


async def _note(deps: HttpDeps, asked: OfSubscriber, action: str) -> None:
    await note(deps, asked.caller, action=action, subject=f"subscriber {asked.subscriber}")
