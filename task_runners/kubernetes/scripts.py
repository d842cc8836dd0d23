"""What the containers that move files do: shell programs for `busybox`, and for any image with the same tools.

They talk to the worker through files of a directory of their own: `ready` says that the input files are in place,
`wish` that the worker has to bring them, `ended` that the task has ended, `out` how its files left (`sent`, or `kept`
for the worker to fetch), `over` that nobody needs the pod any more.
"""

from __future__ import annotations

import shlex

from task_runners.staging.port import SignedUpload, Staged

__all__ = ["ASK_OUT", "ASK_WISH", "END", "STATE", "fetching", "receive", "send", "sending"]

STATE = "/mainstem"
ASK_WISH = ("sh", "-c", f"cat {STATE}/wish 2>/dev/null; true")
ASK_OUT = ("sh", "-c", f": > {STATE}/ended; cat {STATE}/out 2>/dev/null; true")
END = ("sh", "-c", f": > {STATE}/over")

_TRIES, _SECONDS = 3, 10
_BOUNDARY = "mainstem-part-7f3a9c"
_GET = """\
get() {
  if command -v wget >/dev/null; then wget -q -T %d -O "$2" "$1"
  else curl -fsS --connect-timeout %d -o "$2" "$1"; fi
}
"""


def fetching(staged: Staged, root: str) -> str:
    """Return the program of the first container: it fetches the input files, or waits until the worker brings them."""
    own = ""
    if staged.download is not None:
        own = (
            _GET % (_SECONDS, _SECONDS)
            + f"url={shlex.quote(staged.download)}\n"
            + f"for try in {' '.join(str(number + 1) for number in range(_TRIES))}; do\n"
            + f'  if get "$url" {STATE}/in.tar && {_unpacking(staged, root)}; then : > {STATE}/ready; exit 0; fi\n'
            + "  sleep 1\ndone\n"
            + 'echo "the files of the task cannot be fetched over HTTP, so the worker brings them" >&2\n'
        )
    return f"{own}echo wanted > {STATE}/wish\nuntil [ -e {STATE}/ready ]; do sleep 0.2 2>/dev/null || sleep 1; done\n"


def _unpacking(staged: Staged, root: str) -> str:
    check = f"echo {shlex.quote(f'{staged.sha256}  {STATE}/in.tar')} | sha256sum -c >/dev/null"
    return f"{check} && umask 0 && tar -x -p -o -f {STATE}/in.tar -C {shlex.quote(root)} && rm {STATE}/in.tar"


def receive(staged: Staged, root: str) -> tuple[str, ...]:
    """Return the command that takes the archive from its standard input, which may never end, and unpacks it."""
    script = f"head -c {staged.size} > {STATE}/in.tar && {_unpacking(staged, root)} && : > {STATE}/ready"
    return ("sh", "-c", script)


def sending(upload: SignedUpload | None, root: str) -> str:
    """Return the program of the last container: it waits for the end of the task and sends its files away."""
    wait = "until [ -e {0}/{1} ]; do sleep 0.2 2>/dev/null || sleep 1; done\n"
    own = f"echo kept > {STATE}/out\n"
    if upload is not None:
        own = (
            f"if tar -c -f {STATE}/out.tar -C {shlex.quote(root)} . && {_uploading(upload)}\n"
            f"then echo sent > {STATE}/out; else echo kept > {STATE}/out; fi\nrm -f {STATE}/out.tar {STATE}/form\n"
        )
    return "trap 'exit 0' TERM\n" + wait.format(STATE, "ended") + own + wait.format(STATE, "over")


def _uploading(upload: SignedUpload) -> str:
    headers = " ".join(f"-H {shlex.quote(f'{key}: {value}')}" for key, value in upload.headers.items())
    curl = f"curl -fsS -o /dev/null -T {STATE}/out.tar {headers} {shlex.quote(upload.url)}"
    if upload.form_url is None:
        return f"command -v curl >/dev/null && {curl}"
    return f"if command -v curl >/dev/null; then {curl}; else\n{_form(upload)}\nfi"


def _form(upload: SignedUpload) -> str:
    # The `wget` of busybox knows no PUT, but posts a file: the form is put together by hand.
    field = '--{0}\\r\\nContent-Disposition: form-data; name="{1}"\\r\\n\\r\\n{2}\\r\\n'
    fields = "".join(field.format(_BOUNDARY, key, value) for key, value in upload.form.items())
    head = (
        f"{fields}--{_BOUNDARY}\\r\\n"
        'Content-Disposition: form-data; name="file"; filename="out.tar"\\r\\n'
        "Content-Type: application/x-tar\\r\\n\\r\\n"
    )
    parts = f"printf '%b' {shlex.quote(head)}; cat {STATE}/out.tar; printf '\\r\\n--{_BOUNDARY}--\\r\\n'"
    return (
        f"{{ {parts}; }} > {STATE}/form\n"
        f"wget -q -T 60 -O /dev/null --header 'Content-Type: multipart/form-data; boundary={_BOUNDARY}'"
        f" --post-file {STATE}/form {shlex.quote(str(upload.form_url))}"
    )


def send(root: str) -> tuple[str, ...]:
    """Return the command that writes all files to its standard output as an archive, then its digest to the other."""
    # The digest needs the whole archive, and a broken stream must not look like the end of a short one.
    archive = f"{STATE}/out.tar"
    script = f"tar -c -f {archive} -C {shlex.quote(root)} . && sha256sum {archive} >&2 && cat {archive} && rm {archive}"
    return ("sh", "-c", script)
