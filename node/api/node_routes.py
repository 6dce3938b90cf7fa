"""Routes about the node itself: identity, peers, offers, serving, keys, health."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from crdt import PeerId, RecordId
from inference import Offered
from node.access import Access
from node.adverts import Adverts
from node.api.bodies import body_as
from node.api.errors import NotFound
from node.api.node_views import (
    DialRequest,
    HealthView,
    KeyRequest,
    KeysView,
    KnownPeersView,
    NewKeyView,
    NodeView,
    OffersView,
    PeersView,
    PrunedView,
    ServeRequest,
    ServingsView,
    ServingView,
    SyncView,
    key_view,
    known_peer_view,
    offer_view,
    peer_view,
    serving_view,
    sync_view,
)
from node.api.operations import Auth, operation
from node.api.records import answer
from node.api.streams import EventStream, Streams
from node.catalogue import Catalogue
from node.membership import Membership
from node.metrics import CONTENT_TYPE as METRICS_TYPE
from node.metrics import Metrics
from node.network import ConnectedPeer
from node.serving import ServedModel, ServeProgress, Serving
from registry import ById, parse_record_reference

EVENTS = "text/event-stream"
PROGRESS_COUNT_MAX = 64
TAG_NODE, TAG_SERVING, TAG_KEYS = "node", "serving", "keys"


class Network(Protocol):
    """What these routes need of the network; `NetworkClient` fits."""

    def peers(self) -> list[ConnectedPeer]:
        """Return the connected peers."""
        ...

    async def drop(self, peer: PeerId, reason: str) -> None:
        """Close the connection to a peer."""
        ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the routes show and steer.

    Attributes:
        describe: What the node says of itself.
        unready: Why the node is not ready; empty when it is.
    """

    catalogue: Catalogue
    network: Network
    membership: Membership
    adverts: Adverts
    serving: Serving
    access: Access
    metrics: Metrics
    streams: Streams
    own_peer: PeerId
    describe: Callable[[], NodeView]
    unready: Callable[[], Sequence[str]]
    now_s: Callable[[], int]


class NodeRoutes:
    """The handlers."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, under `/v1` and bare where records.md has bare forms."""
        found = [
            web.get("/healthz", self.healthz),
            web.get("/readyz", self.readyz),
            web.get("/metrics", self.metrics),
        ]
        for base in ("/v1", ""):
            found += [
                web.get(f"{base}/node", self.node, allow_head=False),
                web.get(f"{base}/sync", self.sync, allow_head=False),
                web.get(f"{base}/peers", self.peers, allow_head=False),
                web.get(f"{base}/peers/known", self.known_peers, allow_head=False),
                web.post(f"{base}/peers", self.dial),
                web.delete(f"{base}/peers/{{peer}}", self.drop),
                web.post(f"{base}/storage/prune", self.prune),
                web.get(f"{base}/offers", self.offers, allow_head=False),
                web.get(f"{base}/offers/events", self.offer_events, allow_head=False),
                web.get(f"{base}/serving", self.servings, allow_head=False),
                web.post(f"{base}/serving", self.serve),
                web.delete(f"{base}/serving/{{record}}", self.stop),
                web.get(f"{base}/keys", self.keys, allow_head=False),
                web.post(f"{base}/keys", self.create_key),
                web.delete(f"{base}/keys/{{key}}", self.revoke_key),
            ]
        return found

    @operation(summary="Whether the process is alive", tag=TAG_NODE, responses={200: HealthView})
    async def healthz(self, _request: web.Request) -> web.StreamResponse:
        """Answer as long as the event loop turns: restart the process when this does not."""
        return answer(HealthView(status="alive"))

    @operation(
        summary="Whether the node is ready", tag=TAG_NODE,
        responses={200: HealthView, 503: HealthView},
    )  # fmt: skip
    async def readyz(self, _request: web.Request) -> web.StreamResponse:
        """Answer 200 when the node takes work, else 503 with the reasons."""
        reasons = list(self._around.unready())
        view = HealthView(status="waiting" if reasons else "ready", reasons=reasons)
        return answer(view, status=503 if reasons else 200)

    @operation(summary="Metrics", tag=TAG_NODE, responses={200: "text/plain"})
    async def metrics(self, _request: web.Request) -> web.StreamResponse:
        """Return everything that is measured, in Prometheus' text format."""
        return web.Response(
            body=self._around.metrics.text(), headers={"Content-Type": METRICS_TYPE}
        )

    @operation(summary="Who the node is", tag=TAG_NODE, responses={200: NodeView})
    async def node(self, _request: web.Request) -> web.StreamResponse:
        """Return the node's identity, addresses and counts."""
        return answer(self._around.describe())

    @operation(
        summary="How far the node has read its peers", tag=TAG_NODE, responses={200: SyncView}
    )
    async def sync(self, _request: web.Request) -> web.StreamResponse:
        """Return the cursor in every peer's log."""
        return answer(sync_view(self._around.catalogue.sync_status()))

    @operation(summary="List connected peers", tag=TAG_NODE, responses={200: PeersView})
    async def peers(self, _request: web.Request) -> web.StreamResponse:
        """Return the peers with address, direction, round trip and how each was found."""
        synced = {one.peer for one in self._around.catalogue.sync_status().peers if one.synced}
        standing = self._around.membership.standing
        items = [
            peer_view(one, standing(one), synced=one.peer in synced)
            for one in self._around.network.peers()
        ]
        return answer(PeersView(items=items))

    @operation(
        summary="List the peers that the node knows of", tag=TAG_NODE, auth=Auth.OPERATOR,
        responses={200: KnownPeersView},
    )  # fmt: skip
    async def known_peers(self, _request: web.Request) -> web.StreamResponse:
        """Return the address book: where peers listen, who told of them, how dialling went."""
        connected = {one.peer for one in self._around.network.peers()}
        membership = self._around.membership
        items = [
            known_peer_view(one, connected=one.address.peer in connected)
            for one in membership.known()
        ]
        outbound, outbound_max = membership.outbound_counts()
        return answer(KnownPeersView(items=items, outbound=outbound, outbound_max=outbound_max))

    @operation(
        summary="Connect to a peer", tag=TAG_NODE, auth=Auth.OPERATOR, request=DialRequest,
        responses={204: None}, errors=(502,),
    )  # fmt: skip
    async def dial(self, request: web.Request) -> web.StreamResponse:
        """Dial a multiaddress once; `p2p.bootstrap` is for peers to be dialled for ever."""
        asked = await body_as(request, DialRequest)
        await self._around.membership.dial(asked.address)
        return web.Response(status=204)

    @operation(
        summary="Close the connection to a peer", tag=TAG_NODE, auth=Auth.OPERATOR,
        responses={204: None}, errors=(404,),
    )  # fmt: skip
    async def drop(self, request: web.Request) -> web.StreamResponse:
        """Close the connection; a bootstrap peer is dialled again."""
        peer = request.match_info["peer"]
        if peer not in [one.peer for one in self._around.network.peers()]:
            raise NotFound(f"peer {peer[:60]} is not connected; /v1/peers lists those that are")
        await self._around.network.drop(PeerId(peer), "the operator asked for it")
        return web.Response(status=204)

    @operation(
        summary="Drop what checkpoints stand for", tag=TAG_NODE, auth=Auth.OPERATOR,
        responses={200: PrunedView},
    )  # fmt: skip
    async def prune(self, _request: web.Request) -> web.StreamResponse:
        """Drop the operations that came before each record's checkpoint, old versions with them.

        Other nodes keep theirs. Records of an account whose log is frozen are left as they are.
        """
        records, dropped = await self._around.catalogue.prune()
        return answer(PrunedView(records=records, operations=dropped))

    @operation(summary="List live offers", tag=TAG_SERVING, responses={200: OffersView})
    async def offers(self, _request: web.Request) -> web.StreamResponse:
        """Return what live nodes serve now, this one among them."""
        return answer(self._offers())

    @operation(
        summary="Follow live offers", tag=TAG_SERVING, responses={200: EVENTS}, errors=(429,)
    )
    async def offer_events(self, request: web.Request) -> web.StreamResponse:
        """Send `offers` with the whole list now and whenever a node's advert changed or went."""
        changed = asyncio.Event()
        unsubscribe = self._around.adverts.subscribe(lambda _peer: changed.set())
        try:
            async with self._around.streams.open(request) as stream:
                while request.transport is not None:  # until the client leaves
                    changed.clear()
                    await stream.send("offers", self._offers().model_dump(mode="json"))
                    await changed.wait()
                    await asyncio.sleep(0.5)  # so that a burst of adverts is one event
        finally:
            unsubscribe()
        return stream.response

    @operation(
        summary="List the models this node serves", tag=TAG_SERVING, auth=Auth.OPERATOR,
        responses={200: ServingsView},
    )  # fmt: skip
    async def servings(self, _request: web.Request) -> web.StreamResponse:
        """Return each with its state, its engine and why it runs on what it runs on."""
        items = [self._serving_view(one) for one in self._around.serving.served()]
        return answer(ServingsView(items=items))

    @operation(
        summary="Serve a model", tag=TAG_SERVING, auth=Auth.OPERATOR, request=ServeRequest,
        responses={200: EVENTS}, errors=(404, 409, 429),
    )  # fmt: skip
    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Fetch, fit, start and prove a model, telling the steps as events until it is offered.

        Events are `progress`, then `done` with the served model, or `error` with a problem. The
        work goes on if the client leaves; DELETE stops it.
        """
        asked = await body_as(request, ServeRequest)
        record = self._record(asked.record)
        async with self._around.streams.open(request) as stream:
            served = await self._follow(stream, record)
            await stream.send("done", self._serving_view(served).model_dump(mode="json"))
        return stream.response

    @operation(
        summary="Stop serving a model", tag=TAG_SERVING, auth=Auth.OPERATOR,
        responses={204: None}, errors=(404, 409),
    )  # fmt: skip
    async def stop(self, request: web.Request) -> web.StreamResponse:
        """Withdraw the offer, let calls in progress finish, and end the engine."""
        await self._around.serving.stop(self._record(request.match_info["record"]))
        return web.Response(status=204)

    @operation(summary="List API keys", tag=TAG_KEYS, auth=Auth.OPERATOR, responses={200: KeysView})
    async def keys(self, _request: web.Request) -> web.StreamResponse:
        """Return the keys that work, without the keys themselves."""
        return answer(KeysView(items=[key_view(key) for key in self._around.access.listing()]))

    @operation(
        summary="Make an API key", tag=TAG_KEYS, auth=Auth.OPERATOR, request=KeyRequest,
        responses={201: NewKeyView}, errors=(429,),
    )  # fmt: skip
    async def create_key(self, request: web.Request) -> web.StreamResponse:
        """Make a key for a program that calls models. This answer is the only place it shows."""
        asked = await body_as(request, KeyRequest)
        key, made = self._around.access.create(asked.name, now_s=self._around.now_s())
        view = NewKeyView(key=key, **key_view(made).model_dump())
        return answer(view, status=201)

    @operation(
        summary="Revoke an API key", tag=TAG_KEYS, auth=Auth.OPERATOR, responses={204: None},
        errors=(404,),
    )  # fmt: skip
    async def revoke_key(self, request: web.Request) -> web.StreamResponse:
        """Let a key work no longer, from this moment."""
        self._around.access.revoke(request.match_info["key"], now_s=self._around.now_s())
        return web.Response(status=204)

    def _offers(self) -> OffersView:
        own = self._around.own_peer
        return OffersView(
            items=[offer_view(one, own_peer=own) for one in self._around.adverts.offers()]
        )

    def _serving_view(self, served: ServedModel) -> ServingView:
        advert = self._around.adverts.own()
        offer = None
        if served.offer is not None and advert is not None:
            offer = offer_view(Offered(advert, served.offer), own_peer=self._around.own_peer)
        return serving_view(served, offer)

    def _record(self, text: str) -> RecordId:
        reference = parse_record_reference(text)
        if isinstance(reference, ById):
            return reference.record
        state = self._around.catalogue.find_slug(reference.owner, reference.slug)
        if state is None:
            raise NotFound(f"there is no model {text[:140]} here; search with /v1/models?q=...")
        return state.id

    async def _follow(self, stream: EventStream, record: RecordId) -> ServedModel:
        """Serve a model and send every step; a slow reader loses old steps, never the last."""
        queue: asyncio.Queue[ServeProgress] = asyncio.Queue(PROGRESS_COUNT_MAX)

        def tell(progress: ServeProgress) -> None:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(progress)

        work = asyncio.create_task(self._around.serving.serve(record, tell))
        try:
            while True:
                getting = asyncio.create_task(queue.get())
                done, _ = await asyncio.wait({getting, work}, return_when=asyncio.FIRST_COMPLETED)
                if getting in done:
                    await stream.send("progress", _progress(getting.result()))
                    continue
                getting.cancel()
                while not queue.empty():
                    await stream.send("progress", _progress(queue.get_nowait()))
                return await work
        finally:
            work.cancel()


def _progress(progress: ServeProgress) -> dict[str, object]:
    return {
        "record": progress.record.hex(),
        "step": progress.step,
        "text": progress.text,
        "done": progress.done,
        "total": progress.total,
    }
