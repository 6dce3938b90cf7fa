"""The JSON of the node's own state: who it is, whom it knows, what is offered and served."""

from __future__ import annotations

from pydantic import Field

from crdt import SyncStatus
from inference import Offered
from inference.adverts import Task
from node.access import ApiKey
from node.api.views import View
from node.membership import Standing
from node.network import ConnectedPeer
from node.network.addressbook import Known
from node.serving import ServedModel


class PeerSyncView(View):
    """How far the node has read one peer's log."""

    peer: str
    phase: str
    n: int
    """Our cursor in the peer's store."""
    last_n: int
    """The peer's newest arrival, as it says."""
    synced: bool
    partial: bool
    """It has said that it holds some kinds or owners only: others have the rest."""


class SyncView(View):
    """How far the node has read its peers."""

    items: list[PeerSyncView]
    partial: bool
    """This node holds `kinds` and `owners` only: what it does not show may exist elsewhere."""
    kinds: list[str]
    """Kinds of records that are held (`sync.kinds`)."""
    owners: list[str]
    """Accounts whose records are held (`sync.owners`); empty: of all."""
    pending: int
    """Items that wait for others they cite."""
    n: int
    """Arrivals in this node's own store."""
    over_quota: dict[str, int]
    """Items not taken since the start, by the kind of their account's quota: `stored`, `day`."""


class NodeView(View):
    """A node: who it is, where it is, how much it holds."""

    peer_id: str
    public_key: str
    """The Ed25519 key that requests to this node are signed for, in hex."""
    operator_account: str | None
    """Nothing while the account's admission is worked for: nothing is offered or paid for then."""
    admission_s: int | None = None
    """How much longer that takes in the mean, while it is under way and once it was measured."""
    network: str
    """As `node.network` has it: the name, and the admission rule if there is one."""
    network_id: str
    version: str
    started_at: int
    addresses: list[str]
    """libp2p multiaddresses; give one to another node as `p2p.bootstrap`."""
    peer_endpoints: list[str]
    """`host:port` of the HTTPS port for peers."""
    api_url: str
    docs_url: str
    peers: int
    counts: dict[str, int]
    partial: bool = False
    """It holds some kinds or owners only: `GET /v1/sync` says which."""


class PeerView(View):
    """A peer the node is connected to."""

    peer: str
    address: str
    direction: str
    since_s: int
    rtt_ms: float
    synced: bool
    group: str
    """Its address group: of connections of this node's own choice, each holds only a share."""
    found: str
    """How it was found: `bootstrap`, `exchange`, `inbound`, `lan` or `operator`."""
    anchor: bool
    """It stayed long, and is dialled first after a restart."""
    software: str
    """As it calls itself; empty until it has said so. Hearsay, like the next."""
    protocols: list[str]
    """Those of this network that it says it speaks, with their versions: `sync/0`."""


class PrunedView(View):
    """What pruning did."""

    records: int
    """Records that a checkpoint stands for."""
    operations: int
    """Operations that were dropped just now."""


class PeersView(View):
    """The peers the node is connected to."""

    items: list[PeerView]


class KnownPeerView(View):
    """An address in the book."""

    peer: str
    address: str
    group: str
    found: str
    informants: list[str]
    """Who told of it: their groups, or on loopback their ids. None: nobody had to."""
    anchor: bool
    connected: bool
    heard_s: int
    met_s: int
    """When its peer was last connected, either way; 0 for never."""
    tried_s: int
    """When this node last reached it; 0 for never."""
    failures: int
    next_s: int
    """Not dialled before this time; 0 for at once."""


class KnownPeersView(View):
    """The address book: anchors first, then those that were reached, then those heard of."""

    items: list[KnownPeerView]
    outbound: int
    """Connections of this node's own choice that stand, bootstrap peers counted."""
    outbound_max: int
    """How many it keeps: `p2p.outbound_count`."""


class DialRequest(View):
    """A peer to connect to."""

    address: str = Field(max_length=512)
    """A multiaddress with `/p2p/PEER`."""


class OfferView(View):
    """One model that a live node serves now."""

    record: str
    version_id: str
    manifest: str
    peer: str
    operator: str
    served_name: str
    engine: str
    device: str
    quantization: str
    context: int
    price_input: int
    """Micro-USD per million tokens."""
    price_output: int
    price_cached: int
    region: str
    running: int
    waiting: int
    slots: int
    tokens_per_s: float
    ttft_ms: int
    tasks: list[str]
    own: bool
    expires_at: int


class OffersView(View):
    """What live nodes serve now, as far as this node heard."""

    items: list[OfferView]


class ServeRequest(View):
    """A model to serve on this node."""

    record: str = Field(max_length=512)
    """Its id in hex, or `owner/slug`."""


class ServingView(View):
    """A model this node serves, is bringing up, or failed to."""

    record: str
    state: str
    problem: str
    served_name: str
    version_id: str | None
    manifest: str | None
    engine: str
    device: str
    decision: str
    """Why it runs on what it runs on."""
    since_s: float
    restarts: int
    pid: int | None
    log: str
    offer: OfferView | None


class ServingsView(View):
    """Every model of this node."""

    items: list[ServingView]


class KeyRequest(View):
    """A new API key."""

    name: str = Field(min_length=1, max_length=80)
    """What it is for."""


class KeyView(View):
    """What is known of an API key; the key itself is shown once, when it is made."""

    id: str
    name: str
    created_at: int
    used_at: int | None


class NewKeyView(KeyView):
    """A new API key: the only time it is shown."""

    key: str


class KeysView(View):
    """The API keys that work."""

    items: list[KeyView]


class HealthView(View):
    """Whether the process is alive, or ready."""

    status: str
    reasons: list[str] = Field(default_factory=list[str])


def sync_view(status: SyncStatus) -> SyncView:
    """Return how far the node has read its peers."""
    return SyncView(
        items=[
            PeerSyncView(
                peer=one.peer,
                phase=one.phase,
                n=one.n,
                last_n=one.last_n,
                synced=one.synced,
                partial=one.partial,
            )
            for one in status.peers
        ],
        partial=not status.scope.is_all,
        kinds=[kind.name.lower() for kind in sorted(status.scope.kinds)],
        owners=[owner.hex() for owner in sorted(status.scope.owners or ())],
        pending=status.pending_count,
        n=status.item_n,
        over_quota=dict(status.over_quota),
    )


def offer_view(offered: Offered, *, own_peer: str) -> OfferView:
    """Return an offer with the node that makes it."""
    offer, advert = offered.offer, offered.advert
    return OfferView(
        record=offer.record.hex(),
        version_id=offer.version.hex(),
        manifest=offer.manifest.hex(),
        peer=advert.peer,
        operator=advert.operator.hex(),
        served_name=offer.served_name,
        engine=offer.engine,
        device=offer.device,
        quantization=offer.quantization,
        context=offer.context,
        price_input=offer.price_input,
        price_output=offer.price_output,
        price_cached=offer.price_cached,
        region=offer.region,
        running=offer.running,
        waiting=offer.waiting,
        slots=offer.slots,
        tokens_per_s=offer.tokens_per_s_milli / 1000,
        ttft_ms=offer.ttft_ms,
        tasks=[task.name.lower() for task in Task if task in offer.tasks and task.name],
        own=advert.peer == own_peer,
        expires_at=advert.expires_s,
    )


def serving_view(served: ServedModel, offer: OfferView | None) -> ServingView:
    """Return a model of this node with its offer, if it is offered."""
    return ServingView(
        record=served.record.hex(),
        state=served.state,
        problem=served.problem,
        served_name=served.served_name,
        version_id=served.version.hex() if served.version else None,
        manifest=served.manifest.hex() if served.manifest else None,
        engine=served.engine,
        device=served.device,
        decision="; ".join(served.reasons),
        since_s=served.since_s,
        restarts=served.restarts,
        pid=served.pid,
        log=served.log,
        offer=offer,
    )


def peer_view(peer: ConnectedPeer, standing: Standing, *, synced: bool) -> PeerView:
    """Return a connected peer."""
    return PeerView(
        peer=peer.peer,
        address=peer.address,
        direction=peer.direction,
        since_s=peer.since_s,
        rtt_ms=peer.rtt_ms,
        synced=synced,
        group=standing.group,
        found=standing.found,
        anchor=standing.anchor,
        software=peer.software,
        protocols=list(peer.protocols),
    )


def known_peer_view(known: Known, *, connected: bool) -> KnownPeerView:
    """Return an address in the book."""
    return KnownPeerView(
        peer=known.address.peer,
        address=str(known.address),
        group=known.address.group,
        found=known.found,
        informants=known.informants,
        anchor=known.anchor,
        connected=connected,
        heard_s=int(known.heard_s),
        met_s=int(known.met_s),
        tried_s=int(known.tried_s),
        failures=known.failures,
        next_s=int(known.next_s),
    )


def key_view(key: ApiKey) -> KeyView:
    """Return what is known of a key."""
    return KeyView(id=key.id, name=key.name, created_at=key.created_s, used_at=key.used_s)
