"""A server that follows a repository elsewhere, into which anything can be put."""

from __future__ import annotations

import hashlib
import shutil
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runner.flows.catalogue import Catalogue
from runner.settings import EnvironmentSettings, RepositorySettings, Settings
from runner.store import Store
from sync.activation import RevisionResult
from sync.service import SyncService
from tests.servers.git import serving
from tests.servers.store import fresh_store
from tests.servers.sync_service import start

FINE = b"id: fine\nnamespace: team\ntasks: [{id: a, type: core.log.Log, message: x}]\n"
FILE, FOLDER, LINK, SUBMODULE = "100644", "40000", "120000", "160000"
Entry = tuple[str, bytes, str]
"""Mode, name and object id, as a tree holds them."""


@dataclass
class Followed:
    """A bare repository behind git's own HTTP server, and a service that follows its `main`."""

    bare: Path
    service: SyncService
    store: Store
    base: str = ""

    def put(self, kind: str, content: bytes) -> str:
        """Write an object as it is, whatever git would say of it; give its id."""
        whole = f"{kind} {len(content)}\0".encode() + content
        name = hashlib.sha1(whole, usedforsecurity=False).hexdigest()
        path = self.bare / "objects" / name[:2] / name[2:]
        path.parent.mkdir(exist_ok=True)
        if not path.exists():
            path.write_bytes(zlib.compress(whole, 1))
        return name

    def tree(self, *entries: Entry) -> str:
        """Write a tree with entries in the order that is given."""
        return self.put("tree", b"".join(f"{m} ".encode() + n + b"\0" + bytes.fromhex(o) for m, n, o in entries))

    def files(self, files: Mapping[bytes, bytes]) -> list[Entry]:
        """Write files; give their entries in git's order."""
        return [(FILE, name, self.put("blob", content)) for name, content in sorted(files.items())]

    def flows(self, *entries: Entry) -> str:
        """Write a root whose `flows` holds a good flow and `entries`."""
        inner = sorted([*self.files({b"fine.yaml": FINE}), *entries], key=lambda entry: entry[1])
        return self.tree((FOLDER, b"flows", self.tree(*inner)))

    def commit(self, tree: str, *, head: bytes | None = None, message: bytes = b"x\n") -> str:
        """Write a commit on the base and have `main` name it."""
        who = head if head is not None else b"author A <a@b.c> 1 +0000\ncommitter A <a@b.c> 1 +0000\n"
        parent = f"parent {self.base}\n".encode() if self.base else b""
        found = self.put("commit", b"tree " + tree.encode() + b"\n" + parent + who + b"\n" + message)
        (self.bare / "refs/heads/main").write_text(f"{found}\n")
        return found

    def look(self) -> RevisionResult:
        (result,) = self.service.reconcile_repository("forge", actor="test", reason="manual")
        return result

    def active(self) -> set[str]:
        """The flows that are active, as `namespace.id`."""
        return {f"{each.namespace}.{each.flow_id}" for each in self.store.read(lambda db: db.flows.list())}


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Followed]:
    folder = tmp_path_factory.mktemp("followed")
    with serving(folder / "served") as server:
        bare = server.repository("flows.git")
        declared: dict[str, Any] = {
            "repositories": (RepositorySettings(name="forge", url=f"{server.url}/flows.git"),),
            "environments": (EnvironmentSettings(name="default", repository="forge"),),
        }
        settings = Settings(home=folder / "home", **declared)
        settings.home.mkdir()
        store = fresh_store(settings.database_url, durability="off")
        service = SyncService(store, Catalogue(store), settings)
        service.ensure_declared()
        found = Followed(bare, service, store)
        found.base = found.commit(found.flows())
        found.look()
        yield found
        service.close()
        store.close()
    shutil.rmtree(folder, ignore_errors=True)
