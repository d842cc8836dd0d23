from __future__ import annotations

import json
from pathlib import Path

import pytest

from runner.cli.client import Context, UnreachableError, context_file, known_contexts, resolve, write_context
from runner.cli.table import safe
from runner.errors import InvalidError, NotFoundError


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"XDG_CONFIG_HOME": str(tmp_path / "config"), "MAINSTEM_HOME": str(tmp_path / "home")}


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("from-file\n")
    return path


def test_options_win_over_the_environment_and_it_over_contexts(environ: dict[str, str], token_file: Path) -> None:
    write_context(environ, "prod", "https://prod.example/", token_file, make_current=True)

    from_file = resolve(environ)
    from_environment = resolve(environ | {"MAINSTEM_URL": "http://env", "MAINSTEM_TOKEN": "env"})
    from_options = resolve(environ | {"MAINSTEM_URL": "http://env"}, url="http://option", token="option")

    assert (from_file.url, from_file.token) == ("https://prod.example", "from-file")
    assert (from_environment.url, from_environment.token) == ("http://env", "env")
    assert (from_options.url, from_options.token) == ("http://option", "option")


def test_a_token_is_sent_only_to_the_address_it_belongs_to(environ: dict[str, str], token_file: Path) -> None:
    write_context(environ, "prod", "https://prod.example", token_file, make_current=True)

    assert resolve(environ, url="https://prod.example/").token == "from-file"
    assert resolve(environ, url="https://prod.example.evil").token is None


def test_the_server_of_the_home_is_found_without_any_setting(environ: dict[str, str], tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "token").write_text("secret")
    (home / "lock").write_text('{"pid": 1, "url": "http://127.0.0.1:9000"}')

    assert resolve(environ) == Context("http://127.0.0.1:9000", "secret", f"home {home}")


def test_the_home_of_this_folder_goes_before_the_server_that_started_last(
    environ: dict[str, str], token_file: Path, tmp_path: Path
) -> None:
    write_context(environ, "local", "http://127.0.0.1:8421", token_file, make_current=False)
    elsewhere = resolve(environ)
    home = tmp_path / "home"
    home.mkdir()
    (home / "token").write_text("here")
    (home / "lock").write_text('{"pid": 1, "url": "http://127.0.0.1:9000"}')

    here, named = resolve(environ), resolve(environ, context="local")
    write_context(environ, "prod", "https://prod.example", token_file, make_current=True)

    assert [each.url[-4:] for each in (elsewhere, here, named)] == ["8421", "9000", "8421"]
    assert resolve(environ).url == "https://prod.example"
    assert [each.url[-4:] for each in known_contexts(environ)].count("9000") == 1


@pytest.mark.parametrize(
    ("url", "count"),
    [
        ("http://127.0.0.1:9000", 1),
        ("http://localhost:9000", 1),
        ("http://203.0.113.7:9000", 0),
        ("https://mainstem.example", 0),
        ("http://127.0.0.1:9000@mainstem.example", 0),
        (["http://127.0.0.1:9000"], 1),
    ],
)
def test_a_home_that_came_with_a_folder_names_no_server_elsewhere(
    environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: object, count: int
) -> None:
    home = tmp_path / ".mainstem"
    home.mkdir()
    (home / "token").write_text("theirs")
    (home / "lock").write_text(json.dumps({"pid": 1, "url": url}))
    monkeypatch.chdir(tmp_path)

    found = list(known_contexts({"XDG_CONFIG_HOME": environ["XDG_CONFIG_HOME"]}))
    named = list(known_contexts(environ | {"MAINSTEM_HOME": str(home)}))

    assert (len(found), len(named)) == (count, 1)


def test_a_context_is_readable_by_its_owner_only(environ: dict[str, str], token_file: Path) -> None:
    path = write_context(environ, "local", "http://127.0.0.1:8420", token_file, make_current=True)
    write_context(environ, "second", "http://127.0.0.1:8421", token_file, make_current=False)

    assert path == context_file(environ)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [item.name for item in known_contexts(environ)] == ["local", "second"]
    assert resolve(environ, context="second").url == "http://127.0.0.1:8421"
    assert "from-file" not in path.read_text()


def test_what_is_not_there_is_named(environ: dict[str, str]) -> None:
    with pytest.raises(UnreachableError) as nothing:
        resolve(environ)
    with pytest.raises(NotFoundError):
        resolve(environ, context="unknown")

    assert nothing.value.exit_code == 6


@pytest.mark.parametrize("text", ["[", "contexts: 3", "contexts: {a: 3}", "- a"])
def test_a_broken_context_file_is_named(environ: dict[str, str], text: str) -> None:
    path = context_file(environ)
    path.parent.mkdir(parents=True)
    path.write_text(text)

    with pytest.raises(InvalidError, match=r"contexts\.yaml"):
        resolve(environ)


def test_text_of_others_cannot_steer_the_terminal() -> None:
    assert safe("a\x1b[2Jb\r\x07\u202e\tc\n") == "a\ufffd[2Jb\ufffd\ufffd\ufffd\tc\n"
