"""The one place that builds everything: a node out of its parts, started and stopped in order.

Whatever can be wrong at start (a port, the disk, a newer store, a key) ends the start with one
line and a stable exit status, and with everything that was begun taken down again.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import signal
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from importlib.metadata import version as distribution_version

import structlog

from crdt import (
    ManifestDigest,
    PeerId,
    QuotaLimits,
    Quotas,
    RecordId,
    Replica,
    StampJudge,
    SyncLimits,
    SyncMachine,
    parse_network,
)
from inference import Breaker, Offer
from inference.engines import SupervisorLimits
from node.access import Access, operator_token
from node.admitting import Admitting
from node.adverts import Adverts, adverts_protocol, adverts_topic
from node.api.accounts import AccountRoutes
from node.api.builds import routes as build_routes
from node.api.checkup import checkup_routes
from node.api.conflicts import conflict_routes
from node.api.docs import docs_routes
from node.api.guard import Guard
from node.api.node_routes import NodeRoutes, Surroundings
from node.api.node_views import NodeView
from node.api.openai import OpenAIRoutes
from node.api.record_log import RecordWaiters, record_log_routes
from node.api.records import check_outcome, record_routes
from node.api.royalties import RoyaltyRoutes, peer_routes
from node.api.server import ApiLimits, ApiServer
from node.api.streams import Streams
from node.banner import activation, banner, dialable
from node.builds import Builds, BuildStore
from node.catalogue import Catalogue
from node.checkup import Checkup
from node.collector import settle_collector
from node.config import Loaded, NodeSection, Settings, scope_of
from node.driver import Driver, compare_protocol, ops_topic, sync_protocol
from node.gateway import CatalogueModels, Consumer, EngineUpstream, Provider
from node.identity import Identity, load_identity, lock_folder
from node.lan import LanDiscovery
from node.launch import NetworkProcess
from node.ledger import Ledger, LedgerLimits, Party, Spending
from node.ledger import Surroundings as LedgerSurroundings
from node.limits import agreements, assert_limits
from node.logs import set_up_logs
from node.membership import Membership, MembershipSettings
from node.metrics import Metrics
from node.network import (
    NetworkClient,
    NetworkSettings,
    RelayLimits,
    exchange_protocol,
    reach_protocol,
)
from node.peer import NodeKey, PeerEndpoint, PeerLimits, PeerServer, PeerSession
from node.planning import planner
from node.reachability import Reaching, listening_port
from node.serving import Serving, ServingTerms
from node.stamp_desk import StampDesk
from node.storage import SqliteReader, open_storage
from node.surroundings import AdvertisedSelf, reachable_hosts
from registry import RegistryRules
from royalties import ReceiptRules

logger = structlog.stdlib.get_logger(__name__)
PEERS_FILE = "peers.book"
STOP_MARGIN_S = 3.0
"""Of the time to stop, what flushing and closing takes after the calls have ended."""


def run(loaded: Loaded, network: NetworkProcess | None = None) -> None:
    """Run a node until SIGTERM or SIGINT; return when everything is flushed and closed.

    Args:
        network: A network child that was launched before this module was imported.

    Raises:
        HansaError: it could not start; the message is one line with the next step.
    """
    settings = loaded.settings
    set_up_logs(level=settings.log.level, style=settings.log.format)
    settle_collector()
    try:
        import uvloop
    except ImportError:
        asyncio.run(_run(settings, network))
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(settings, network))


async def _run(settings: Settings, network: NetworkProcess | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    node = Node(settings, network)
    await node.start()
    try:
        print(node.banner(), flush=True)
        await stop.wait()
        logger.info("stopping", at_most_s=settings.node.stop_s)
    finally:
        await node.stop()
    logger.info("stopped")


class Node:
    """One running node. Start it once, stop it once."""

    def __init__(self, settings: Settings, network_process: NetworkProcess | None = None) -> None:
        self.settings = settings
        self._network_process = network_process
        self.metrics = Metrics()
        self._stack = AsyncExitStack()
        self._started_s = _now_s()
        self._ready = False

    async def start(self) -> None:
        """Build and start every part; on a fault take down what was begun and raise it."""
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise

    async def stop(self) -> None:
        """Refuse new work, let calls end, flush, close: within the set time."""
        self._ready = False
        grace_s = max(0.5, self.settings.node.stop_s - STOP_MARGIN_S)
        self.openai.drain()
        self.provider.drain()
        self.streams.end_all()
        self.waiters.end_all()
        await asyncio.gather(self.api.stop(grace_s=grace_s), self.peer_server.stop(grace_s=grace_s))
        await self._stack.aclose()

    async def _start(self) -> None:
        settings, stack = self.settings, self._stack
        stack.callback(os.close, lock_folder(settings.node.data_dir))
        chosen = parse_network(settings.node.network)
        self.network_id = chosen.id
        self.stamps = StampJudge(chosen.id, chosen.rule)
        loop = asyncio.get_running_loop()
        unlocking = loop.run_in_executor(None, load_identity, settings, chosen)
        try:
            self._token = operator_token(settings.operator_token_file)
            self._open_stores()
        finally:
            await asyncio.wait([unlocking])
            unlocking.exception()  # looked at, that is: of two faults the first is told
        self.identity = await unlocking
        self.key = NodeKey(self.identity.seed)
        self.admitting = Admitting(settings, chosen, self.identity, self._admitted)
        self._build_network()
        self._build_log()
        self._build_models()
        self._build_money()
        self._build_api()
        # Listening comes before everything that tells others of it.
        await self.peer_server.start()
        await self.api.start()
        stack.push_async_callback(self.api.stop, grace_s=0.5)
        stack.push_async_callback(self.peer_server.stop, grace_s=0.5)
        await self.driver.start()
        stack.push_async_callback(self.driver.stop)
        stack.push_async_callback(self.network.stop)
        stack.push_async_callback(self.membership.stop)
        # The book is there before the first peer, who is noted in it.
        await self.membership.start()
        await self.network.start()
        if self.settings.p2p.mdns:
            await self.lan.start()
            stack.push_async_callback(self.lan.stop)
        if self.identity.is_admitted:
            await self._found_operator(self.identity)
        stack.push_async_callback(self.session.close)
        stack.push_async_callback(self.upstream.close)
        stack.push_async_callback(self.builds.close)
        await self.ledger.start()
        stack.push_async_callback(self.ledger.stop)
        await self.adverts.start()
        stack.push_async_callback(self.adverts.stop)
        stack.push_async_callback(self.serving.close)
        await self.serving.resume()
        await self.admitting.start()
        stack.push_async_callback(self.admitting.stop)
        self._ready = True
        logger.info("ready", peer=self.key.peer, api=self.api.url, network=settings.node.network)
        if settings.p2p.reserve and not settings.peer.advertise:
            logger.warning(
                "relays carry the log, not builds or calls: peers do not get those from this node",
                set="peer.advertise to an address where peer.port is forwarded from",
            )

    def _open_stores(self) -> None:
        path = self.settings.node.data_dir / "registry.sqlite3"
        self.storage = open_storage(path, self.network_id)
        self._stack.callback(self.storage.close)
        self.reader = SqliteReader(path, self.network_id)
        self._stack.callback(self.reader.close)
        self.access = Access(self.settings.node.data_dir / "access.sqlite3")
        self._stack.callback(self.access.close)

    def _build_network(self) -> None:
        """Make what finds peers, chooses them and talks to them."""
        settings = self.settings
        self.network = NetworkClient(
            NetworkSettings(
                node_seed=self.identity.seed,
                network=self.network_id,
                listen=settings.p2p.listen,
                bootstrap=settings.p2p.bootstrap,
                peer_count_max=settings.p2p.peer_count_max,
                memory_bytes_max=settings.p2p.memory_mib << 20,
                outbound_count=settings.p2p.outbound_count,
                inbound_group_count_max=settings.p2p.inbound_group_count_max,
                allow=settings.p2p.allow,
                deny=settings.p2p.deny,
                relay=_relay_limits(settings),
                reserve=settings.p2p.reserve,
            ),
            _Handlers(self),
            self._network_process,
        )
        self.membership = Membership(
            network=self.network_id,
            own=self.key.peer,
            transport=self.network,
            path=settings.node.data_dir / PEERS_FILE,
            settings=MembershipSettings(
                outbound_count=settings.p2p.outbound_count,
                inbound_count=settings.p2p.peer_count_max - settings.p2p.outbound_count,
                bootstrap=settings.p2p.bootstrap,
                allow=settings.p2p.allow,
                deny=settings.p2p.deny,
                relay=settings.p2p.relay,
            ),
            own_addresses=self._addresses,
            rng=random.SystemRandom(),  # peers see much of it, and must not foresee the rest
        )
        self.lan = LanDiscovery(
            network=self.network_id,
            peer=self.key.peer,
            addresses=lambda: dialable(self.network.addresses, reachable_hosts("0.0.0.0", ())),
            heard=self.membership.hear_on_lan,
        )
        self.reaching = Reaching(
            network=self.network_id,
            transport=self.network,
            port=lambda: listening_port(self.network.addresses),
            rng=random.SystemRandom(),
        )

    def _build_log(self) -> None:
        """Make the replicated log: replica, driver, catalogue."""
        settings = self.settings
        replica = Replica(
            self.network_id,
            self.storage,
            RegistryRules(),
            ReceiptRules(self.network_id),
            self.stamps,
            Quotas(
                QuotaLimits(
                    operation_count_max=settings.quota.operation_count_max,
                    bytes_max=settings.quota.bytes_max,
                    entry_count_max=settings.quota.entry_count_max,
                    operations_per_day=settings.quota.operations_per_day,
                    bytes_per_day=settings.quota.bytes_per_day,
                )
            ),
        )
        machine = SyncMachine(
            replica,
            random.Random(secrets.randbits(128)),  # noqa: S311 - jitter, not a secret
            SyncLimits(catch_up_ms=int(settings.storage.sync_interval_s * 1000)),
            scope_of(settings),
        )
        desk = StampDesk(self.network_id, self.stamps, replica.seen)
        self.driver = Driver(machine, self.storage, self.network, self.network_id, desk)
        self.catalogue = Catalogue(self.driver, self.reader, self.network_id)

    def _build_models(self) -> None:
        """Make the peer port, builds, engines and adverts."""
        settings = self.settings
        self.session = PeerSession(self.key, self.network_id)
        self.peer_server = PeerServer(
            self.key, self.network_id, settings.peer.host, settings.peer.port,
            limits=PeerLimits(connection_count_max=settings.peer.connection_count_max),
        )  # fmt: skip
        self.builds = Builds(
            BuildStore(settings.builds_folder, keep_free_bytes=settings.builds.free_bytes_min),
            self._holders,
            self.session.grant,
            on_change=self._changed,
        )
        self.serving = Serving(
            records=self.catalogue,
            builds=self.builds,
            planner=planner(settings.engines_folder, device=settings.engines.device),
            folder=settings.node.data_dir / "serving",
            terms=ServingTerms(
                price_input=settings.serving.price_input_micros,
                price_output=settings.serving.price_output_micros,
                region=settings.serving.region,
                model_count_max=settings.engines.model_count_max,
                install=settings.engines.install,
            ),
            limits=SupervisorLimits(start_s=settings.engines.prove_s),
            on_change=self._changed,
        )
        hosts = reachable_hosts(settings.peer.host, settings.peer.advertise)
        self.adverts = Adverts(
            key=self.key.signing,
            operator=self.identity.operator,
            network=self.network_id,
            sources=AdvertisedSelf(self.peer_server, hosts, self.builds, self._offers),
            transport=self.network,
            rtt_ms=self._rtt_ms,
        )

    def _build_money(self) -> None:
        """Make the ledger, and the gateway on both of its sides."""
        settings = self.settings
        self.ledger = Ledger(
            settings.node.data_dir / "ledger.sqlite3",
            Party(
                network=self.network_id,
                key=self.identity.operator_key,
                genesis=self.identity.genesis,
                server=self.key.public,
                is_admitted=self.identity.is_admitted,
                introduces=self.stamps.rule is None,
            ),
            LedgerSurroundings(
                session=self.session,
                offer_of=self._own_offer,
                account_of=self.catalogue.account,
                endpoints_of=self._endpoints_of,
                publish=self.catalogue.publish,
                now_s=_now_s,
                nonce=lambda: secrets.token_bytes(16),
                log=structlog.stdlib.get_logger("node.ledger").info,
            ),
            LedgerLimits(spending=Spending(order_micros=settings.gateway.order_cap_micros)),
        )
        self.upstream = EngineUpstream(first_byte_s=settings.gateway.first_byte_s)
        self.consumer = Consumer(
            own=self.key.peer,
            models=CatalogueModels(self.catalogue, self.adverts),
            offers=self.adverts,
            engines=self.serving,
            payer=self.ledger.payer,
            session=self.session,
            upstream=self.upstream,
            breaker=Breaker(),
            rng=random.Random(secrets.randbits(128)),  # noqa: S311 - ties, not secrets
            first_byte_s=settings.gateway.first_byte_s,
            attempt_count_max=settings.gateway.attempt_count_max,
            call_count_max=settings.gateway.call_count_max,
        )
        self.provider = Provider(
            payee=self.ledger.payee, engines=self.serving, upstream=self.upstream
        )
        self.peer_server.add_routes(self.builds.peer_routes())
        self.peer_server.add_routes(self.provider.routes())
        self.peer_server.add_routes(peer_routes(self.ledger))

    def _build_api(self) -> None:
        settings = self.settings
        guard = Guard(
            network=self.network_id,
            node=self.key.public,
            token=self._token,
            access=self.access,
            account_of=self.catalogue.account,
            now_s=_now_s,
            rule=self.stamps.rule,
        )
        self.streams = Streams(settings.api.stream_count_max)
        self.waiters = RecordWaiters()
        self.openai = OpenAIRoutes(self.consumer)
        limits = ApiLimits(
            body_bytes_max=settings.api.body_bytes_max,
            json_depth_max=settings.api.json_depth_max,
            body_s=settings.api.body_s,
            idle_s=settings.api.idle_s,
            connection_count_max=settings.api.connection_count_max,
        )
        assert_limits(agreements(api=limits))
        self.api = ApiServer(settings.api.host, settings.api.port, guard, self.metrics, limits)
        around = Surroundings(
            catalogue=self.catalogue,
            network=self.network,
            membership=self.membership,
            adverts=self.adverts,
            serving=self.serving,
            access=self.access,
            metrics=self.metrics,
            streams=self.streams,
            own_peer=self.key.peer,
            describe=self.describe,
            unready=self._unready,
            now_s=_now_s,
        )
        self.api.add_routes(NodeRoutes(around).routes())
        checkup = Checkup(
            network=self.network,
            adverts=self.adverts,
            reaching=self.reaching,
            version=VERSION,
            hosts=lambda: reachable_hosts("0.0.0.0", settings.peer.advertise),
        )
        self.api.add_routes(checkup_routes(checkup))
        self.api.add_routes(AccountRoutes(self.catalogue, _now_s).routes())
        self.api.add_routes(record_routes(self.catalogue, self._tasks_of))
        self.api.add_routes(record_log_routes(self.catalogue, self.waiters))
        self.api.add_routes(conflict_routes(self.catalogue))
        self.api.add_routes(build_routes(self.builds, self.streams))
        self.api.add_routes(self.openai.routes())
        self.api.add_routes(RoyaltyRoutes(self.ledger, self.catalogue, _now_s).routes())
        self.api.add_routes(docs_routes(lambda: self.api.routes, lambda: self.api.url, VERSION))
        self._add_metrics()

    def _add_metrics(self) -> None:
        self.metrics.gauge(
            "hansa_stored", "What is stored, by kind.",
            lambda: [({"kind": k}, v) for k, v in self.catalogue.counts().items()],
        )  # fmt: skip
        self.metrics.counter(
            "hansa_items_received", "Items taken in since the start, by the way they came.",
            lambda: [
                ({"path": path}, count)
                for path, count in self.catalogue.sync_status().arrivals.items()
            ],
        )  # fmt: skip
        self.metrics.counter(
            "hansa_items_over_quota", "Items not taken since the start, by the kind of quota.",
            lambda: [
                ({"quota": kind}, count)
                for kind, count in self.catalogue.sync_status().over_quota.items()
            ],
        )  # fmt: skip
        self.metrics.gauge(
            "hansa_gossip_waiting_bytes", "Gossip that waits to be judged.",
            lambda: [({}, self.driver.inbox.cost)],
        )  # fmt: skip
        self.metrics.counter(
            "hansa_gossip_dropped", "Gossip frames dropped, since too much of an account waited.",
            lambda: [({}, self.driver.inbox.dropped_count)],
        )  # fmt: skip
        self.metrics.gauge(
            "hansa_peers", "Connected peers.", lambda: [({}, len(self.network.peers()))]
        )
        self.metrics.gauge(
            "hansa_offers", "Live offers known here.", lambda: [({}, len(self.adverts.offers()))]
        )
        self.metrics.gauge(
            "hansa_streams_open", "Event streams open.", lambda: [({}, self.streams.count)]
        )

    async def _found_operator(self, identity: Identity) -> None:
        """Put the operator's account into the log, where it stays from then on."""
        if self.catalogue.account(identity.operator) is None:
            (outcome,) = await self.catalogue.publish([identity.genesis.raw])
            check_outcome(outcome)

    async def _admitted(self, identity: Identity) -> None:
        """Begin to offer and to pay, now that the network takes the operator's account."""
        await self._found_operator(identity)
        self.identity = identity
        self.ledger.admitted(identity.genesis)
        self.adverts.admitted(identity.operator)

    def describe(self) -> NodeView:
        """Return what the node says of itself."""
        settings = self.settings
        hosts = reachable_hosts(settings.peer.host, settings.peer.advertise)
        return NodeView(
            peer_id=self.key.peer,
            public_key=self.key.public.hex(),
            operator_account=self.identity.operator.hex() if self.identity.is_admitted else None,
            admission_s=self.admitting.mean_s,
            network=settings.node.network,
            network_id=self.network_id.hex(),
            version=VERSION,
            started_at=self._started_s,
            addresses=self._addresses(),
            peer_endpoints=[f"{host}:{self.peer_server.port}" for host in hosts],
            api_url=self.api.url,
            docs_url=f"{self.api.url}/docs",
            peers=len(self.network.peers()),
            counts=self.catalogue.counts(),
            partial=not scope_of(self.settings).is_all,
        )

    def banner(self) -> str:
        """Return what a person sees when the node is ready: who, where, and what to type next."""
        return banner(
            self.describe(),
            data_dir=self.settings.node.data_dir,
            data_default=NodeSection().data_dir,
            activate=activation(),
        )

    def _addresses(self) -> list[str]:
        """Return the multiaddresses at which peers reach this node, best first."""
        hosts = reachable_hosts("0.0.0.0", self.settings.peer.advertise)
        return dialable(self.network.addresses, hosts)

    def _unready(self) -> list[str]:
        return [] if self._ready else ["starting or stopping"]

    def _holders(self, digest: ManifestDigest) -> list[PeerEndpoint]:
        return self.adverts.holders(digest)

    def _changed(self) -> None:
        """Let the next advert say what is held and offered now."""
        self.adverts.changed()

    def _rtt_ms(self, peer: PeerId) -> float:
        return next((one.rtt_ms for one in self.network.peers() if one.peer == peer), 0.0)

    def _tasks_of(self, record: RecordId) -> list[str]:
        tasks = {task for one in self.adverts.offered(record) for task in one.offer.tasks}
        return sorted(task.name.lower() for task in tasks if task.name)

    def _own_offer(self, record: RecordId) -> Offer | None:
        return next((one for one in self._offers() if one.record == record), None)

    def _offers(self) -> Sequence[Offer]:
        """Return what this node serves, once there is an account to serve it under."""
        return self.serving.offers() if self.identity.is_admitted else ()

    def _endpoints_of(self, peer: PeerId) -> list[PeerEndpoint]:
        found = self.adverts.endpoint(peer)
        return [found] if found is not None else []


def _relay_limits(settings: Settings) -> RelayLimits | None:
    if not settings.p2p.relay:
        return None
    return RelayLimits(
        reservation_count_max=settings.p2p.relay_reservation_count_max,
        circuit_count_max=settings.p2p.relay_circuit_count_max,
        bytes_s=settings.p2p.relay_kib_s * 1024,
    )


class _Handlers:
    """What the network calls: each frame goes to the part that its topic or protocol names."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._ops = ops_topic(node.network_id)
        self._adverts_topic = adverts_topic(node.network_id)
        self._sync = {sync_protocol(node.network_id), compare_protocol(node.network_id)}
        self._adverts = adverts_protocol(node.network_id)
        self._exchange = exchange_protocol(node.network_id)
        self._reach = reach_protocol(node.network_id)

    def peer_connected(self, peer: PeerId, address: str) -> None:
        """Take note of a peer that can be asked."""
        logger.debug("peer can be asked", peer=peer, address=address)
        self._node.membership.peer_connected(peer)
        self._node.driver.peer_connected(peer)
        self._node.adverts.peer_connected(peer)

    def peer_lost(self, peer: PeerId) -> None:
        """Take note of a peer that is gone."""
        self._node.membership.peer_lost(peer)
        self._node.driver.peer_lost(peer)
        self._node.adverts.peer_lost(peer)

    def addresses_changed(self) -> None:
        """Take note that peers reach this node through other relays now."""
        self._node.membership.addresses_changed()

    def gossip(self, topic: str, author: PeerId, forwarder: PeerId, data: bytes) -> None:
        """Queue a frame that passed the topic's validator."""
        if topic == self._ops:
            self._node.driver.gossip(author, forwarder, data)
        elif topic == self._adverts_topic:
            self._node.adverts.gossiped(data)

    async def answer(self, peer: PeerId, protocol: str, payload: bytes) -> bytes:
        """Return the answer to a peer's request."""
        if protocol in self._sync:
            return await self._node.driver.answer(peer, payload)
        if protocol == self._exchange:
            return await self._node.membership.answer(peer, payload)
        if protocol == self._reach:
            return await self._node.reaching.answer(peer, payload)
        assert protocol == self._adverts, protocol
        return await self._node.adverts.answer(peer, payload)


VERSION = distribution_version("hansa")


def _now_s() -> int:
    return int(time.time())  # noqa: TID251 - the node owns its clock
