"""Every setting of the node: unit, default, reason, and where its value came from.

One frozen model. A TOML file, `HANSA_SECTION__KEY` variables and `--set section.key=value` flags
are read here and nowhere else, in that order, the later ones winning. Inner packages take small
dataclasses of their own and know nothing of files.
"""

from __future__ import annotations

import difflib
import re
import tomllib
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal, Union, cast, get_args, get_origin

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from crdt import (
    BODY_BYTES_MAX,
    OWNER_COUNT_MAX,
    AccountId,
    BadNetwork,
    RecordKind,
    Scope,
    UserFault,
    parse_network,
)

ENVIRONMENT_PREFIX = "HANSA_"
CONFIG_BYTES_MAX = 1 << 20
MIB = 1 << 20
RECORD_JSON_BYTES_MAX = 6 * BODY_BYTES_MAX
"""A record of the greatest size with every character escaped (six bytes each)."""


class BadSettings(UserFault):
    """A setting is unknown, malformed, or contradicts another."""

    code = "bad-settings"


def _one_or_many(value: object) -> object:
    return (value,) if isinstance(value, str) else value


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class NodeSection(_Section):
    """The node as a whole."""

    data_dir: Path = Field(default_factory=lambda: platformdirs.user_data_path("hansa"))
    """Everything the node keeps, one folder to back up. The user's data folder, which every
    system backs up and no package manager touches."""
    network: str = "main"
    """The network to join, with its admission rule if it has one: `main`, or `main:work=14` where
    founding an account takes 2**14 tries of 8 MiB and 14 ms. Nothing signed for one network is
    valid in another, and another rule is another network; one text, so that nobody is told half."""
    passphrase_file: Path | None = None
    """File whose first line unlocks the node's keys. None: `key_file` does."""
    key_file: Path | None = None
    """File of random bytes that unlocks the node's keys; made at first start. None: `unlock.key`
    in `data_dir`, so that a node starts unattended; keep it on another disk if theft matters."""
    stop_s: float = Field(default=9.0, ge=0.5, le=300)
    """How long running calls may take to end after SIGTERM. systemd and Docker kill after 10."""

    @field_validator("network")
    @classmethod
    def _is_network(cls, text: str) -> str:
        try:
            return parse_network(text).text
        except BadNetwork as error:
            raise ValueError(str(error)) from error


class ApiSection(_Section):
    """The HTTP API for people and programs."""

    host: str = "127.0.0.1"
    """Address to bind. Loopback, because reads are anonymous: another address needs `public`."""
    port: int = Field(default=8420, ge=0, le=65535)
    """TCP port; 0 lets the system choose."""
    public: bool = False
    """Allow `host` to be other than loopback. An explicit yes, since a typo here exposes a node."""
    body_bytes_max: int = Field(default=MIB, ge=4096, le=64 * MIB)
    """Largest JSON body. A record is at most 64 KiB canonical; JSON and escapes take several."""
    json_depth_max: int = Field(default=32, ge=4, le=200)
    """Deepest nesting in a JSON body. A record nests 4; Python's parser stops near 1000."""
    body_s: float = Field(default=30, gt=0, le=3600)
    """A JSON body has this long to arrive whole; a phone on a bad line sends 1 MiB in 10 s."""
    idle_s: float = Field(default=75, gt=0, le=3600)
    """Idle connections are closed after this long; longer than the common proxies' 60."""
    connection_count_max: int = Field(default=512, ge=8, le=65536)
    """Open connections, well under the usual limit of 1024 files. When all are taken, a newcomer
    gets the place of the one that has asked nothing for longest."""
    stream_count_max: int = Field(default=256, ge=1, le=65536)
    """Event streams open at once (offers, progress): each holds a queue."""


class P2pSection(_Section):
    """libp2p: identity, gossip, catch-up."""

    listen: tuple[str, ...] = ("/ip4/0.0.0.0/tcp/4001",)
    """Multiaddresses to listen on. All interfaces: a node nobody reaches helps nobody."""
    bootstrap: tuple[str, ...] = ()
    """Multiaddresses (with `/p2p/PEER`) to dial for ever. None by default: nobody owns a list."""
    peer_count_max: int = Field(default=64, ge=1, le=1000)
    """Connections to keep. Gossip needs about 12; the rest are newcomers catching up."""
    outbound_count: int = Field(default=8, ge=0, le=64)
    """Connections to keep to peers of this node's own choice, bootstrap peers counted. Eight: a
    whole gossip mesh of 6 with two to spare, and an eclipse must hold eight networks. 0: dial
    bootstrap peers only."""
    inbound_group_count_max: int = Field(default=8, ge=1, le=1000)
    """Inbound connections from one address group (IPv4 /16, IPv6 /32, a private address). An
    eighth of `peer_count_max`: one provider's customers get in, and do not fill the node."""
    allow: tuple[str, ...] = ()
    """Peer ids and networks (`203.0.113.0/24`) that alone may be connected, either way. None: all;
    a private network of nodes lists its members."""
    deny: tuple[str, ...] = ()
    """Peer ids and networks that are never connected, either way, whatever `allow` says."""
    mdns: bool = False
    """Find peers of this network on the same LAN by multicast DNS, and be found by them. Off: a
    node that says on every network it visits that it is there, and who it is, should be told to."""
    _split = field_validator("listen", "bootstrap", "allow", "deny", mode="before")(_one_or_many)
    relay: bool = False
    """Pass connections on to peers that nobody can dial. Off: it costs bandwidth and helps others.
    The relay reads nothing of what it passes on (docs/relay.md)."""
    relay_reservation_count_max: int = Field(default=32, ge=1, le=1024)
    """Peers that may be reached through this relay; an eighth of them from one address group."""
    relay_circuit_count_max: int = Field(default=32, ge=1, le=1024)
    """Connections passed on at once, each for at most an hour and 64 MiB; 4 of one peer."""
    relay_kib_s: int = Field(default=1024, ge=16, le=1048576)
    """KiB a second passed on in all, both ways together: a tenth of a small server's line."""
    reserve: bool = False
    """For a node that nobody can dial, behind a NAT: be reached through relays among the peers
    that it dials (`hansa peers` shows it), and try to punch a hole for direct connections."""
    memory_mib: int = Field(default=2048, ge=256, le=65536)
    """Address space of the network child (RLIMIT_AS). Idle takes 300 with its libraries; hostile
    peers can make it grow, and then it restarts."""


class SyncSection(_Section):
    """Which part of the catalogue this node wants of its peers."""

    kinds: tuple[Literal["model", "agent"], ...] = ("model", "agent")
    """Kinds of records to hold. All by default: who holds a part only answers for a part only."""
    owners: tuple[str, ...] = ()
    """Accounts (64 hex digits) whose records to hold, at most 256; what this node publishes itself
    is always held. Empty: those of all. Accounts' own logs and receipts come in any case."""

    @field_validator("kinds", "owners", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return _one_or_many(value)

    @field_validator("kinds")
    @classmethod
    def _has_kinds(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        if not kinds:
            raise ValueError("names no kind; name model, agent or both")
        return kinds

    @field_validator("owners")
    @classmethod
    def _are_accounts(cls, owners: tuple[str, ...]) -> tuple[str, ...]:
        for owner in owners:
            if re.fullmatch("[0-9a-f]{64}", owner) is None:
                raise ValueError(f"{owner!r} is not an account: 64 digits of 0-9 a-f")
        if len(owners) > OWNER_COUNT_MAX:
            raise ValueError(f"{len(owners)} accounts; at most {OWNER_COUNT_MAX}, or none for all")
        return owners


class PeerSection(_Section):
    """The HTTPS port for other nodes: builds and model calls."""

    host: str = "0.0.0.0"
    """Address to bind. All: every request carries a grant signed by its caller."""
    port: int = Field(default=8421, ge=0, le=65535)
    """TCP port; 0 lets the system choose."""
    advertise: tuple[str, ...] = ()
    """Host names or addresses peers reach `port` at. None: the bound address, or, when that is
    all of them, this machine's addresses."""
    connection_count_max: int = Field(default=512, ge=8, le=65536)
    """Open connections, well under the usual limit of 1024 files."""


class StorageSection(_Section):
    """The databases."""

    sync_interval_s: float = Field(default=30, ge=1, le=3600)
    """How often each peer is asked what is new. Gossip is the fast path; this is the sure one."""


class QuotaSection(_Section):
    """What one account may have on this node. Local: nothing becomes invalid by it."""

    operation_count_max: int = Field(default=1_000_000, ge=1, le=2**53)
    """Operations that are stored of an account; its root key may add a quarter. Ten times the
    largest catalogue that was measured; what is over it is not taken from anybody."""
    bytes_max: int = Field(default=4 << 30, ge=4096, le=2**53)
    """Bytes of operations that are stored of an account: the same operations at 4 KiB each."""
    entry_count_max: int = Field(default=4096, ge=16, le=1_000_000)
    """Entries of an account's own log (delegates, revocations); its recovery key may add as many.
    Each is judged beside the others, so a stolen root key must not add them without an end."""
    operations_per_day: int = Field(default=200_000, ge=1, le=2**53)
    """Operations that are taken of an account from callers of the API and from gossip; all may
    come at once. Catch-up is not held to it: it brings the past, as fast as this node can."""
    bytes_per_day: int = Field(default=1 << 30, ge=128 * 1024, le=2**53)
    """The same in bytes: as many operations of 5 KiB."""


class BuildsSection(_Section):
    """The bytes of models."""

    folder: Path | None = None
    """Where builds are kept. None: `builds` in `data_dir`; set it to a disk with room."""
    free_bytes_min: int = Field(default=2 << 30, ge=0)
    """Stop fetching when less would stay free: logs and databases need room to work."""


class EnginesSection(_Section):
    """The processes that serve models."""

    folder: Path | None = None
    """Where engine environments are installed. None: `hansa/engines` in the user's data folder,
    shared by all nodes of this user: one takes 2 GB."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """What models run on; `auto` takes a GPU that fits, else the CPU if the record allows it."""
    install: bool = True
    """Install a missing engine when something is to be served. Otherwise say so and stop."""
    prove_s: float = Field(default=900, ge=10, le=86400)
    """An engine has this long to give its first real completion; loading 100 GB takes minutes."""
    model_count_max: int = Field(default=4, ge=1, le=64)
    """Models served at once; each keeps its weights in memory."""


class ServingSection(_Section):
    """The terms this node offers models on."""

    price_input_micros: int | None = Field(default=None, ge=0, le=10**12)
    """Micro-USD per million input tokens. None: what the record asks."""
    price_output_micros: int | None = Field(default=None, ge=0, le=10**12)
    """Micro-USD per million output tokens. None: what the record asks."""
    region: str = Field(default="", max_length=32)
    """Where the machine is, as consumers filter by it. Empty: not said."""


class GatewaySection(_Section):
    """The OpenAI-compatible endpoint."""

    call_count_max: int = Field(default=512, ge=1, le=65536)
    """Calls under way; more are refused with 503 instead of waiting without an end."""
    first_byte_s: float = Field(default=60, gt=0, le=3600)
    """A provider has this long to begin its answer before another is tried."""
    attempt_count_max: int = Field(default=3, ge=1, le=10)
    """Offers to try for one call: the third is rarely different from the fourth."""
    order_cap_micros: int = Field(default=1_000_000, ge=1, le=10**12)
    """What one order covers at most, in micro-USD: the exposure to one provider for one record.
    One dollar: hours of a small model, minutes of a big one; then the next order is signed."""


class LogSection(_Section):
    """What the node says of itself."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe line to print."""
    format: Literal["auto", "console", "json"] = "auto"
    """`auto` is `console` on a terminal and `json` otherwise."""


class Settings(_Section):
    """All settings. Sections are the tables of the TOML file."""

    node: NodeSection = Field(default_factory=NodeSection)
    api: ApiSection = Field(default_factory=ApiSection)
    p2p: P2pSection = Field(default_factory=P2pSection)
    sync: SyncSection = Field(default_factory=SyncSection)
    peer: PeerSection = Field(default_factory=PeerSection)
    storage: StorageSection = Field(default_factory=StorageSection)
    quota: QuotaSection = Field(default_factory=QuotaSection)
    builds: BuildsSection = Field(default_factory=BuildsSection)
    engines: EnginesSection = Field(default_factory=EnginesSection)
    serving: ServingSection = Field(default_factory=ServingSection)
    gateway: GatewaySection = Field(default_factory=GatewaySection)
    log: LogSection = Field(default_factory=LogSection)

    @model_validator(mode="after")
    def _agree(self) -> Settings:
        """Limits and addresses that must agree, checked together at start."""
        if not self.api.public and not _is_loopback(self.api.host):
            raise ValueError(
                f"api.host is {self.api.host!r}, which other machines reach; "
                "set api.public = true if that is meant"
            )
        if self.node.passphrase_file is not None and self.node.key_file is not None:
            raise ValueError("node.passphrase_file and node.key_file are both set; keep one")
        if self.api.body_bytes_max < RECORD_JSON_BYTES_MAX:
            raise ValueError(
                f"api.body_bytes_max is {self.api.body_bytes_max}, but a record as JSON may take "
                f"{RECORD_JSON_BYTES_MAX}; set it to that or more"
            )
        self._check_ports()
        self._check_membership()
        return self

    def _check_membership(self) -> None:
        """Refuse lists that cannot be read, and bootstrap peers that they keep out."""
        from node.network.access_rules import AccessRules
        from node.network.addresses import host_and_port
        from node.network.errors import BadAddress

        if self.p2p.outbound_count > self.p2p.peer_count_max:
            raise ValueError(
                f"p2p.outbound_count is {self.p2p.outbound_count}, but p2p.peer_count_max is "
                f"{self.p2p.peer_count_max}; set one of them so that the first is not greater"
            )
        try:
            rules = AccessRules.parse(self.p2p.allow, self.p2p.deny)
        except BadAddress as error:
            raise ValueError(f"p2p.allow or p2p.deny: {error}") from error
        for address in self.p2p.bootstrap:
            peer = address.rpartition("/p2p/")[2]
            if not rules.may_stay(peer, host_and_port(address)[0]):
                raise ValueError(
                    f"p2p.bootstrap names {address}, which p2p.allow or p2p.deny keeps out; "
                    "change one of the lists"
                )

    def _check_ports(self) -> None:
        ports = {"api.port": self.api.port, "peer.port": self.peer.port}
        for address in self.p2p.listen:
            text = address.rpartition("/tcp/")[2]
            ports[f"p2p.listen {address}"] = int(text) if text.isdecimal() else 0
        used: dict[int, str] = {}
        for name, port in ports.items():
            other = used.setdefault(port, name) if port else name
            if other != name and not (other.startswith("p2p.") and name.startswith("p2p.")):
                raise ValueError(f"{other} and {name} are both {port}; change one")

    @property
    def builds_folder(self) -> Path:
        """Where builds are kept."""
        return self.builds.folder or self.node.data_dir / "builds"

    @property
    def engines_folder(self) -> Path:
        """Where engine environments are."""
        return self.engines.folder or platformdirs.user_data_path("hansa") / "engines"

    @property
    def key_file(self) -> Path:
        """The file that unlocks the keys when no passphrase does."""
        return self.node.key_file or self.node.data_dir / "unlock.key"

    @property
    def operator_token_file(self) -> Path:
        """The file that holds the operator's bearer token."""
        return self.node.data_dir / "operator.token"


def scope_of(settings: Settings) -> Scope:
    """Return what the node wants of its peers, as the log's core takes it."""
    kinds = frozenset(RecordKind[kind.upper()] for kind in settings.sync.kinds)
    owners = frozenset(AccountId(bytes.fromhex(owner)) for owner in settings.sync.owners)
    return Scope(kinds, owners or None)


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as `hansa config show` prints it.

    Attributes:
        key: `section.name`.
        value: In JSON's types.
        origin: `default`, `flag`, `environment VARIABLE` or `file PATH`.
        about: What it is, with the reason for its default.
    """

    key: str
    value: Any
    origin: str
    about: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings in force, and where each that is not a default came from."""

    settings: Settings
    origins: Mapping[str, str]

    def listing(self) -> list[Setting]:
        """Return every setting in order, for people to read."""
        shown = self.settings.model_dump(mode="json")
        return [
            Setting(key, shown[section][name], self.origins.get(key, "default"), about)
            for key, section, name, about in _known()
        ]


def load_settings(
    config_file: Path | None = None,
    flags: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Loaded:
    """Return the settings from a TOML file, the environment and `section.key=value` flags.

    Raises:
        BadSettings: naming every bad key, its value, where it came from and what to do.
    """
    values: dict[str, tuple[Any, str]] = {}
    if config_file is not None:
        values.update(_from_file(config_file))
    values.update(_from_environment(environment or {}))
    values.update(_from_flags(flags))
    known = {key: (section, name) for key, section, name, _ in _known()}
    tree: dict[str, dict[str, Any]] = {}
    for key, (value, origin) in values.items():
        if key not in known:
            raise BadSettings(f"{origin}: there is no setting {key!r}{_hint(key, known)}")
        section, name = known[key]
        tree.setdefault(section, {})[name] = value
    origins = {key: origin for key, (_, origin) in values.items()}
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        raise BadSettings(_explain(error, origins)) from error
    return Loaded(_absolute(settings), origins)


def _from_file(path: Path) -> dict[str, tuple[Any, str]]:
    try:
        with path.open("rb") as file:
            raw = file.read(CONFIG_BYTES_MAX + 1)
    except OSError as error:
        raise BadSettings(f"settings file {path} cannot be read: {error.strerror}") from error
    if len(raw) > CONFIG_BYTES_MAX:
        raise BadSettings(f"settings file {path} is over {CONFIG_BYTES_MAX} bytes")
    try:
        tables = tomllib.loads(raw.decode())
    except ValueError as error:
        raise BadSettings(f"settings file {path} is not TOML: {error}") from error
    found: dict[str, tuple[Any, str]] = {}
    for section, table in tables.items():
        if not isinstance(table, dict):
            raise BadSettings(
                f"file {path}: {section!r} stands outside a section; write it under [node], "
                f"[api] or another of {', '.join(Settings.model_fields)}"
            )
        for name, value in cast("dict[str, Any]", table).items():
            found[f"{section}.{name}"] = (value, f"file {path}")
    return found


def _from_environment(environment: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    """Take `HANSA_SECTION__KEY`; names without `__` belong to the command line."""
    found: dict[str, tuple[Any, str]] = {}
    for variable in sorted(environment):
        section, divider, name = variable.removeprefix(ENVIRONMENT_PREFIX).partition("__")
        if variable.startswith(ENVIRONMENT_PREFIX) and divider:
            key = f"{section.lower()}.{name.lower()}"
            found[key] = (_typed(key, environment[variable]), f"environment {variable}")
    return found


def _from_flags(flags: Sequence[str]) -> dict[str, tuple[Any, str]]:
    found: dict[str, tuple[Any, str]] = {}
    for flag in flags:
        key, divider, text = flag.partition("=")
        if not divider:
            raise BadSettings(f"flag: {flag!r} is not section.key=value, for example api.port=9000")
        found[key.strip()] = (_typed(key.strip(), text), "flag")
    return found


def _typed(key: str, text: str) -> Any:
    """Return text as its setting wants it: a list is comma-separated, nothing is None."""
    section, _, name = key.partition(".")
    section_field = Settings.model_fields.get(section)
    model = cast("type[BaseModel] | None", section_field.annotation if section_field else None)
    field = model.model_fields.get(name) if model else None
    if field is None:
        return text
    kind: Any = field.annotation
    if get_origin(kind) is tuple:
        return [one.strip() for one in text.split(",") if one.strip()]
    if text == "" and get_origin(kind) in (Union, types.UnionType) and type(None) in get_args(kind):
        return None
    return text


def _known() -> list[tuple[str, str, str, str]]:
    found: list[tuple[str, str, str, str]] = []
    for section, section_field in Settings.model_fields.items():
        model = cast("type[BaseModel]", section_field.annotation)
        for name, field in model.model_fields.items():
            about = " ".join((field.description or "").split())
            found.append((f"{section}.{name}", section, name, about))
    return found


def _hint(key: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else "; `hansa config show` lists them all"


def _explain(error: ValidationError, origins: Mapping[str, str]) -> str:
    lines: list[str] = []
    for one in error.errors():
        key = ".".join(str(part) for part in one["loc"][:2])
        said = one["msg"].removeprefix("Value error, ")
        origin = origins.get(key)
        lines.append(f"{origin}: {key} = {one['input']!r}: {said}" if origin else said)
    return "; ".join(lines)


def _absolute(settings: Settings) -> Settings:
    """Return the settings with every path absolute and `~` resolved."""
    changed: dict[str, Any] = {}
    for section in Settings.model_fields:
        model = cast("BaseModel", getattr(settings, section))
        paths = {
            name: value.expanduser().absolute() for name, value in model if isinstance(value, Path)
        }
        if paths:
            changed[section] = model.model_copy(update=paths)
    return settings.model_copy(update=changed)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
