"""What the containers that move files do: shell programs for `busybox`, and for any image with the same tools.

They talk to the worker through files of a directory of their own: `ready` says that the input files are in place,
`wish` that the worker has to bring them, `ended` that the task has ended, `out` how its files left (`sent`, or `kept`
for the worker to fetch), `over` that nobody needs the pod any more.
"""

from __future__ import annotations

import shlex

from task_runners.archives import LEFT_OUT
from task_runners.outputs import PRIVATE
from task_runners.staging.port import SignedUpload, Staged
from task_runners.staging.wrapper import tools

__all__ = [
    "ASK_OUT",
    "ASK_WISH",
    "END",
    "LEFT",
    "STATE",
    "TOO_LARGE",
    "WISH",
    "fetching",
    "receive",
    "send",
    "sending",
]

STATE = "/mainstem"
WISH, LEFT = "wanted", frozenset({"sent", "kept"})
"""What the containers answer to `ASK_WISH` and `ASK_OUT`, if anything."""
TOO_LARGE = 128 + 25
"""The exit code of a shell whose `tar` was ended by SIGXFSZ: the archive would have become larger than it may be."""
ASK_WISH = ("sh", "-c", f"cat {STATE}/wish 2>/dev/null; true")
ASK_OUT = ("sh", "-c", f": > {STATE}/ended; cat {STATE}/out 2>/dev/null; true")
END = ("sh", "-c", f": > {STATE}/over")

_PREPARED = "set -fu\n" + tools()
_WISH = f"echo {WISH} > {STATE}/wish"
_NOTHING_CAME_S = 15  # a network policy drops what it does not allow, and nobody is told
_NOTHING_LEFT_S = 600


def fetching(staged: Staged, root: str) -> str:
    """Return the program of the first container: it fetches the input files, or waits until the worker brings them."""
    own = _WISH
    if staged.download is not None:
        fetch = f"again get {shlex.quote(staged.download)} {STATE}/in.tar && {_unpacking(staged, root, 'in.tar')}"
        late = f"[ -e {STATE}/ready ] || [ -s {STATE}/in.tar ]"
        own = f"{_PREPARED}({fetch} || {_WISH}) &\n(sleep {_NOTHING_CAME_S}; {late} || {_WISH}) &\n"
    return f"{own}{_until('ready')}"


def _until(name: str) -> str:
    return f"\nuntil [ -e {STATE}/{name} ]; do sleep 0.2 2>/dev/null || sleep 1; done\n"


def _unpacking(staged: Staged, root: str, name: str) -> str:
    check = f"echo {shlex.quote(f'{staged.sha256}  {STATE}/{name}')} | sha256sum -c >/dev/null"
    unpack = f"umask 0 && tar -x -p -o -f {STATE}/{name} -C {shlex.quote(root)}"
    return f"{check} && {unpack} && rm {STATE}/{name} && : > {STATE}/ready"


def receive(staged: Staged, root: str) -> tuple[str, ...]:
    """Return the command that takes the archive from its standard input, which may never end, and unpacks it."""
    script = f"head -c {staged.size} > {STATE}/brought.tar && {_unpacking(staged, root, 'brought.tar')}"
    return ("sh", "-c", script)


def sending(upload: SignedUpload | None, root: str, file_bytes: int, archive_bytes: int) -> str:
    """Return the program of the last container: it waits for the end of the task and sends its files away."""
    kept, own = f"echo kept > {STATE}/out", f"echo kept > {STATE}/out"
    if upload is not None:
        send = f"{_packing(root, f'{STATE}/out.tar', file_bytes, archive_bytes)} && again {_uploading(upload)}"
        own = (
            f"{_PREPARED}(if {send}; then echo sent > {STATE}/out; else {kept}; fi; rm -f {STATE}/out.tar) &\n"
            f"(sleep {_NOTHING_LEFT_S}; [ -e {STATE}/out ] || {kept}) &\n"
        )
    return f"trap 'exit 0' TERM{_until('ended')}{own}{_until('over')}"


def _uploading(upload: SignedUpload) -> str:
    headers = "\n".join(f"{key}: {value}" for key, value in upload.headers.items())
    return f"put {STATE}/out.tar {shlex.quote(upload.url)} {shlex.quote(headers)}"


def _packing(root: str, archive: str, file_bytes: int, archive_bytes: int) -> str:
    """Return the commands that pack all files, after removing those of more than `file_bytes`, which they list.

    A sparse file of terabytes costs its body nothing, and neither do a thousand smaller ones: they would fill the disk
    of the node as an archive, which therefore gets no more than `archive_bytes`. Not every `tar` can leave files out.
    """
    too_large = f"find . -type f -size +{file_bytes // 512}"
    # The body may have made a file or a link of this name.
    room = f"if [ -h {PRIVATE} ] || [ ! -d {PRIVATE} ]; then rm -f {PRIVATE}; mkdir {PRIVATE}; fi; rm -rf {LEFT_OUT}"
    listed = f"{too_large} > {LEFT_OUT}; {too_large} -exec rm -f {{}} \\;"
    removed = f"(cd {shlex.quote(root)} && {{ {room}; {listed}; }}) 2>/dev/null"
    bounded = f"(ulimit -f {archive_bytes // 512}; exec tar -c -f {archive} -C {shlex.quote(root)} .)"
    return f"{{ {removed}; {bounded}; }}"


def send(root: str, file_bytes: int, archive_bytes: int) -> tuple[str, ...]:
    """Return the command that writes all files to its standard output as an archive, then its digest to the other."""
    # The digest needs the whole archive, and a broken stream must not look like the end of a short one.
    archive = f"{STATE}/kept.tar"
    packing = _packing(root, archive, file_bytes, archive_bytes)
    given = f"sha256sum {archive} >&2 && cat {archive}"
    return ("sh", "-c", f"{packing} && {given}; code=$?; rm -f {archive}; exit $code")
