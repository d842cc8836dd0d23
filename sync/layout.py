"""Which files of a repository are flows, and which are files beside them. Pure: paths in, places out.

Three ways to lay a repository out are understood, together:

- `<path>/<namespace>/<id>.yaml`, where the namespace is one dotted folder or nested folders. Other files belong to
  the namespace of the nearest folder above them that holds flows, under the path below that folder.
- Kestra's `_flows/` and `_files/` folders (the defaults of its git tasks), at any depth below the path.
- Kestra's `<namespace>/flows/` and `<namespace>/files/` (its namespace synchronisation).

A file `_defaults.yaml` in a folder of flows holds plugin defaults for its namespace and those below, a file `_kv.yaml`
keys of its namespace, a file `_secrets.yaml` secrets. The files of a folder `_templates`, at any depth, are templates
of tasks.

A file `.mainstem.yaml` at the root may name the folders instead: `flows: pipelines` and `files: data`, both relative
to the root (see `runner.rules`).

A folder `tests`, at any depth, holds tests of flows and is left alone, unless it lies among the files.

The YAML files of `_dashboards`, at any depth, and of `_global/dashboards` are dashboards; what else lies in
`_dashboards` and `_global`, in which Kestra's git tasks keep what is no flow, is left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from runner.flows.namespace_defaults import is_defaults
from runner.flows.seeds import is_seeds
from runner.flows.task_templates import FOLDER as TEMPLATES
from runner.flows.task_templates import is_template
from runner.rules import SETTINGS_FILE, RepositoryRules
from runner.secrets.sealed import is_sealed
from sync.signatures.key_list import KEY_FILE

_OURS: Final = frozenset({SETTINGS_FILE, KEY_FILE})
_SUFFIXES: Final = (".yaml", ".yml")
_DASHBOARDS: Final = "dashboards"
_APART: Final = frozenset({"tests", "_dashboards", "_global"})
_REMEMBERED: Final = 100_000


@dataclass(frozen=True, slots=True)
class Layout:
    """Where an environment's flows and files stand. `files` is None when they stand beside the flows."""

    root: str
    files: str | None = None

    def roots(self) -> tuple[str, ...]:
        """Return the folders whose files count, without one that lies inside another."""
        if self.files is None or is_below(self.files, self.root):
            return (self.root,)
        return (self.files,) if is_below(self.root, self.files) else (self.root, self.files)


@dataclass(frozen=True, slots=True)
class FlowPlace:
    """A flow file. `namespace` is what its folders say, None at the top; `namespace:` in the file wins over it."""

    path: str
    namespace: str | None


def is_below(path: str, folder: str) -> bool:
    """Whether `path` is `folder` or something inside it; the empty folder holds everything."""
    return not folder or path == folder or path.startswith(folder + "/")


def layout_of(root: str, rules: RepositoryRules | None) -> Layout:
    """Return the layout of an environment with path `root`, in a repository that says `rules` of itself."""
    root = root.strip("/")
    if rules is None:
        return Layout(root)
    return Layout(root if rules.flows is None else rules.flows, rules.files)


def defaults_place(path: str, layout: Layout) -> FlowPlace | None:
    """Return where the file of plugin defaults `path` stands, or None when it is none."""
    return _yaml_place(path, layout) if is_defaults(path) else None


def template_place(path: str, layout: Layout) -> FlowPlace | None:
    """Return where the template `path` stands, or None when it is none."""
    return _yaml_place(path, layout) if is_template(path) and not is_defaults(path) else None


def seed_place(path: str, layout: Layout) -> FlowPlace | None:
    """Return where the file of keys or secrets `path` stands, or None when it is none."""
    is_one = is_seeds(path) or is_sealed(path)
    return _yaml_place(path, layout) if is_one and not is_template(path) else None


def dashboard_place(path: str, layout: Layout) -> FlowPlace | None:
    """Return where the dashboard `path` stands, or None when it is none."""
    if _DASHBOARDS not in path or not _is_yaml_of(path, layout):
        return None
    folders = _folders_below(path, layout.root)
    index = _dashboards_at(folders)
    if index is None or _is_beside(folders[:index]) or any(name.startswith(".") for name in folders):
        return None
    return FlowPlace(path, ".".join(_named(folders[:index], layout)) or None)


def is_about_flows(path: str) -> bool:
    """Whether a file is about flows or namespaces, and no flow itself: defaults, keys, secrets, templates."""
    return is_defaults(path) or is_seeds(path) or is_sealed(path) or is_template(path)


def flow_place(path: str, layout: Layout) -> FlowPlace | None:
    """Return where the flow file `path` stands, or None when it is no flow file."""
    return None if is_about_flows(path) else _yaml_place(path, layout)


@lru_cache(maxsize=_REMEMBERED)
def _yaml_place(path: str, layout: Layout) -> FlowPlace | None:
    if not _is_yaml_of(path, layout):
        return None
    folders = _folders_below(path, layout.root)
    if not _APART.isdisjoint(folders) or _is_beside(folders) or _dashboards_at(folders) is not None:
        return None
    return FlowPlace(path, ".".join(_named(folders, layout)) or None)


def _is_yaml_of(path: str, layout: Layout) -> bool:
    """Whether a file is YAML among the flows of a layout, and not among its files."""
    if not path.endswith(_SUFFIXES) or not is_below(path, layout.root) or path == SETTINGS_FILE:
        return False
    return layout.files is None or layout.files == layout.root or not is_below(path, layout.files)


def _named(folders: list[str], layout: Layout) -> list[str]:
    """Return the parts of the namespace that folders give."""
    # A top folder `flows` is a namespace of that name only when the environment's path is above it on purpose.
    return [
        name
        for index, name in enumerate(folders)
        if name not in {"_flows", "_global", TEMPLATES} and not (name == "flows" and (index or not layout.root))
    ]


def _dashboards_at(folders: list[str]) -> int | None:
    """Return which folder holds dashboards; `dashboards` alone can be the last part of a namespace."""
    for index, name in enumerate(folders):
        if name == TEMPLATES:
            return None
        is_named = name == _DASHBOARDS and "_global" in folders[:index]
        if name == "_" + _DASHBOARDS or is_named:
            return index
    return None


def _folders_below(path: str, root: str) -> list[str]:
    inner = path[len(root) + 1 :] if root else path
    return inner.split("/")[:-1]


def _is_beside(folders: list[str]) -> bool:
    # `files` is a folder of files only below a namespace: at the top it could be the name of one.
    return (
        "_files" in folders
        or "files" in folders[1:]
        or "tests" in folders
        or any(name.startswith(".") for name in folders)
    )


def file_index(paths: Iterable[str], layout: Layout, stated: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return the namespace files of a revision: namespace -> path as a flow names it -> path in the repository.

    Args:
        paths: every file below the layout's folders.
        layout: where flows and files stand.
        stated: the `namespace:` that flow files state themselves, by their path.
    """
    paths = sorted(paths)
    flows = {path: place for path in paths if (place := flow_place(path, layout))}
    homes: dict[str, set[str]] = {}
    for path, place in flows.items():
        folder = path.rpartition("/")[0]
        namespace = stated.get(path) or place.namespace
        if namespace:
            homes.setdefault(_home(folder, layout.root), set()).add(namespace)
    index: dict[str, dict[str, str]] = {}
    for path in paths:
        if path in flows or path in _OURS or _is_apart(path, layout):
            continue
        for namespace, name in _file_places(path, layout, homes):
            index.setdefault(namespace, {}).setdefault(name, path)
    return index


def _is_apart(path: str, layout: Layout) -> bool:
    """Whether a file is a dashboard, or something about flows."""
    if dashboard_place(path, layout) is not None:
        return True
    return is_about_flows(path) and _yaml_place(path, layout) is not None


def is_namespace_file(path: str, layout: Layout) -> bool:
    """Whether tasks may read a file: it is no flow, nothing about flows, no test of flows, and no settings."""
    if path in _OURS or _yaml_place(path, layout) is not None or dashboard_place(path, layout) is not None:
        return False
    if layout.files is not None:
        return is_below(path, layout.files)
    folders = _folders_below(path, layout.root)
    return _APART.isdisjoint(folders[: _marked(folders)])


def new_flow_path(namespace: str, flow_id: str, layout: Layout) -> str:
    """Return where a new flow goes, in a folder that is read as one of flows: a namespace may be called `tests`."""
    root = f"{layout.root}/" if layout.root else ""
    path = f"{root}{namespace}/{flow_id}.yaml"
    return path if flow_place(path, layout) else f"{root}{namespace}.{flow_id}.yaml"


def _marked(folders: list[str]) -> int | None:
    """Return which folder holds nothing but files, None where none does."""
    return next((i for i, part in enumerate(folders) if part == "_files" or (part == "files" and i)), None)


def _home(folder: str, root: str) -> str:
    """Return the folder whose files a flow in `folder` sees: that above `_flows` or `flows`."""
    parent, _, name = folder.rpartition("/")
    return parent if folder != root and name in {"_flows", "flows"} else folder


def _file_places(path: str, layout: Layout, homes: Mapping[str, set[str]]) -> Iterator[tuple[str, str]]:
    folders = _folders_below(path, layout.root)
    name = path.rpartition("/")[2]
    if layout.files is not None:
        if is_below(path, layout.files):
            yield from _first_folder(path[len(layout.files) + 1 :] if layout.files else path)
        return
    marked = _marked(folders)
    if not _APART.isdisjoint(folders[:marked]):
        return
    if marked is not None:
        above = "/".join(part for part in (layout.root, *folders[:marked]) if part)
        inner = "/".join([*folders[marked + 1 :], name])
        spaces = homes.get(above) or ({".".join(folders[:marked])} if marked else set())
        yield from ((space, inner) for space in sorted(spaces)) if spaces else _first_folder(inner)
    else:
        yield from _nearest_home(folders, name, layout.root, homes)


def _nearest_home(folders: list[str], name: str, root: str, homes: Mapping[str, set[str]]) -> Iterator[tuple[str, str]]:
    for depth in range(len(folders), -1, -1):
        above = "/".join(part for part in (root, *folders[:depth]) if part)
        if above in homes:
            inner = "/".join([*folders[depth:], name])
            yield from ((space, inner) for space in sorted(homes[above]))
            return
    yield from _first_folder("/".join([*folders, name]))


def _first_folder(path: str) -> Iterator[tuple[str, str]]:
    namespace, _, name = path.partition("/")
    if name:
        yield namespace, name
