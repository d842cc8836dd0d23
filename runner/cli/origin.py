"""Runs that have ended, found again: by their report, on this machine, or on a server."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from runner.errors import InvalidError, NotFoundError

if TYPE_CHECKING:
    from runner.cli.client import Client
    from runner.executions.models import TriggerInfo
    from runner.flows.namespace_defaults import NamespaceDefaults

_KEPT: Final = 50
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,100}")
_FILE_SCHEME: Final = "kestra://"


@dataclass(frozen=True, slots=True)
class EarlierRun:
    """A run that has ended, in the shape of its report or of the API.

    `place` is the folder of its report, `client` the server that knows it; of both, one or none is there. A run of
    this machine names the file of its flow.
    """

    name: str
    document: Mapping[str, Any]
    place: Path | None = None
    client: Client | None = field(default=None, repr=False)

    @property
    def flow_name(self) -> str:
        """Return `namespace.flow`."""
        return f"{self.document['namespace']}.{self.document['flowId']}"

    @property
    def commit(self) -> str | None:
        """Return the commit it was pinned to."""
        commit: str | None = self.document.get("commit")
        return commit

    @property
    def repository_url(self) -> str | None:
        """Return where the repository of its commit is; reports say it."""
        repository = (self.document.get("flow") or {}).get("repository") or {}
        url: str | None = repository.get("url")
        return url

    @property
    def flow_file(self) -> Path | None:
        """Return the file of the flow on this machine; None for a run of elsewhere."""
        name = self.document.get("file")
        return Path(name) if name else None

    @property
    def source(self) -> str:
        """Return the YAML of the flow as it ran.

        Raises:
            InvalidError: `report.flow.missing`.
        """
        source = (self.document.get("flow") or {}).get("source")
        if not source:
            raise InvalidError(
                "report.flow.missing",
                f"{self.name} does not hold the source of its flow",
                hint="it was written by an older version; check the commit out and run the file",
            )
        return str(source)

    @property
    def defaults(self) -> NamespaceDefaults | None:
        """Return what the flow got from its namespaces when it ran, None when it was nothing."""
        from runner.flows.inherited import from_text
        from runner.flows.namespace_defaults import NamespaceDefaults

        text = (self.document.get("flow") or {}).get("defaults")
        return NamespaceDefaults.only(from_text(text)) if text else None

    @property
    def trigger(self) -> TriggerInfo | None:
        """Return what started it, as its expressions saw it; None for a start by hand."""
        from runner.executions.models import TriggerInfo

        found = self.document.get("trigger")
        if not found:
            return None
        return TriggerInfo(str(found.get("id")), str(found.get("type")), dict(found.get("variables") or {}))

    def inputs(self, given: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """Return the inputs to repeat it with: those of the run, `given` over them; files come to `folder`.

        Raises:
            InvalidError: `run.input.hidden` for secrets, `run.input.file` for files, which have to be given again.
        """
        found = dict(self.document.get("inputs") or {})
        found.update(given)
        hidden = [name for name in self._hidden() if name not in given]
        if hidden:
            raise InvalidError(
                "run.input.hidden",
                f"the run {self.name} had secret inputs, which no report holds: {', '.join(hidden)}",
                hint="give them again: " + " ".join(f"-i {name}=…" for name in hidden),
            )
        for name, value in found.items():
            if name not in given and isinstance(value, str) and value.startswith(_FILE_SCHEME):
                found[name] = self._file(name, value, folder)
        return found

    def _hidden(self) -> list[str]:
        from runner.flows.inputs import SECRET_MASK

        named = self.document.get("hiddenInputs")
        inputs = self.document.get("inputs") or {}
        return list(named) if named is not None else [name for name, value in inputs.items() if value == SECRET_MASK]

    def _file(self, name: str, uri: str, folder: Path) -> Path:
        kept = (self.document.get("inputFiles") or {}).get(name)
        if kept and Path(kept).is_file():
            return Path(kept)
        if self.client is None:
            raise InvalidError(
                "run.input.file",
                f"the input {name} of {self.name} was a file, and the file is not here",
                hint=f"give it again: -i {name}=@FILE",
            )
        folder.mkdir(parents=True, exist_ok=True)
        # The last part of an address could be `..`: a name of ours is in front of it.
        target = folder / f"{name}-{uri.rpartition('/')[2]}"
        self.client.download(f"/executions/{self.document['id']}/file", target, params={"path": uri})
        return target


def find_run(name: str, environ: Mapping[str, str], client: Client | None = None) -> EarlierRun:
    """Return the run that `name` means: the file of a report, else an id of this machine's runs, else of a server.

    Raises:
        NotFoundError: `report.missing`, `execution.missing`; InvalidError: `report.invalid`; what a client raises.
    """
    path = Path(name)
    if name.endswith(".json") or path.is_file():
        return EarlierRun(name, _document(path), place=path.absolute().parent)
    if _ID.fullmatch(name) and (kept := runs_folder(environ) / f"{name}.json").is_file():
        return EarlierRun(name, _document(kept))
    if client is None:
        from runner.cli.client import Client, resolve

        client = Client(resolve(environ))
    return EarlierRun(name, _from_server(name, client), client=client)


def _document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotFoundError("report.missing", f"there is no report {path}") from None
    except (OSError, ValueError) as error:
        raise InvalidError("report.invalid", f"{path} is no report: {error}") from None
    if not isinstance(document, dict) or not {"namespace", "flowId"} <= set(document):
        raise InvalidError("report.invalid", f"{path} is no report of a run", hint="reports lie in runs/…/ID.json")
    return document


def _from_server(execution_id: str, client: Client) -> dict[str, Any]:
    from urllib.parse import quote

    execution: dict[str, Any] = client.get(f"/executions/{quote(execution_id, safe='')}")
    place = f"/flows/{execution['namespace']}/{execution['flowId']}"
    execution["flow"] = client.get(place, params={"revision": execution["flowRevision"], "source": "true"})
    return execution


def runs_folder(environ: Mapping[str, str]) -> Path:
    """Return where failed runs of this machine are kept: below `XDG_STATE_HOME` or `~/.local/state`."""
    base = environ.get("XDG_STATE_HOME") or str(Path(environ.get("HOME") or "~").expanduser() / ".local" / "state")
    return Path(base) / "mainstem" / "runs"


def keep_run(document: Mapping[str, Any], environ: Mapping[str, str]) -> bool:
    """Keep a run of this machine, so that it can be repeated by its id; the last 50 stay. False when that failed."""
    folder = runs_folder(environ)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(folder / f"{document['id']}.json", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(document, file, default=str)
        # Ids begin with the time, so the oldest stand first.
        for old in sorted(folder.glob("*.json"))[:-_KEPT]:
            old.unlink(missing_ok=True)
    except OSError:
        return False
    return True
