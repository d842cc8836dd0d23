"""How a forked process becomes a body: its session, group, descriptors, limits and user, then its program.

For `task_runners.keeper`, which is a bare interpreter: it imports only small parts of the standard library.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import signal

from task_runners.kernel_calls import PR_SET_NO_NEW_PRIVS, PR_SET_PDEATHSIG, prctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from task_runners.body_place import Place

_FIRST_FREE = 3  # after stdin, stdout and stderr
_EXEC_FAILED = 127
_LIMITS = {
    "memory_bytes": resource.RLIMIT_AS,
    "open_files": resource.RLIMIT_NOFILE,
    "processes": resource.RLIMIT_NPROC,
    "file_bytes": resource.RLIMIT_FSIZE,
    "cpu_seconds": resource.RLIMIT_CPU,
}

_SIGNALS = sorted(map(int, signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}))


def become_body(
    request: dict[str, Any], stdout: int, stderr: int, errors: int, keeper: int, place: Place | None
) -> NoReturn:
    """Be the body of a request, in the child of its keeper. What goes wrong before `exec` is written to `errors`."""
    step = "session"
    try:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)  # what is ignored stays ignored through exec
        os.setsid()
        limits = dict(request.get("limits") or {})
        if place is not None and place.enter():
            limits = {name: value for name, value in limits.items() if name not in place.held}
        step = "descriptors"
        stdin = os.open("/dev/null", os.O_RDONLY)
        os.dup2(stdin, 0)
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        errors = only(errors)
        step = "limits"
        for name in limits.keys() & _LIMITS.keys():
            _limit(_LIMITS[name], limits[name])
        _limit(resource.RLIMIT_CORE, 0)
        step = "user"
        uid = request.get("uid")
        if uid is not None:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            prctl(PR_SET_NO_NEW_PRIVS, 1)  # no way back to root through a setuid program
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != keeper:
            os._exit(_EXEC_FAILED)
        step = "cwd"
        os.chdir(request["cwd"])
        os.umask(0o022)
        step = "exec"
        _exec(request["argv"], request["env"])
    except OSError as error:
        os.write(errors, json.dumps({"failed": step, "errno": error.errno}).encode())
    except BaseException as error:  # noqa: BLE001 - nothing may unwind into the keeper's code in the child
        os.write(errors, json.dumps({"failed": step, "errno": None, "reason": repr(error)}).encode())
    os._exit(_EXEC_FAILED)


def _exec(argv: list[str], env: dict[str, str]) -> NoReturn:
    # Not `os.execvpe`: it imports a module on its way, which this user may not be able to read.
    directories = [""] if "/" in argv[0] else env.get("PATH", os.defpath).split(":")
    denied: OSError | None = None
    for directory in directories:
        program = f"{directory}/{argv[0]}" if directory else argv[0]
        try:
            os.execve(program, argv, env)  # noqa: S606 - the point of this program
        except (FileNotFoundError, NotADirectoryError) as error:
            if os.access(program, os.F_OK):
                raise OSError(errno.ELIBBAD, "interpreter") from error  # the file is there, what runs it is not
        except PermissionError as error:
            denied = error
    raise denied or FileNotFoundError(errno.ENOENT, argv[0])


def _limit(which: int, value: int) -> None:
    _, hard = resource.getrlimit(which)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(which, (value, value))


def only(descriptor: int) -> int:
    """Close everything above stderr but `descriptor`, which is moved down to 3 and closes on exec."""
    if descriptor != _FIRST_FREE:
        os.dup2(descriptor, _FIRST_FREE, inheritable=False)
    os.closerange(_FIRST_FREE + 1, os.sysconf("SC_OPEN_MAX"))
    return _FIRST_FREE
