from __future__ import annotations

from pathlib import Path

import pytest

from runner.errors import InvalidError
from runner.settings import Settings
from runner.store.records import Repository

FILE = """\
repositories:
  - name: team
    url: https://git.example.org/acme/flows.git
    password: ${TEAM_TOKEN}
    webhookSecret: "${TEAM_HOOK}"
    previousWebhookSecret: ${OLD_HOOK}
    username: literal-${TEAM_TOKEN}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mainstem.yaml"
    path.write_text(FILE)
    return path


def test_credentials_of_repositories_may_stand_in_variables(file: Path) -> None:
    settings = Settings.load(file, {"TEAM_TOKEN": "t0ken", "TEAM_HOOK": "s3cret", "OLD_HOOK": ""})

    [repository] = settings.repositories
    assert (repository.password, repository.webhook_secret) == ("t0ken", "s3cret")
    assert repository.previous_webhook_secret is None
    assert repository.username == "literal-${TEAM_TOKEN}"


def test_a_variable_that_is_not_set_is_named(file: Path) -> None:
    with pytest.raises(InvalidError) as raised:
        Settings.load(file, {"TEAM_TOKEN": "t0ken", "OLD_HOOK": ""})

    assert str(raised.value) == f"{file}: repositories[0].webhookSecret names ${{TEAM_HOOK}}, which is not set"


GAPS = (
    "[{name: a, url: /srv/a.git, username: ann, password: '${A}'},"
    " {name: b, url: /srv/b.git, kind: github, githubApp: {id: 1, privateKey: '${B}'}}]"
)


def test_settings_with_gaps_lack_only_what_the_unset_variables_would_give(tmp_path: Path) -> None:
    file = tmp_path / "mainstem.yaml"
    file.write_text("port: 7\nstorageOptions: {region: eu, access_key_id: '${C}'}")
    environ = {"MAINSTEM_REPOSITORIES": GAPS}

    settings, unset = Settings.load_with_gaps(file, environ)

    assert settings.port == 7
    assert [(each.username, each.password, each.github_app) for each in settings.repositories] == [
        ("ann", None, None),
        (None, None, None),
    ]
    assert settings.storage_options == {"region": "eu"}
    assert [str(each) for each in unset] == [
        "MAINSTEM_REPOSITORIES: repositories[0].password names ${A}, which is not set",
        "MAINSTEM_REPOSITORIES: repositories[1].githubApp.privateKey names ${B}, which is not set",
        f"{file}: storageOptions.access_key_id names ${{C}}, which is not set",
    ]


def test_repositories_given_by_the_environment_are_filled_too(tmp_path: Path) -> None:
    environ = {"MAINSTEM_REPOSITORIES": "[{name: a, url: /srv/a.git, webhook_secret: '${A}'}]", "A": "s3cret"}

    [repository] = Settings.load(tmp_path / "none", environ).repositories

    assert repository.webhook_secret == "s3cret"


def test_options_of_the_storage_may_name_variables(tmp_path: Path) -> None:
    environ = {"MAINSTEM_STORAGE_OPTIONS": "{region: eu-west-1, secretKeyId: '${KEY}'}", "KEY": "s3cret"}

    options = Settings.load(tmp_path / "none", environ).storage_options

    assert options == {"region": "eu-west-1", "secretKeyId": "s3cret"}


@pytest.mark.parametrize(
    ("host", "url", "local", "public"),
    [
        ("127.0.0.1", None, "http://127.0.0.1:8420", "http://127.0.0.1:8420"),
        ("0.0.0.0", None, "http://127.0.0.1:8420", "http://127.0.0.1:8420"),
        ("::1", None, "http://[::1]:8420", "http://[::1]:8420"),
        ("127.0.0.1", "https://flows.example.org/", "http://127.0.0.1:8420", "https://flows.example.org"),
    ],
)
def test_what_links_name_is_not_how_this_machine_reaches_the_server(
    host: str, url: str | None, local: str, public: str
) -> None:
    settings = Settings(host=host, url=url)

    assert (settings.local_url, settings.public_url) == (local, public)


def test_what_lets_one_in_is_in_no_text_of_the_settings() -> None:
    app = {"id": 7, "privateKey": "hidden-pem"}
    names = ("password", "sshKey", "webhookSecret", "previousWebhookSecret", "apiToken")
    repository = {"name": "r", "url": "https://github.com/a/b", "githubApp": app, **{n: f"hidden-{n}" for n in names}}

    settings = Settings.model_validate(
        {"repositories": [repository], "encryptionKey": "hidden-key", "adminToken": "hidden-admin"}
    )

    assert settings.repositories[0].api_token == "hidden-apiToken"
    stored = Repository(**settings.repositories[0].model_dump(exclude={"github_app"}))
    assert "hidden" not in f"{settings!r} {settings} {stored!r}"


@pytest.mark.parametrize(
    ("text", "environ", "message", "hint"),
    [
        ("prot: 1", {}, "FILE: there is no setting prot", "did you mean 'port'?"),
        (
            "environments: [{name: a, repository: b, rejectInvalids: true}]",
            {},
            "environments[0].rejectInvalids",
            "'rejectInvalid'?",
        ),
        ("reviews: {test: never}", {}, "there is no setting reviews.test", "did you mean 'tests'?"),
        ("port: 99999999", {}, "FILE: port: input should be less than or equal to 65535", "every setting"),
        (
            "",
            {"MAINSTEM_PORT": "many"},
            "MAINSTEM_PORT: port: input should be a valid integer",
            "docs/reference/settings.md",
        ),
        (
            "environments: [{name: a, repository: b, namespaces: [b, 'staging.**']}]",
            {},
            "environments[0].namespaces[1]: 'staging.**' is neither a namespace",
            "every setting",
        ),
        ("runnerPolicies: [{namespaces: ['company.*']}]", {}, "namespaces[0]: 'company.*' is neither", "every setting"),
        ("runnerPolicies: [{namespaces: [Company]}]", {}, "namespaces[0]: 'Company' is neither", "every setting"),
        ("port: 1\nhost: [", {}, "FILE:2:8 is no YAML: expected the node content", "at or above this place"),
    ],
)
def test_a_wrong_setting_is_told_with_its_place_and_the_nearest_name(
    tmp_path: Path, text: str, environ: dict[str, str], message: str, hint: str
) -> None:
    file = tmp_path / "mainstem.yaml"
    file.write_text(text)

    with pytest.raises(InvalidError) as caught:
        Settings.load(file, environ)

    assert message.replace("FILE", str(file)) in str(caught.value)
    assert hint in (caught.value.hint or "")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["*", "company", "company.team-a.x_1", "company.*"])
def test_an_environment_may_own_all_a_namespace_or_what_lies_below_one(name: str) -> None:
    settings = Settings.model_validate({"environments": [{"name": "a", "repository": "b", "namespaces": [name]}]})

    assert settings.environments[0].namespaces == (name,)
