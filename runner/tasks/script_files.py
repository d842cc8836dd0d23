"""Files between a working directory, internal storage and the namespace, for script tasks and `WorkingDirectory`."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any

from runner.context import open_uri
from runner.errors import TaskError
from runner.expressions import is_truthy, to_json
from runner.plugin import Context
from runner.storage.uris import NAMESPACE_FILE_SCHEME, is_uri, uris_in
from task_runners.errors import TaskRunnerError
from task_runners.files import open_beneath, write_file
from task_runners.outputs import collect_outputs as matching_files
from task_runners.outputs import glob_pattern

INPUT_FOLDER = ".inputs"
"""Where files go whose address stood in a command; never collected as output."""
SCRIPT_FILE = "mainstem_script"
"""A script's file, before its suffix. Not hidden, since Go passes over such files; Groovy names a class after it."""

_CHUNK = 1024 * 1024
_IF_EXISTS = ("OVERWRITE", "FAIL", "WARN", "IGNORE")


def stage_inputs(ctx: Context, input_files: Any, namespace_files: Any) -> list[str]:
    """Put namespace files, then input files, into the working directory; return their relative paths.

    `input_files` is a map of names and contents, or that map as JSON text; names and contents are rendered. A content
    that is a `kestra://` or `nsfile://` address stands for the file there, null for an empty file. `namespace_files`
    is the property of that name: true, or a map with `enabled`, `include`, `exclude`, `namespaces`, `ifExists` and
    `folderPerNamespace`.

    Raises:
        TaskError: `file.path.refused` for a name that would leave the directory, `file.inputs.invalid`.
        ExpressionError: `storage.file.refused`, `storage.file.missing`.
    """
    written = list(_stage_namespace_files(ctx, namespace_files))
    for name, content in _input_map(ctx, input_files).items():
        write(ctx, name, _content(ctx, content))
        written.append(name)
    return written


def collect_outputs(ctx: Context, globs: Any) -> dict[str, str]:
    """Store the files of the working directory that `globs` match; return path to URI, ordered by path.

    `globs` is a list of patterns or that list as JSON text, rendered here.

    Raises:
        TaskError: `file.glob.invalid`, `file.outputs.too_many`, `file.outputs.too_large`.
    """
    try:
        found = matching_files(ctx.work_dir(), rendered_globs(ctx, globs))
    except TaskRunnerError as error:
        raise TaskError(error.code, error.message, hint=error.hint) from None
    return store(ctx, (path for path in found if not is_own(path)))


def is_own(path: str) -> bool:
    """Return whether a path of a working directory is something that we put there for a body to run."""
    first, slash, _ = path.partition("/")
    return first.startswith(".mainstem") or first == INPUT_FOLDER or (not slash and first.startswith(f"{SCRIPT_FILE}."))


def store(ctx: Context, paths: Iterable[str]) -> dict[str, str]:
    """Store files of the working directory by their relative paths; return path to URI."""
    uris = {}
    for path in sorted(paths):
        uris[path] = ctx.uri(path)
        with open_output(ctx, path) as file:
            ctx.storage.put(uris[path], file)
    return uris


def rendered_globs(ctx: Context, globs: Any) -> tuple[str, ...]:
    """Return the patterns of `outputFiles` as texts."""
    value = ctx.render_typed(globs)
    if isinstance(value, str):
        value = json.loads(value) if value.lstrip().startswith("[") else [value]
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise TaskError("file.outputs.invalid", "`outputFiles` must be a list of patterns")
    return tuple(str(glob) for glob in value)


def localise(ctx: Context, text: str) -> str:
    """Return `text` with every `kestra://` address replaced by the path of a copy in the working directory."""
    for uri in uris_in(text):
        path = f"{INPUT_FOLDER}/{zlib.crc32(uri.encode()):08x}/{uri.rpartition('/')[2]}"
        write(ctx, path, _chunks(open_uri(ctx, uri)))
        text = text.replace(uri, str(ctx.work_dir() / path))
    return text


def write(ctx: Context, path: str, content: bytes | Iterable[bytes], mode: int = 0o644) -> None:
    """Write a file below the working directory. Raises `TaskError` `file.path.refused`."""
    try:
        write_file(ctx.work_dir(), path, content, mode=mode)
    except TaskRunnerError as error:
        raise TaskError(error.code, error.message, hint=error.hint) from None


def _input_map(ctx: Context, input_files: Any) -> Mapping[str, Any]:
    value = ctx.render_typed(input_files)
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else None
        except ValueError:
            raise TaskError("file.inputs.invalid", "`inputFiles` is a text and not JSON") from None
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TaskError("file.inputs.invalid", "`inputFiles` must be a map of names and contents")
    return {str(name): content for name, content in value.items()}


def _content(ctx: Context, value: Any) -> bytes | Iterable[bytes]:
    if value is None:
        return b""
    if not isinstance(value, str):
        return to_json(value).encode()
    if is_uri(value) and "\n" not in value.strip():
        return _chunks(open_uri(ctx, value.strip()))
    if value.startswith(NAMESPACE_FILE_SCHEME):
        return ctx.read_uri(value.strip())
    if value.startswith("file://"):
        hint = "use a namespace file (nsfile:///path) or an input of type FILE"
        raise TaskError("file.local.refused", "files of the server's own disk are not readable by flows", hint=hint)
    return value.encode()


def _stage_namespace_files(ctx: Context, spec: Any) -> Iterator[str]:
    options = {"enabled": spec} if isinstance(spec, bool) else ctx.render_typed(spec)
    if options is None:
        return
    if not isinstance(options, Mapping):
        raise TaskError("file.namespace.invalid", "`namespaceFiles` must be true or a map")
    if not is_truthy(ctx.render(options.get("enabled", True))):
        return
    if_exists = str(options.get("ifExists") or "OVERWRITE").upper()
    if if_exists not in _IF_EXISTS:
        raise TaskError("file.namespace.invalid", f"ifExists {if_exists!r} is not one of {', '.join(_IF_EXISTS)}")
    include, exclude = _patterns(options.get("include")), _patterns(options.get("exclude"))
    seen: set[str] = set()
    for namespace in _list(options.get("namespaces")) or [ctx.flow.namespace]:
        folder = f"{namespace}/" if is_truthy(ctx.render(options.get("folderPerNamespace", False))) else ""
        for path in ctx.namespace_files(namespace):
            if (include and not _matches(include, path)) or _matches(exclude, path):
                continue
            target = folder + path
            if target in seen and not _may_replace(ctx, target, if_exists):
                continue
            seen.add(target)
            write(ctx, target, ctx.namespace_file(path, namespace))
            yield target


def _may_replace(ctx: Context, path: str, if_exists: str) -> bool:
    if if_exists == "FAIL":
        raise TaskError("file.namespace.exists", f"{path!r} comes from two namespaces and ifExists is FAIL")
    if if_exists == "WARN":
        ctx.log("WARN", f"{path} comes from two namespaces; the first one is kept")
    return if_exists == "OVERWRITE"


def _patterns(globs: Any) -> list[Any]:
    try:
        return [glob_pattern(glob) for glob in _list(globs)]
    except TaskRunnerError as error:
        raise TaskError(error.code, error.message) from None


def _matches(patterns: list[Any], path: str) -> bool:
    # A pattern without a folder means the name wherever it stands, as in Kestra's path matcher.
    return any(pattern.fullmatch(path) or pattern.fullmatch(path.rpartition("/")[2]) for pattern in patterns)


def _list(value: Any) -> list[str]:
    if isinstance(value, str):
        return json.loads(value) if value.lstrip().startswith("[") else [value]
    return [str(item) for item in value or ()]


def open_output(ctx: Context, path: str) -> IO[bytes]:
    """Open a file of the working directory. Raises `TaskError` `file.outputs.unreadable`."""
    try:
        return open(open_beneath(ctx.work_dir(), path), "rb")  # noqa: PTH123 - a descriptor; the caller closes
    except (TaskRunnerError, OSError) as error:
        raise TaskError("file.outputs.unreadable", f"the output file {path!r} cannot be read: {error}") from None


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while chunk := file.read(_CHUNK):
            yield chunk
