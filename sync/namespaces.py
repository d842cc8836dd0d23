"""Namespaces as objects: what files of defaults say about them, read at the active commits and written as commits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from runner.errors import ConflictError, InvalidError, MainstemError, NotFoundError
from runner.expressions.yaml_text import dump_yaml
from runner.flows.namespace_defaults import EVERY, NAMES, DefaultsFile, NamespaceDefaults
from runner.flows.sections import with_values
from runner.store import Store
from runner.store.records import Environment
from sync.commits import Commits, Proposed
from sync.edits import Edits
from sync.layout import Layout, defaults_place, layout_of
from sync.names import MAX_FLOW_BYTES
from sync.planning import list_files, read_defaults, read_layout
from sync.sifting import owns
from sync.sources import Source
from sync.writes import owner_of

ObjectMode = Literal["any", "create", "update"]

KEPT: Final = ("description", "variables", "pluginDefaults")
"""What a file says about its namespace."""


@dataclass(frozen=True, slots=True)
class _Head:
    """The files of defaults at the commit that is written on."""

    layout: Layout
    defaults: NamespaceDefaults
    source: Source
    blobs: Mapping[str, str]

    @classmethod
    def of(cls, source: Source, environment: Environment, commit: str | None) -> _Head:
        if commit is None:
            return cls(layout_of(environment.path, None), NamespaceDefaults(), source, {})
        layout = read_layout(source, commit, environment.path)
        blobs = list_files(source, commit, layout).files
        return cls(layout, read_defaults(source, blobs, layout)[0], source, blobs)

    def text(self, file: DefaultsFile) -> str:
        """Return what stands in a file."""
        return self.source.repository.blob(self.blobs[file.file], limit=MAX_FLOW_BYTES).decode("utf-8", "replace")

    def place(self, namespace: str) -> str:
        """Return where a new file goes.

        Raises:
            InvalidError: `namespace.path.invalid`.
            ConflictError: `namespace.path.taken`.
        """
        path = "/".join(part for part in (self.layout.root, namespace, NAMES[0]) if part)
        if defaults_place(path, self.layout) is None:
            message = f"a folder named {namespace!r} holds no flows, so nothing can be said about the namespace there"
            raise InvalidError("namespace.path.invalid", message, hint=f"push a {NAMES[0]} with namespace: {namespace}")
        if path in self.blobs:
            message = f"{path} stands where a file for {namespace!r} would go, and is about another namespace"
            hint = f"push another {NAMES[0]} with namespace: {namespace}, or move that one"
            raise ConflictError("namespace.path.taken", message, hint=hint)
        return path


@dataclass(frozen=True, slots=True)
class Namespaces:
    """The objects of all environments; each namespace counts where an environment owns it."""

    store: Store
    commits: Commits

    def known(self) -> dict[str, DefaultsFile]:
        """Return what is said about namespaces now; a repository that is away and was never read says nothing."""
        found: dict[str, DefaultsFile] = {}
        for environment in self.store.read(lambda db: db.environments.all()):
            for name, file in self._said(environment).by_namespace.items():
                if name != EVERY and owns(environment, name):
                    found.setdefault(name, file)
        return found

    def _said(self, environment: Environment) -> NamespaceDefaults:
        try:
            return self.commits.defaults(environment)
        except MainstemError:
            return NamespaceDefaults()

    def write(
        self,
        namespace: str,
        said: Mapping[str, Any],
        *,
        actor: str,
        mode: ObjectMode = "any",
        proposed: Proposed | None = None,
    ) -> None:
        """Write the properties `KEPT` of a namespace to its file, in a commit; those that `said` lacks go.

        Where `proposed` is told of a proposal, nothing is written yet; so too in `delete`.

        Raises:
            FlowError: `flow.invalid` with the problems, also of flows below; nothing is committed.
            ConflictError: `namespace.exists` in mode `create`, `namespace.path.taken`, `flow.owner.none`,
                `flow.owner.many`.
            NotFoundError: `namespace.missing` in mode `update`.
            AccessError: `environment.writes.refused`.
        """
        environment = self._owner(namespace)

        def edit(source: Source, commit: str | None) -> Edits:
            head = _Head.of(source, environment, commit)
            file = head.defaults.by_namespace.get(namespace)
            _check_mode(namespace, file, mode)
            old = dump_yaml({"namespace": namespace}) if file is None else head.text(file)
            values = {name: said.get(name) or None for name in KEPT}
            content = with_values(old, {"taskDefaults": None, **values})  # an old name of `pluginDefaults`
            return {head.place(namespace) if file is None else file.file: content.encode()}

        message = f"Describe the namespace {namespace}"
        self.commits.commit(environment, edit, actor=actor, message=message, proposed=proposed)

    def delete(self, namespace: str, *, actor: str, proposed: Proposed | None = None) -> None:
        """Remove the file of a namespace by a commit; its flows stay, without what it gave them.

        Raises:
            NotFoundError: `namespace.missing`; the rest as `write`.
        """
        environment = self._owner(namespace)

        def edit(source: Source, commit: str | None) -> Edits:
            file = _Head.of(source, environment, commit).defaults.by_namespace.get(namespace)
            _check_mode(namespace, file, "update")
            assert file is not None
            return {file.file: None}

        message = f"Say nothing about the namespace {namespace}"
        self.commits.commit(environment, edit, actor=actor, message=message, proposed=proposed)

    def _owner(self, namespace: str) -> Environment:
        return owner_of(self.store.read(lambda db: db.environments.all()), namespace)


def _check_mode(namespace: str, file: DefaultsFile | None, mode: ObjectMode) -> None:
    if mode == "create" and file is not None:
        message = f"{file.file} says what the namespace {namespace!r} is already"
        raise ConflictError("namespace.exists", message, hint="update it instead")
    if mode == "update" and file is None:
        raise NotFoundError("namespace.missing", f"no file says anything about the namespace {namespace!r}")
