"""Settings: a file `mainstem.yaml`, overruled by `MAINSTEM_*` variables of the environment.

The only module besides the command line that reads the environment.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from runner.errors import InvalidError
from runner.setting_faults import refused, unreadable
from runner.setting_variables import Variables

DEFAULT_PORT = 8420
_NAMESPACE: Final = re.compile(r"[a-z0-9][a-z0-9._-]*")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)


def _namespace(value: str) -> str:
    if value != "*" and _NAMESPACE.fullmatch(value) is None:  # it would cover nothing, and nobody would know
        raise ValueError(f"{value!r} is neither a namespace, which counts with all below it, nor `*`")
    return value


def _owned(value: str) -> str:
    return value if _NAMESPACE.fullmatch(value.removesuffix(".*")) else _namespace(value)


class ProcessRunnerSettings(_Part):
    """The process runner: it isolates failures, not people (see `docs/security.md`)."""

    shared: bool = False
    """Whether it may serve flows of several repositories, whose authors then see one another's work."""
    uid_base: int = 200_000
    """When the server is root, tasks run as users from this number on: one for each namespace."""
    cgroup: str = Field(default="auto", pattern=r"^(auto|none|/.*)$")
    """Where each task gets a control group (v2): `auto` is what systemd delegated to the server, `none` is nowhere."""


class RunnerPolicySettings(_Part):
    """What flows of some namespaces may ask of task runners; of several that cover one, the closest counts alone."""

    namespaces: tuple[Annotated[str, AfterValidator(_namespace)], ...] = ("*",)
    """Namespaces, each with all below it; `*` is all."""
    runners: tuple[str, ...] | None = None
    """Types of task runners that may be used; without it all."""
    images: tuple[str, ...] | None = None
    """Patterns of images, such as `ghcr.io/company/*` or `docker.io/library/*`; without it all."""
    registries: tuple[str, ...] | None = None
    """Registries that images may come from, such as `ghcr.io` and `docker.io`; without it all."""
    networks: tuple[str, ...] | None = None
    """Patterns of networks of containers; without it `bridge`, `none` and the daemon's default. `host` is also for
    ports of the host (`portBindings`, `hostPort`)."""
    docker_hosts: tuple[str, ...] | None = None
    """Patterns of Docker daemons that flows may name (`host`), such as `tcp://*.docker.internal:2376`; without it only
    that of the workers (`DOCKER_HOST`), which needs no name."""
    service_accounts: tuple[str, ...] | None = None
    """Patterns of what jobs may act as: service accounts of pods, roles of AWS, service accounts of Google, pools of
    Azure. Without it none under the credentials of the workers; flows with credentials of their own may name any."""
    secrets: tuple[str, ...] | None = None
    """Patterns of Secrets that pods may read, by any way that a `podSpec` has. Without it none under the credentials of
    the workers; flows with credentials of their own may name any."""
    claims: tuple[str, ...] | None = None
    """Patterns of volume claims that pods may mount; without it as with `secrets`."""
    csi_drivers: tuple[str, ...] | None = None
    """Patterns of drivers of volumes that a `podSpec` describes itself, such as `secrets-store.csi.k8s.io` (of `csi`)
    and `nfs`; without it as with `secrets`."""
    cluster_namespaces: tuple[str, ...] | None = None
    """Patterns of namespaces of a cluster in which pods may start, which flows then name; without it all that the
    credentials reach."""
    worker_groups: tuple[str, ...] | None = None
    """Patterns of worker groups that tasks may ask for; without it all. Tasks that name none are always taken."""
    volumes: bool = False
    """Whether folders of the host may be mounted, the working directory too (`fileHandlingStrategy: MOUNT`)."""
    privileged: bool = False
    """Whether containers may be privileged, see the processes of the host, or add capabilities, and pods choose a node
    by name, tolerate what keeps others off the control plane, or have a priority of the system."""
    capabilities: tuple[str, ...] = ()
    """Capabilities that every container of a task has, such as `CHOWN`."""


class ReportSettings(_Part):
    """What is committed back, and for how long it stays."""

    enabled: bool = True
    """Whether ended executions are reported."""
    repository: str | None = None
    """The declared repository that reports of all environments go to; without it the one that the flows come from."""
    as_: Literal["branch", "notes"] = Field(default="branch", alias="as")
    """What they are: pages on a `branch`, or a line for each run in git `notes` on its commit, for programs."""
    branch: str = "mainstem-reports"
    """The branch that reports are committed to."""
    interval_s: float = 10.0
    """Seconds between two commits, at the least."""
    retention_days: int = 30
    """Days after which a run leaves the branch, or the notes."""
    max_pages: int = 2_000
    """Pages of single runs that are kept; the oldest leave first."""
    max_rows_per_hour: int = 10_000
    """Runs an hour that get a row of their own; beyond, exact counts for each flow."""
    include: Literal["default", "all"] = "default"
    """Which runs get a page: `default` (failed, warning, changed and recent ones) or `all`."""
    ledger_notes: Literal["none", "hosted", "all"] = "hosted"
    """Which repositories have the ledger as git notes, `refs/notes/mainstem`: the `hosted` one, `all` or `none`."""
    formats: tuple[Literal["junit", "openlineage", "provenance"], ...] = ("junit",)
    """What is written beside the page and the JSON of a run, for other programs: `junit` (XML), `openlineage` (events,
    one a line), `provenance` (an in-toto statement about its files)."""

    @property
    def ref(self) -> str:
        """Return the full name of the branch."""
        return f"refs/heads/{self.branch}"


EndState = Literal["SUCCESS", "WARNING", "FAILED", "KILLED", "CANCELLED"]
Days = Annotated[float, Field(gt=0)]


class TaskFileSettings(_Part):
    """How many files tasks may hand back, and how large those may be that travel to a task and back."""

    count: int = Field(default=10_000, ge=1)
    """Output files of a task."""
    file_mib: int = Field(default=2_048, ge=1)
    """MiB of one output file; a job elsewhere leaves larger ones out."""
    total_mib: int = Field(default=4_096, ge=1)
    """MiB of the input files of a task together, of its output files, and of an archive of a job elsewhere."""


class RetentionSettings(_Part):
    """What leaves by itself once it is old. What an execution needs that has not ended stays, however old it is."""

    executions_days: Days | None = None
    """Days after its end for which an execution stays, with its task runs, logs and files; without it for ever."""
    state_days: dict[EndState, Days] = Field(default_factory=dict)
    """Other numbers of days for executions that ended in a certain state: `{SUCCESS: 30, FAILED: 365}`."""
    logs_days: Days | None = None
    """Days for which lines of the log stay; without it as long as their execution."""
    metrics_days: Days | None = None
    """Days for which metrics of tasks stay; without it as long as their execution."""
    deliveries_days: Days = 14
    """Days for which deliveries of forges stay, 14 at the most, and 10,000 of a repository."""
    audit_days: Days | None = 365
    """Days for which rows of the audit log stay; with null for ever."""
    home_gib: float | None = Field(default=20, gt=0)
    """GiB that databases and stored files of `mainstem up` may take; beyond, its oldest ended executions leave."""
    interval_s: float = Field(default=600, gt=0)
    """Seconds between two looks at what is old."""


class PreviewSettings(_Part):
    """Previews of change requests: what `/mainstem preview` in a comment makes."""

    enabled: bool = True
    """Whether there are any."""
    hours: float = Field(default=72, gt=0)
    """Hours after which a preview is removed, if its change request is open still."""
    max_flows: int = Field(default=500, ge=1)
    """Flows that a preview may hold."""
    max_executions: int = Field(default=100, ge=1)
    """Executions that the previews of a change request may have, subflows among them."""
    max_running: int = Field(default=5, ge=1)
    """Executions of them that may be open at the same time."""
    secrets: bool = False
    """Whether previews read the secrets of the namespaces that they are of. Those of forks never do."""


class ReviewSettings(_Part):
    """Answers to change requests."""

    tests: Literal["trusted", "approved", "never"] = "trusted"
    """Whose tests of flows run: `trusted`, branches of the repository by themselves and forks once a commit is
    approved; `approved`, those of approved commits on `/mainstem test`; `never`, none."""


class GitHubAppSettings(_Part):
    """A GitHub App that reads and writes a repository in place of a user's token."""

    id: str | int
    """The id of the app, or its client id."""
    private_key: str = Field(repr=False)
    """Its private key in PEM, or the path of the file."""
    installation: int | None = None
    """The id of its installation; without it, the one that has the repository."""


class RepositorySettings(_Part):
    """A repository declared in the settings file; credentials may name variables as `${NAME}`.

    One of kind `hosted` must bear the name `hosted`; it has no `url`, and only its webhook secrets count.
    """

    name: str
    """How environments, URLs and commands call it: letters, digits, `-` and `_`."""
    url: str = ""
    """Where it is: `https://`, `http://`, `ssh://`, `user@host:path` or `file://`; nothing for `hosted`."""
    kind: str = "generic"
    """`github`, `gitlab`, `gitea`, `forgejo`, `bitbucket` or `generic`: how webhooks and tokens are read and sent."""
    username: str | None = None
    """User name for HTTP; without it the one that the kind of forge expects beside a token."""
    password: str | None = Field(default=None, repr=False)
    """Password or token for HTTP."""
    ssh_key: str | None = Field(default=None, repr=False)
    """A private key, or the path of its file."""
    webhook_secret: str | None = Field(default=None, repr=False)
    """Secret that signs the deliveries of the forge."""
    previous_webhook_secret: str | None = Field(default=None, repr=False)
    """Secret that is still accepted while a new one is brought in."""
    interval_s: int = 60
    """Seconds between two looks at the remote, whether or not a webhook came."""
    api_url: str | None = None
    """Where the forge's API is, for statuses and comments on change requests; without it, where its kind has it."""
    api_token: str | None = Field(default=None, repr=False)
    """The token for that API, which needs to write statuses and comments; without it the password."""
    github_app: GitHubAppSettings | None = None
    """A GitHub App (`id`, `privateKey`, `installation`) in place of `password` and `apiToken`, at GitHub only."""


class SignatureSettings(_Part):
    """Signatures of commits: whose count, and which commits need one."""

    required: bool = False
    """Whether a commit without a signature that counts is refused; without it that is a warning."""
    scope: Literal["tip", "all"] = "tip"
    """Which commits need one: the `tip`, which is what becomes active, or `all` that are new since the active one."""
    keys: tuple[str, ...] = ()
    """Keys that count: lines as in OpenSSH's `allowed_signers`, or armored OpenPGP public keys."""
    key_files: tuple[Path, ...] = ()
    """Files with such keys, read anew for every plan."""
    in_repository: bool = True
    """Whether keys count that the active commit lists in the file `.mainstem.signers` at its root."""
    revoked: tuple[str, ...] = ()
    """Fingerprints of keys that count no more, whoever lists them: `SHA256:…`, or 40 hex digits of OpenPGP."""
    signing_key: Path | None = None
    """A private SSH key, without a passphrase, that signs the commits which the API makes; list its public key."""


class FailureBound(_Part):
    """How often runs of what was deployed last may fail."""

    rate: float = Field(default=0.5, gt=0, le=1)
    """The share of ended runs from which on the deployment is taken back."""
    runs: int = Field(default=5, ge=1)
    """How many must have ended before the share counts."""
    within_s: float = Field(default=1_800, gt=0)
    """Seconds after the deployment for which its runs are watched."""
    propose: bool = False
    """Whether a change request is opened then that takes the deployment back in git too."""


class EnvironmentSettings(_Part):
    """An environment declared in the settings file."""

    name: str
    """How commands, reports and URLs call it."""
    repository: str
    """The name of a repository; `hosted` is the one that `mainstem up` serves."""
    ref: str = "refs/heads/main"
    """The branch or tag that it follows, or a pattern: of `tags/v*` or `release/*` it is the highest version."""
    path: str = "flows"
    """The folder of the flows."""
    namespaces: tuple[Annotated[str, AfterValidator(_owned)], ...] = ("*",)
    """Namespaces that its flows may have, each with all below it; `*` is all, `company.*` what lies below `company`."""
    writes: Literal["commit", "propose", "refuse"] = "commit"
    """What the API does with a write: `commit` and activate it, `propose` it in a change request, or `refuse`."""
    reject_invalid: bool = False
    """Whether the hosted repository refuses a push that is not valid, instead of keeping it inactive."""
    on_invalid: Literal["block", "quarantine"] = "block"
    """What a file with errors keeps from being activated: `block` all of its commit, `quarantine` itself alone."""
    reports: bool = True
    """Whether its runs are reported."""
    drift: Literal["report", "heal", "allow"] = "report"
    """What becomes of active flows that are not what git says: state `DRIFTED`, brought back, or nothing."""
    moved_tags: Literal["refuse", "follow"] = "refuse"
    """What becomes of a tag of a pattern that names another commit than it did: it stays, or is `follow`ed."""
    rollback_on_failures: FailureBound | None = None
    """When a deployment is taken back by itself (`rate`, `runs`, `withinS`); without it never."""
    signatures: SignatureSettings | None = None
    """Whose signatures of commits count, and whether they must be there; without it none is looked at."""


class Settings(_Part):
    """Everything that can be set; `docs/reference/settings.md` is made from the texts below."""

    home: Path = Path(".mainstem")
    """The folder with everything the server keeps: database, hosted repository, mirrors, storage, token, key."""
    work: Path | None = None
    """The folder for working directories of tasks; without it one in the temporary folder, named by the home."""
    host: str = "127.0.0.1"
    """The address to listen on."""
    port: int = Field(default=DEFAULT_PORT, ge=0, le=65_535)
    """The port to listen on; 0 takes a free one."""
    url: str | None = None
    """The public address, which links in answers and reports begin with; without it host and port."""
    internal_url: str | None = None
    """The address at which jobs that run elsewhere reach the server, to fetch and hand in files; without it `url`."""
    insecure: bool = False
    """Whether `host` may be an address that other machines reach. Put TLS in front."""
    database: str | None = None
    """The URL of the database; without it SQLite in the home. `postgresql://…` needs the extra `postgres`."""
    broker: str | None = None
    """The URL of a Redis or Valkey, 7.0 or newer, for servers of several processes; `mainstem up` has its own."""
    storage: str | None = None
    """Where files of executions are: a path, or a bucket as `s3://`, `gs://` or `az://`; without it in the home."""
    storage_options: dict[str, str] = Field(default_factory=dict)
    """How the bucket is reached: `endpoint`, `region`, keys … (`docs/deployment.md`); else as its cloud's tools do."""
    encryption_key: str | None = Field(default=None, repr=False)
    """32 bytes in base64 that encrypt secret inputs and credentials, the same in all processes; or one is made."""
    age_key_file: Path | None = None
    """A file of `age-keygen` (0600) whose keys open secrets in repositories, `_secrets.yaml`. Needs the extra `age`."""
    admin_token: str | None = Field(default=None, repr=False)
    """The secret of the token `admin` of a deployment; without it `mainstem serve` makes the first one in its home."""
    health_port: int | None = Field(default=None, ge=0, le=65_535)
    """Port on which a process answers probes and gives its figures, without a token; without it none."""
    installation: str | None = Field(default=None, pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")
    """A name that tells jobs of this installation from those of a copy of its database; set it while none run."""
    default_task_runner: str = "process"
    """The task runner of script tasks that name none."""
    workers: int = Field(default=8, ge=1, le=256)
    """How many tasks run at the same time in one process, 1 to 256."""
    worker_groups: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$")], ...] = ()
    """Groups whose tasks `mainstem worker` takes; without any those that name none. `mainstem up` takes all."""
    zone: str = "UTC"
    """The time zone of schedules and dates that name none."""
    max_backlog: int = 20_000
    """How many executions may wait; beyond, new ones are answered 503 with a time to come back."""
    recover_missed_schedules: Literal["ALL", "LAST", "NONE"] = "ALL"
    """Which missed dates of a schedule that does not say it are made up for at the start: `ALL`, `LAST` or `NONE`."""
    grace_period_s: float = 30.0
    """Seconds that a server which stops waits for running tasks before it hands them back."""
    globals: dict[str, Any] = Field(default_factory=dict)
    """Values that expressions find under `globals`."""
    environment_name: str | None = None
    """The name that expressions find as `kestra.environment`, and the API shows."""
    allow_private_addresses: bool = True
    """Whether HTTP and git tasks may reach private and loopback addresses; link-local ones they never may."""
    git_max_mib: int = Field(default=512, ge=1)
    """MiB that one git task may fetch."""
    docker_volumes: bool = False
    """Whether containers of tasks may mount folders of the host."""
    docker_privileged: bool = False
    """Whether containers of tasks may be privileged."""
    runner_policies: tuple[RunnerPolicySettings, ...] = ()
    """What flows may ask of task runners, by namespace. Without any: no volumes, no privileges, no host network."""
    process_runner: ProcessRunnerSettings = ProcessRunnerSettings()
    """The process runner."""
    task_files: TaskFileSettings = TaskFileSettings()
    """How many and how large the files of a task may be."""
    reports: ReportSettings = ReportSettings()
    """The branch of reports."""
    previews: PreviewSettings = PreviewSettings()
    """Previews of change requests."""
    reviews: ReviewSettings = ReviewSettings()
    """Answers to change requests."""
    retention: RetentionSettings = RetentionSettings()
    """What leaves by itself once it is old."""
    repositories: tuple[RepositorySettings, ...] = ()
    """Repositories to follow."""
    environments: tuple[EnvironmentSettings, ...] = ()
    """What is active from which repository. Without any: `default`, which follows `main` of the hosted repository."""

    @property
    def database_url(self) -> str:
        """Return where the store is: the setting, or SQLite in the home."""
        return self.database or f"sqlite:///{self.home.absolute() / 'state.db'}"

    @property
    def is_embedded(self) -> bool:
        """Whether this is one server process on SQLite."""
        return self.database_url.startswith("sqlite")

    @property
    def public_url(self) -> str:
        """Return the address that links are built from, without a slash at its end."""
        return (self.url or self.local_url).rstrip("/")

    @property
    def address_for_jobs(self) -> str | None:
        """Return the address at which jobs elsewhere reach the server, without a slash at its end; None when unset."""
        address = self.internal_url or self.url
        return address.rstrip("/") if address else None

    @property
    def local_url(self) -> str:
        """Return the address under which programs of this machine reach the server, whatever links say."""
        host = "127.0.0.1" if self.host in {"0.0.0.0", "::"} else self.host  # noqa: S104 - a comparison, not a bind
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def work_root(self) -> Path:
        """Return the folder of the attempts' working directories; never inside the home."""
        digest = hashlib.sha256(str(self.home.absolute()).encode()).hexdigest()[:12]
        return self.work or Path(tempfile.gettempdir()) / f"mainstem-{digest}"

    @classmethod
    def load(cls, path: Path | None = None, environ: Mapping[str, str] | None = None, **overrides: Any) -> Self:
        """Return the settings from defaults, then the file, then the environment, then `overrides` that are not None.

        Raises:
            InvalidError: `settings.invalid`, naming the file or variable and what is wrong with it.
        """
        settings, unset = cls.load_with_gaps(path, environ, **overrides)
        if unset:
            raise unset[0]
        return settings

    @classmethod
    def load_with_gaps(
        cls, path: Path | None = None, environ: Mapping[str, str] | None = None, **overrides: Any
    ) -> tuple[Self, list[InvalidError]]:
        """Return what `load` does, without the credentials whose variables are not set, and an error for each of them.

        Raises:
            InvalidError: `settings.invalid` for anything else that is wrong.
        """
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        file = path or Path(environ.get("MAINSTEM_SETTINGS", "mainstem.yaml"))
        if file.exists():
            values.update(_read_file(file))
        values.update(_from_environment(cls, environ))
        values.update({key: value for key, value in overrides.items() if value is not None})
        variables = Variables(environ, file)
        try:
            return cls.model_validate(variables.filled(values)), variables.unset
        except ValidationError as error:
            raise refused(cls, error, file, environ) from None


def _read_file(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise unreadable(file, error) from None
    if not isinstance(content, dict):
        raise InvalidError("settings.invalid", f"{file} must hold a map of settings")
    by_alias: dict[Any, str] = {to_camel(name): name for name in Settings.model_fields}
    return {by_alias.get(key, str(key)): value for key, value in content.items()}


def _from_environment(cls: type[Settings], environ: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name in cls.model_fields:
        text = environ.get(f"MAINSTEM_{name.upper()}")
        if text is None or text == "":
            continue
        values[name] = yaml.safe_load(text) if text[0] in "{[" else text
    return values


def secrets_from_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the secrets given as `SECRET_<KEY>` in base64, by upper-case key. Line breaks in the text are allowed.

    Raises:
        InvalidError: `secret.encoding.invalid` when a value is not base64 of UTF-8 text.
    """
    environ = os.environ if environ is None else environ
    found = {}
    for name, text in environ.items():
        if not name.startswith("SECRET_"):
            continue
        try:
            found[name.removeprefix("SECRET_").upper()] = base64.b64decode(text, validate=False).decode()
        except ValueError:
            raise InvalidError("secret.encoding.invalid", f"{name} is not base64 of UTF-8 text") from None
    return found


def expression_variables(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return what expressions see as `envs`: variables that start with `ENV_` or `KESTRA_`, prefix cut, lower case."""
    environ = os.environ if environ is None else environ
    return {
        name.removeprefix(prefix).lower(): text
        for prefix in ("KESTRA_", "ENV_")
        for name, text in environ.items()
        if name.startswith(prefix)
    }
