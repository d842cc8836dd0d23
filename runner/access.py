"""Who may do what: roles, namespaces by segments, tokens of which only the SHA-256 is kept.

Roles build on each other: what a viewer may do, an operator may do too, and so on. A token also names the namespaces
it counts for; `*` stands for all of them. What belongs to the whole instance (tokens, repositories, environments)
needs a token for all namespaces.
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from runner.errors import AccessError, InvalidError, NotFoundError
from runner.quota import Quota
from runner.store.records import AuditEntry, Token

if TYPE_CHECKING:
    from runner.store import Session, Store

ALL_NAMESPACES: Final = "*"
UNKNOWN: Final = "unknown"
"""The actor of what somebody did who has no valid token."""
REFUSED: Final = "REFUSED"
_ROWS_PER_MINUTE: Final = 60
_LONGEST_TARGET: Final = 300
_PREFIX_CHARS = 12  # of the secret, kept in clear so that people can tell their tokens apart
_SECRET_BYTES = 32  # 256 bits: nothing to guess, so a plain hash is enough at rest
_TOUCH_EVERY = timedelta(minutes=1)
_CACHED_S = 5.0  # how long a token revoked by another process may still be accepted
_CACHED_TOKENS = 1_000
_SCHEME_AND_VALUE = 2


class Role(enum.StrEnum):
    """The four roles, from the weakest to the strongest."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    DEVELOPER = "developer"
    ADMIN = "admin"

    @property
    def rank(self) -> int:
        """Return 0 for the weakest role and one more for each stronger one."""
        return list(Role).index(self)


class Permission(enum.StrEnum):
    """What a route asks for."""

    PUBLIC = "public"  # anybody; nothing but liveness and the page that says where to go
    OWN_PROOF = "own-proof"  # the route proves its caller itself: a webhook key, a signature, git's own login
    CONFIG_READ = "config.read"
    FLOW_READ = "flow.read"
    FLOW_WRITE = "flow.write"
    EXECUTION_READ = "execution.read"
    EXECUTION_RUN = "execution.run"
    EXECUTION_DELETE = "execution.delete"
    LOG_READ = "log.read"
    TRIGGER_READ = "trigger.read"
    TRIGGER_WRITE = "trigger.write"
    KV_READ = "kv.read"
    KV_WRITE = "kv.write"
    SECRET_READ = "secret.read"  # noqa: S105 - the name of a permission; keys only, no route gives a value
    SECRET_WRITE = "secret.write"  # noqa: S105 - likewise
    GIT_FETCH = "git.fetch"
    GIT_PUSH = "git.push"
    METRICS_READ = "metrics.read"
    SYNC_READ = "sync.read"
    SYNC_RUN = "sync.run"
    SYNC_FORCE = "sync.force"
    DELIVERY_READ = "delivery.read"
    DELIVERY_REPLAY = "delivery.replay"
    AUDIT_READ = "audit.read"
    TOKEN_MANAGE = "token.manage"  # noqa: S105 - the name of a permission


WEAKEST_ROLE: Final[Mapping[Permission, Role]] = MappingProxyType(
    {
        Permission.CONFIG_READ: Role.VIEWER,
        Permission.FLOW_READ: Role.VIEWER,
        Permission.FLOW_WRITE: Role.DEVELOPER,
        Permission.EXECUTION_READ: Role.VIEWER,
        Permission.EXECUTION_RUN: Role.OPERATOR,
        Permission.EXECUTION_DELETE: Role.DEVELOPER,
        Permission.LOG_READ: Role.VIEWER,
        Permission.TRIGGER_READ: Role.VIEWER,
        Permission.TRIGGER_WRITE: Role.OPERATOR,
        Permission.KV_READ: Role.VIEWER,
        Permission.KV_WRITE: Role.OPERATOR,
        Permission.SECRET_READ: Role.VIEWER,
        Permission.SECRET_WRITE: Role.DEVELOPER,
        Permission.GIT_FETCH: Role.VIEWER,
        Permission.GIT_PUSH: Role.DEVELOPER,
        Permission.METRICS_READ: Role.VIEWER,
        Permission.SYNC_READ: Role.VIEWER,
        Permission.SYNC_RUN: Role.OPERATOR,
        Permission.SYNC_FORCE: Role.DEVELOPER,
        Permission.DELIVERY_READ: Role.OPERATOR,
        Permission.DELIVERY_REPLAY: Role.DEVELOPER,
        Permission.AUDIT_READ: Role.ADMIN,
        Permission.TOKEN_MANAGE: Role.ADMIN,
    }
)
INSTANCE_WIDE: Final = frozenset(
    {
        Permission.GIT_FETCH,
        Permission.GIT_PUSH,
        Permission.METRICS_READ,
        Permission.SYNC_READ,
        Permission.SYNC_RUN,
        Permission.SYNC_FORCE,
        Permission.DELIVERY_READ,
        Permission.DELIVERY_REPLAY,
        Permission.AUDIT_READ,
        Permission.TOKEN_MANAGE,
    }
)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is asking: the name of the token, its role and the namespaces it counts for."""

    name: str
    role: Role
    namespaces: tuple[str, ...]

    @property
    def sees_everything(self) -> bool:
        """Whether the token counts for all namespaces."""
        return ALL_NAMESPACES in self.namespaces


def covers(prefixes: Iterable[str], namespace: str) -> bool:
    """Return whether `namespace` is one of `prefixes` or lies below one, compared segment by segment.

    `company` covers `company` and `company.team` but not `company-evil`; `*` covers everything.
    """
    segments = namespace.split(".")
    for prefix in prefixes:
        if prefix == ALL_NAMESPACES:
            return True
        wanted = prefix.split(".")
        if prefix and segments[: len(wanted)] == wanted:
            return True
    return False


def allows(identity: Identity, permission: Permission, namespace: str | None = None) -> bool:
    """Return whether `identity` has `permission`, in `namespace` when one is given.

    Without a namespace the answer says whether the permission is held anywhere; the permissions of the instance are
    held only by tokens for all namespaces.
    """
    weakest = WEAKEST_ROLE.get(permission)
    if weakest is None or identity.role.rank < weakest.rank:
        return False
    if permission in INSTANCE_WIDE:
        return identity.sees_everything
    return namespace is None or covers(identity.namespaces, namespace)


def digest_of(secret: str) -> str:
    """Return the SHA-256 of a token's secret, in hexadecimal: the only form that is stored."""
    return hashlib.sha256(secret.encode()).hexdigest()


def secret_of(header: str | None) -> str | None:
    """Return the secret of an `Authorization` header: of `Bearer`, or the password of `Basic` (git, curl -u)."""
    parts = (header or "").split(None, 1)
    if len(parts) != _SCHEME_AND_VALUE:
        return None
    scheme, value = parts[0].lower(), parts[1].strip()
    if scheme == "bearer":
        return value or None
    if scheme != "basic":
        return None
    try:
        _, colon, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return password if colon and password else None


class AccessControl:
    """The tokens of a store, with a small cache so that a request does not cost a query.

    A revoked token is refused at once by the process that revoked it and within five seconds by the others.
    """

    def __init__(self, store: Store, *, clock: Callable[[], datetime] | None = None) -> None:
        self._store = store
        self._clock = clock or (lambda: datetime.now(UTC))
        self._lock = threading.Lock()
        self._cached: dict[str, tuple[float, Token]] = {}
        self._forgotten = 0  # how often
        self._touched: dict[str, datetime] = {}
        self._quota = Quota(_ROWS_PER_MINUTE)

    def authenticate(self, header: str | None, *, target: str = "", **detail: Any) -> Identity:
        """Return who sent an `Authorization` header; a refusal is written to the audit log.

        Args:
            header: the header, None without one.
            target: what was asked for; with nothing the audit log hears of no request that has no token.
            detail: more for the audit log, such as the address of the caller.

        Raises:
            AccessError: 401, `access.token.missing` without a token and `access.token.invalid` with an unknown,
                revoked or expired one.
        """
        secret = secret_of(header)
        if secret is None:
            if target:
                self.note(UNKNOWN, "token.use", target, result=REFUSED, code="access.token.missing", **detail)
            raise AccessError(
                "access.token.missing",
                "this needs a token",
                hint="send `Authorization: Bearer <token>`; the first one stands in the file `token` of the home",
                status=401,
            )
        identity = self.by_digest(digest_of(secret))
        if identity is None:
            self.note(UNKNOWN, "token.use", target, result=REFUSED, code="access.token.invalid", **detail)
            raise AccessError(
                "access.token.invalid",
                "the token is unknown, revoked or expired",
                hint="ask an admin for a new one: mainstem token create",
                status=401,
            )
        return identity

    def by_digest(self, digest: str) -> Identity | None:
        """Return whose token has this digest; None when it is unknown, revoked or expired."""
        token = self._token(digest)
        now = self._clock()
        if token is None or (token.expires_at is not None and token.expires_at <= now):
            return None
        self._touch(token, now)
        return Identity(token.name, Role(token.role), token.namespaces)

    def known(self, header: str | None) -> Identity | None:
        """Return who sent the header when that is known without asking the store, else None. Never waits."""
        secret = secret_of(header)
        if secret is None:
            return None
        digest = digest_of(secret)
        with self._lock:
            entry = self._cached.get(digest)
        now = self._clock()
        if entry is None or time.monotonic() - entry[0] > _CACHED_S:
            return None
        token = entry[1]
        if (token.expires_at is not None and token.expires_at <= now) or self._is_touch_due(token, now):
            return None
        return Identity(token.name, Role(token.role), token.namespaces)

    def create(
        self,
        name: str,
        role: Role | str,
        *,
        namespaces: Iterable[str] = (ALL_NAMESPACES,),
        expires_at: datetime | None = None,
        actor: str = "system",
    ) -> tuple[str, Token]:
        """Store a new token and return its secret, which is shown once and never again, and its row.

        Raises:
            InvalidError: `token.role.unknown`, `token.namespaces.empty` or `token.name.taken`.
        """
        if str(role) not in set(Role):
            raise InvalidError("token.role.unknown", f"no role named {str(role)!r}", hint=f"one of {', '.join(Role)}")
        prefixes = tuple(dict.fromkeys(item.strip() for item in namespaces if item.strip()))
        if not prefixes:
            raise InvalidError(
                "token.namespaces.empty", "a token needs at least one namespace", hint="`*` stands for all of them"
            )
        secret = f"ms_{secrets.token_urlsafe(_SECRET_BYTES)}"
        token = Token(
            name=name,
            digest=digest_of(secret),
            prefix=secret[:_PREFIX_CHARS],
            role=str(role),
            created_at=self._clock(),
            namespaces=prefixes,
            expires_at=expires_at,
        )

        def add(db: Session) -> None:
            if db.tokens.get(name) is not None:
                raise InvalidError("token.name.taken", f"there is a token named {name!r} already")
            db.tokens.put(token)
            db.audit.add(self.entry(actor, "token.create", name, role=str(role), namespaces=list(prefixes)))

        self._store.write(add)
        return secret, token

    def adopt(self, name: str, secret: str, role: Role, *, namespaces: Iterable[str] = (ALL_NAMESPACES,)) -> Token:
        """Store a token whose secret is given, such as the one in the home when the database is new."""
        token = Token(name, digest_of(secret), secret[:_PREFIX_CHARS], str(role), self._clock(), tuple(namespaces))
        self._store.write(lambda db: db.tokens.put(token))
        self._forget()
        return token

    def revoke(self, name: str, *, actor: str = "system") -> None:
        """Remove the token called `name`. Raises `NotFoundError` `token.missing`."""

        def remove(db: Session) -> None:
            if not db.tokens.delete(name):
                raise NotFoundError("token.missing", f"no token named {name!r}")
            db.audit.add(self.entry(actor, "token.revoke", name))

        self._store.write(remove)
        self._forget()

    def tokens(self) -> list[Token]:
        """Return all tokens, by name."""
        found: list[Token] = self._store.read(lambda db: db.tokens.all())
        return sorted(found, key=lambda token: token.name)

    def require(self, identity: Identity, permission: Permission, namespace: str | None = None) -> None:
        """Return when `identity` has `permission` (in `namespace`).

        Raises:
            AccessError: 403 `access.denied`; the refusal is written to the audit log.
        """
        if allows(identity, permission, namespace):
            return
        where = f" in namespace {namespace}" if namespace is not None else ""
        self.note(identity.name, str(permission), namespace or "", result=REFUSED, role=identity.role)
        raise AccessError(
            "access.denied",
            f"the token {identity.name!r} ({identity.role}) may not {str(permission).replace('.', ' ')}{where}",
            hint=f"it needs the role {WEAKEST_ROLE.get(permission, Role.ADMIN)} there",
        )

    def note(self, actor: str, action: str, target: str, *, result: str = "OK", **detail: Any) -> None:
        """Add a row to the audit log, without waiting for it; of refusals to one actor, as `note_some`."""
        if result == REFUSED:
            self.note_some(actor, actor, action, target, result=result, **detail)
        else:
            self._add(self.entry(actor, action, target, result=result, **detail))

    def note_some(self, key: str, actor: str, action: str, target: str, *, result: str = "OK", **detail: Any) -> None:
        """Add a row to the audit log, of those with one `key` at most 60 a minute.

        So nobody who may ask as often as they like fills the disk. The next row says how many were left out.
        """
        left_out = self._quota.take(key)
        if left_out is not None:
            detail |= {"leftOut": left_out} if left_out else {}
            self._add(self.entry(actor, action, target[:_LONGEST_TARGET], result=result, **detail))

    def _add(self, entry: AuditEntry) -> None:
        self._store.submit(lambda db: db.audit.add(entry))

    def entry(self, actor: str, action: str, target: str, *, result: str = "OK", **detail: Any) -> AuditEntry:
        """Return an audit row of this moment, for callers that write it in a transaction of their own."""
        return AuditEntry(self._clock(), actor, action, target, result, detail)

    def _token(self, digest: str) -> Token | None:
        with self._lock:
            entry, forgotten = self._cached.get(digest), self._forgotten
        if entry is not None and time.monotonic() - entry[0] <= _CACHED_S:
            return entry[1]
        token: Token | None = self._store.read(lambda db: db.tokens.by_digest(digest))
        # The row was found by its hash; comparing once more in constant time keeps the answer independent of how
        # a database compares text (collations, trailing blanks).
        if token is None or not hmac.compare_digest(token.digest, digest):
            return None
        with self._lock:
            if len(self._cached) >= _CACHED_TOKENS:
                self._cached.clear()
            if self._forgotten == forgotten:  # else it may have been read just before it was revoked
                self._cached[digest] = (time.monotonic(), token)
        return token

    def _is_touch_due(self, token: Token, now: datetime) -> bool:
        last = self._touched.get(token.digest)
        return last is None or now - last > _TOUCH_EVERY

    def _touch(self, token: Token, now: datetime) -> None:
        if self._is_touch_due(token, now):
            self._touched[token.digest] = now
            self._store.submit(lambda db: db.tokens.touch(token.name, now))

    def _forget(self) -> None:
        with self._lock:
            self._forgotten += 1
            self._cached.clear()
