from __future__ import annotations

from collections.abc import Callable
from typing import Any

ELSEWHERE = "http://127.0.0.1:9"


def test_the_address_of_another_server_in_the_environment_leads_nobody_there(
    shell: Any, start_up: Callable[..., Any]
) -> None:
    shell.variables["MAINSTEM_URL"] = ELSEWHERE
    server = start_up(shell)
    del shell.variables["MAINSTEM_URL"]

    second = shell.mainstem("up", "--port", "0")
    status = shell.mainstem("flows", "list", "--json")

    assert server.url != ELSEWHERE
    assert f"public   {ELSEWHERE}" in server.banner
    assert f"git remote add mainstem {server.url}/git/flows.git" in server.banner
    assert (second.returncode, status.returncode) == (1, 0)
    assert server.url in second.stderr
    assert ELSEWHERE not in second.stderr
