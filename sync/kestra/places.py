"""Where the flows of somebody's Kestra are: a folder, its export, a git repository, or the server itself."""

from __future__ import annotations

import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import urlsplit

from runner.errors import InvalidError, NotFoundError
from runner.working_copy import SUFFIXES, flow_files
from sync.kestra.documents import Source, split
from sync.kestra.server import Access, exported, speaks_git
from sync.names import MAX_FILES, MAX_FLOW_BYTES

_MOST_BYTES: Final = 256 << 20  # of all flows together


def documents(place: str, access: Access) -> Iterator[Source]:
    """Yield the YAML documents at a place.

    Args:
        place: a folder (also that of a bare repository), a flow file, a zip as Kestra exports it, the address of a git
            repository, or of a Kestra server.
        access: how to get into what is elsewhere.

    Raises:
        NotFoundError: `kestra.place.missing`, `repository.missing`.
        InvalidError: `kestra.export.invalid`, `repository.url.invalid`.
        MainstemError: what fetching and asking raise.
    """
    path = Path(place)
    if path.is_dir():
        is_bare = (path / "objects").is_dir() and (path / "HEAD").is_file()
        yield from _of_repository(str(path.absolute()), access) if is_bare else _of_folder(path)
    elif path.is_file():
        content = path.read_bytes()
        yield from of_export(content, place) if zipfile.is_zipfile(BytesIO(content)) else split(place, content)
    elif urlsplit(place).scheme in {"http", "https"} and not (place.endswith(".git") or speaks_git(place, access)):
        yield from of_export(exported(place, access), place)
    elif "://" in place or "@" in place:
        yield from _of_repository(place, access)
    else:
        raise NotFoundError("kestra.place.missing", f"there is no file or folder {place}, and it is no URL")


def _of_folder(folder: Path) -> Iterator[Source]:
    for path, namespace in flow_files((folder,)):
        with path.open("rb") as file:
            yield from split(str(path), file.read(MAX_FLOW_BYTES + 1), namespace)


def of_export(content: bytes, name: str) -> Iterator[Source]:
    """Yield the documents of a zip whose entries are flows, `<namespace>.<id>.yml`.

    Raises:
        InvalidError: `kestra.export.invalid` when it is no zip, is damaged, or holds more than can be flows.
    """
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            entries = [each for each in archive.infolist() if each.filename.endswith(SUFFIXES) and not each.is_dir()]
            # The sizes that it states may be lies: what is read is bounded as well.
            if len(entries) > MAX_FILES or sum(min(each.file_size, MAX_FLOW_BYTES) for each in entries) > _MOST_BYTES:
                raise InvalidError("kestra.export.invalid", f"{name} holds more than can be flows")
            for entry in entries:
                with archive.open(entry) as file:
                    yield from split(entry.filename, file.read(MAX_FLOW_BYTES + 1))
    # RuntimeError is an encrypted member, NotImplementedError an unknown compression.
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise InvalidError("kestra.export.invalid", f"{name} is no export that can be read: {error}") from None


def _of_repository(url: str, access: Access) -> Iterator[Source]:
    from sync.mirror import MirrorSource
    from sync.remote import Credentials, parse_address
    from sync.sources import LocalSource

    address = parse_address(url)
    with tempfile.TemporaryDirectory(prefix="mainstem-migrate-") as room:
        source: LocalSource | MirrorSource
        if address.is_local:
            source = LocalSource.at(Path(address.path))
        else:
            credentials = Credentials(username=access.username, password=access.password or access.token)
            source = MirrorSource(url, Path(room) / "mirror.git", credentials=credentials)
        try:
            found = source.heads(access.refs)
            ref = next((each for each in access.refs if each in found), None)
            if ref is None:
                message = f"{url} has no branch or tag {access.ref}"
                raise NotFoundError("repository.ref.missing", message, hint="name one with --ref")
            commit = found[ref]
            source.fetch(ref, commit)
            files = {path: blob for path, blob in source.repository.listing(commit).files.items() if _may_be_flow(path)}
            source.ensure(files.values())
            for path, blob in files.items():
                yield from split(path, source.repository.blob(blob), _namespace(path))
        finally:
            source.close()


def _may_be_flow(path: str) -> bool:
    parts = PurePosixPath(path).parts[:-1]
    beside = {"_files", "files", "tests"}
    return path.endswith(SUFFIXES) and not any(part.startswith(".") or part in beside for part in parts)


def _namespace(path: str) -> str | None:
    parts = [part for part in PurePosixPath(path).parts[:-1] if part not in {"_flows", "flows"}]
    return ".".join(parts) or None
