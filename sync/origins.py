"""Repositories and environments: which are declared, how to get into them, and the open source of each."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from runner.errors import InvalidError, NotFoundError
from runner.secrets.encryption import Encryption
from runner.settings import EnvironmentSettings, RepositorySettings, Settings
from runner.store import Store
from runner.store.records import Environment, Repository
from runner.store.session import Session
from sync.forges.apis import api_of
from sync.forges.kept_limits import keep_limit
from sync.forges.registry import kinds
from sync.names import MAIN, check_followed, check_ref
from sync.refs import fits, is_followed
from sync.remote import Credentials, parse_address
from sync.repository import GitRepository
from sync.sources import LocalSource, Source

if TYPE_CHECKING:
    from sync.forges.api import ForgeApi
    from sync.forges.github_app import GitHubApp

HOSTED: Final = "hosted"
DEFAULT: Final = "default"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*\Z")  # it is a folder on the reports branch
_REPORTS: Final = ".reports"  # in the name of a mirror; no repository has a dot in its own
_REVIEWS: Final = ".reviews"
_SECRETS: Final = ("password", "ssh_key", "webhook_secret", "previous_webhook_secret", "api_token")


class Origins:
    """The open repositories of a process: one object for each, made at first use. Safe for any thread."""

    def __init__(self, store: Store, settings: Settings, home: Path) -> None:
        self._store = store
        self._settings = settings
        self._home = home
        self._declared = {declared.name: declared for declared in settings.repositories}
        self._lock = threading.Lock()
        self._sources: dict[str, Source] = {}
        self._apps_lock = threading.Lock()
        self._apps: dict[str, GitHubApp] = {}

    @property
    def hosted_path(self) -> Path:
        """Return where the hosted repository lies."""
        return self._home / "git" / "flows.git"

    def declare(self) -> None:
        """Write the repositories and environments of the settings to the store; what is active stays active.

        The embedded server has a repository `hosted`, and an environment `default` when no other is declared.

        Raises:
            InvalidError: `repository.url.invalid`, `repository.ref.invalid`, `environment.repository.unknown`,
                `environment.name.invalid`, `report.repository.unknown`.
        """
        repositories = [_repository(declared) for declared in self._settings.repositories if not _is_hosted(declared)]
        environments = list(self._settings.environments)
        if self._settings.is_embedded:
            repositories.append(Repository(HOSTED, f"{self._settings.public_url}/git/flows.git", kind=HOSTED))
            environments = environments or [EnvironmentSettings(name=DEFAULT, repository=HOSTED)]
        for declared in self._settings.repositories:
            self._app(declared.name)  # a key that is none is told at the start
        known = {repository.name for repository in repositories}
        for environment in environments:
            _check(environment, known, self._settings.reports.ref)
        if self._settings.reports.repository not in {None, *known}:
            raise InvalidError(
                "report.repository.unknown",
                f"reports.repository names {self._settings.reports.repository!r}, which is not declared",
                hint=f"declare it under `repositories`; known are {', '.join(sorted(known)) or 'none'}",
            )

        def write(db: Session) -> None:
            for repository in repositories:
                db.repositories.put(repository)
            for limit in db.forge_limits.all():
                if limit.repository not in known:
                    db.forge_limits.delete(limit.repository)
            for environment in environments:
                # Another process may activate a commit at this moment: only what is declared is written.
                _declare(db, _declared(environment))

        self._store.write(write)

    def get(self, name: str) -> Source:
        """Return the open source of a repository.

        Raises:
            NotFoundError: `repository.missing` when it is not declared, or a local one is not there.
            InvalidError: `repository.url.invalid`.
        """
        with self._lock:
            found = self._sources.get(name)
            if found is None:
                found = self._sources[name] = self._open(self.credentials(name))
            return found

    def for_reports(self, name: str) -> Source:
        """Return the open source that reports of a repository are written through. Raises as `get`.

        For one elsewhere it is a mirror of its own: writing there keeps nobody from reading flows, and what old reports
        leave behind can be thrown away.
        """
        return self._apart(name, _REPORTS)

    def _apart(self, name: str, purpose: str) -> Source:
        declared = self.credentials(name)
        if not self._is_elsewhere(declared):
            return self.get(name)
        with self._lock:
            key = f"{name}{purpose}"
            found = self._sources.get(key)
            if found is None:
                found = self._sources[key] = self._mirror(declared, key)
            return found

    def for_reviews(self, name: str) -> Source:
        """Return the open source that change requests of a repository are read into. Raises as `get`.

        For one elsewhere it is a mirror of its own: what strangers propose neither fills the mirror that flows come
        from nor keeps anybody waiting.
        """
        return self._apart(name, _REVIEWS)

    def trim_reports(self, name: str, most_bytes: int) -> bool:
        """Throw the mirror for reports away when it holds more than `most_bytes`; True when it did.

        Whoever has its source must ask for a new one.
        """
        return self._trim(f"{name}{_REPORTS}", most_bytes)

    def trim_reviews(self, name: str, most_bytes: int) -> bool:
        """As `trim_reports`, for the mirror that change requests are read into."""
        return self._trim(f"{name}{_REVIEWS}", most_bytes)

    def _trim(self, key: str, most_bytes: int) -> bool:
        folder = self._mirror_path(key)
        if not folder.exists() or _disk_bytes(folder) <= most_bytes:
            return False
        self._drop(key)
        shutil.rmtree(folder)
        return True

    def credentials(self, name: str) -> Repository:
        """Return a repository with its secrets in the clear.

        Those of the settings are taken from there and never stored; those made by the API are stored encrypted.

        Raises:
            NotFoundError: `repository.missing`.
        """
        declared = self._declared.get(name)
        if declared is not None and not _is_hosted(declared):
            return Repository(**declared.model_dump(exclude={"github_app"}))
        stored = self._store.read(lambda db: db.repositories.get(name))
        if stored is None:
            raise NotFoundError("repository.missing", f"there is no repository {name!r}")
        if declared is not None:
            secrets = (declared.webhook_secret, declared.previous_webhook_secret)
            return replace(stored, webhook_secret=secrets[0], previous_webhook_secret=secrets[1])
        sealed = {name: value for name in _SECRETS if (value := getattr(stored, name))}
        if not sealed:
            return stored
        decrypt = Encryption.of(self._settings, self._home).decrypt
        opened: dict[str, Any] = {name: decrypt(value) for name, value in sealed.items()}
        return replace(stored, **opened)

    def open_api(self, repository: Repository) -> ForgeApi | None:
        """Return the API of a repository at its forge, to be closed by the caller; see `api_of`.

        What the forge says of its limit is written to the store then, where it is news.
        """
        api = api_of(repository, self._app(repository.name))
        if api is not None:
            api.at_end = partial(keep_limit, self._store, repository.name)
        return api

    def _app(self, name: str) -> GitHubApp | None:
        """Return the GitHub App that a repository is reached by, None where it has none.

        Raises:
            InvalidError: `repository.app.invalid`.
        """
        declared = self._declared.get(name)
        if declared is None or declared.github_app is None:
            return None
        from sync.forges.github_app import app_of

        with self._apps_lock:
            if name not in self._apps:
                self._apps[name] = app_of(declared, declared.github_app)
            return self._apps[name]

    def is_ours(self, name: str) -> bool:
        """Whether the files of a repository are ours to rearrange: the hosted one, not one that is read in place."""
        return self.credentials(name).kind == HOSTED

    def forget(self, name: str) -> None:
        """Open a repository anew at its next use, since its address or credentials changed."""
        for purpose in ("", _REPORTS, _REVIEWS):
            self._drop(f"{name}{purpose}")

    def _drop(self, key: str) -> None:
        with self._lock:
            source = self._sources.pop(key, None)
        if source is not None:
            source.close()

    def close(self) -> None:
        """Close all repositories."""
        with self._lock:
            sources, self._sources = list(self._sources.values()), {}
        for source in sources:
            source.close()

    def _open(self, repository: Repository) -> Source:
        if repository.kind == HOSTED:
            return LocalSource(GitRepository.open_or_init(self.hosted_path, durable=True))
        if not self._is_elsewhere(repository):
            return LocalSource.at(Path(parse_address(repository.url).path))
        return self._mirror(repository, repository.name)

    @staticmethod
    def _is_elsewhere(repository: Repository) -> bool:
        return repository.kind != HOSTED and not parse_address(repository.url).is_local

    def _mirror_path(self, key: str) -> Path:
        return self._home / "mirrors" / f"{key}.git"

    def _mirror(self, repository: Repository, key: str) -> Source:
        from sync.mirror import MirrorSource

        app = self._app(repository.name)
        hosts = self._home / "known_hosts"
        return MirrorSource(
            repository.url,
            self._mirror_path(key),
            kind=repository.kind,
            tokens=app,
            credentials=Credentials(
                username=repository.username if app is None else None,
                password=repository.password,
                ssh_key=self._key_file(repository),
                known_hosts=hosts if hosts.exists() else None,
            ),
        )

    def _key_file(self, repository: Repository) -> Path | None:
        """Return the file of the ssh key: the one named, or a private copy of the key itself."""
        if not repository.ssh_key:
            return None
        if "PRIVATE KEY" not in repository.ssh_key:
            return Path(repository.ssh_key).expanduser()
        folder = self._home / "keys"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / repository.name
        path.touch(mode=0o600)
        path.write_text(repository.ssh_key.rstrip("\n") + "\n", encoding="utf-8")
        return path


def _disk_bytes(folder: Path) -> int:
    """Return how many bytes of the disk are taken: what we write ourselves are very many very small files."""
    found = 0
    for _, _, names, descriptor in os.fwalk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # a file of the moment
                status = os.stat(name, dir_fd=descriptor)
                found += max(status.st_size, status.st_blocks * 512)
    return found


def _is_hosted(declared: RepositorySettings) -> bool:
    """Whether the settings speak of the hosted repository, to which they may add webhook secrets and nothing else.

    Raises:
        InvalidError: `repository.name.invalid`, when only the name or only the kind is that of the hosted one.
    """
    named, kind = declared.name == HOSTED, declared.kind == HOSTED
    if named is not kind or (named and declared.url):
        raise InvalidError(
            "repository.name.invalid",
            f"repository {declared.name!r} of kind {declared.kind!r}: `hosted` is the server's own",
            hint="give it another name and kind, or declare name and kind `hosted` without a url",
        )
    return named


def _repository(declared: RepositorySettings) -> Repository:
    if not declared.name.replace("-", "").replace("_", "").isalnum():
        raise InvalidError("repository.name.invalid", f"{declared.name!r} is no name: use letters, digits, - and _")
    if declared.kind not in kinds():
        raise InvalidError(
            "repository.kind.unknown",
            f"repository {declared.name} is of kind {declared.kind!r}, which is none",
            hint=f"one of {', '.join(kinds())}; generic serves for any other git server",
        )
    parse_address(declared.url)
    return Repository(
        name=declared.name,
        url=declared.url,
        kind=declared.kind,
        username=declared.username,
        interval_s=declared.interval_s,
        api_url=declared.api_url,
    )


def _check(environment: EnvironmentSettings, repositories: set[str], reports_ref: str) -> None:
    if not _NAME.match(environment.name):
        raise InvalidError("environment.name.invalid", f"{environment.name!r} is no name: use letters, digits, - and _")
    if environment.repository not in repositories:
        raise InvalidError(
            "environment.repository.unknown",
            f"environment {environment.name} names repository {environment.repository!r}, which is not declared",
        )
    ref = check_followed(_full_ref(environment.ref))
    if is_followed(check_ref(reports_ref), [ref]):
        raise InvalidError(
            "repository.ref.invalid",
            f"environment {environment.name} may not follow {reports_ref}: reports are written there",
        )


def _full_ref(ref: str) -> str:
    """Return the whole name of a ref: of `tags/v*` that of tags, of any other word that of a branch."""
    if ref.startswith(("tags/", "heads/")):
        return f"refs/{ref}"
    return ref if ref.startswith("refs/") else f"refs/heads/{ref or MAIN}"


def _declare(db: Session, declared: Environment) -> None:
    """Write what an environment is to be; the ref that it followed is forgotten where its pattern means others now."""
    known = db.environments.get(declared.name)
    db.environments.declare(declared)
    if known is None or known.followed is None:
        return
    if known.repository != declared.repository or not fits(declared.ref, known.followed):
        db.environments.forget_followed(declared.name)


def _declared(declared: EnvironmentSettings) -> Environment:
    fields = declared.model_dump(exclude={"drift", "rollback_on_failures", "moved_tags", "signatures"}) | {
        "ref": _full_ref(declared.ref),
        "path": declared.path.strip("/"),
    }
    return Environment(**fields)
