"""Membership at work: nodes in one process on a network of memory, with liars and losses."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from crdt import MalformedBytes, PeerId, decode, encode
from node.membership import ANSWER_PAUSE_S, VISIT_S, Membership, MembershipSettings
from node.network import (
    BadAddress,
    ConnectedPeer,
    PeerRefused,
    PeerUnreachable,
    ProtocolUnspoken,
)
from node.network.addressbook import WAIT_ALONE_S, Known
from node.network.addresses import parse_address
from node.network.bookfile import load, pack, save
from node.network.exchange import decode_answer, encode_answer, encode_request
from tests.node.network.books import NOW_S, address, peer
from tests.node.network.swarms import NETWORK


@dataclass
class Town:
    """Who listens where, and the clock of all."""

    homes: dict[str, Home] = field(default_factory=dict)
    now_s: float = NOW_S


@dataclass
class Home:
    """One node: its membership, and a `MembershipTransport` that calls the others directly."""

    town: Town
    name: str
    host: str
    membership: Membership
    links: dict[PeerId, ConnectedPeer] = field(default_factory=dict)
    is_up: bool = True
    mute: bool = False
    speaks: tuple[str, ...] = ("peers", "sync")
    answer: bytes | None = None
    dialled: list[str] = field(default_factory=list)

    @property
    def id(self) -> PeerId:
        return peer(self.name)

    @property
    def address(self) -> str:
        return str(address(self.host, self.name))

    def peers(self) -> list[ConnectedPeer]:
        return list(self.links.values())

    def peer(self, one: PeerId) -> ConnectedPeer | None:
        return self.links.get(one)

    async def dial(self, multiaddr: str) -> None:
        self.dialled.append(multiaddr)
        at = parse_address(multiaddr)
        other = next((h for h in self.town.homes.values() if h.address == multiaddr), None)
        if other is None:
            raise PeerUnreachable(f"nobody at {at}")
        if other.id not in self.links:
            self.link(other, f"/ip4/{other.host}/tcp/4001", "out")
            other.link(self, f"/ip4/{self.host}/tcp/{50_000 + len(other.links)}", "in")

    def link(self, other: Home, at: str, direction: Literal["in", "out"]) -> None:
        self.links[other.id] = ConnectedPeer(other.id, at, direction, 1)
        self.membership.peer_connected(other.id)

    def part(self, other: Home) -> None:
        for one, two in ((self, other), (other, self)):
            if one.links.pop(two.id, None) is not None:
                one.membership.peer_lost(two.id)

    async def drop(self, one: PeerId, reason: str) -> None:
        self.part(next(home for home in self.town.homes.values() if home.id == one))

    async def request(
        self, one: PeerId, protocol: str, payload: bytes, *, timeout_s: float, answer_bytes_max: int
    ) -> bytes:
        other = next((h for h in self.town.homes.values() if h.id == one), None)
        if other is None or one not in self.links:
            raise PeerUnreachable("gone")
        if other.mute:
            raise PeerRefused("not now")
        if protocol.split("/")[3] not in other.speaks:
            raise ProtocolUnspoken(f"no {protocol}")
        if "/sync/" in protocol:
            (asked,) = decode(payload, bytes_max=1024)[3]
            return encode(["items", 0, NETWORK, [], [asked]])
        answered = await other.membership.answer(self.id, payload)
        return answered if other.answer is None else other.answer

    async def until(self, holds: Callable[[], object]) -> None:
        """Let all tasks have their turns until something holds."""
        async with asyncio.timeout(10):
            while not holds():  # noqa: ASYNC110 - everything is in memory, nothing is waited for
                await asyncio.sleep(0)

    async def until_linked(self, *names: str) -> None:
        await self.until(lambda: {peer(name) for name in names} <= set(self.links))


@asynccontextmanager
async def home(
    town: Town, name: str, host: str, folder: Path, *bootstrap: str, **options: object
) -> AsyncIterator[Home]:
    """Run a node in the block; the child's part, dialling bootstrap peers, is done once."""
    made = Home(town, name, host, None)  # type: ignore[arg-type]
    made.membership = Membership(
        network=NETWORK,
        own=made.id,
        transport=made,
        path=folder / f"{name}.book",
        settings=MembershipSettings(bootstrap=bootstrap, **options),  # type: ignore[arg-type]
        own_addresses=lambda: [made.address],
        rng=random.Random(1),
        now_s=lambda: town.now_s,
    )
    town.homes[name] = made
    await made.membership.start()
    for one in bootstrap:
        if any(other.address == one for other in town.homes.values()):
            await made.dial(one)
    try:
        yield made
    finally:
        await made.membership.stop()
        for other in [other for other in town.homes.values() if other.id in made.links]:
            made.part(other)
        town.homes.pop(name, None)


async def turns() -> None:
    """Let all tasks do what they can do now."""
    for _ in range(20):
        await asyncio.sleep(0)


HOSTS = {"a": "8.1.0.1", "b": "8.2.0.1", "c": "8.3.0.1", "n": "8.4.0.1"}


async def test_a_newcomer_learns_of_others_through_one_and_returns_without_it(
    tmp_path: Path,
) -> None:
    town = Town()
    async with AsyncExitStack() as until_killed:
        a = await until_killed.enter_async_context(home(town, "a", HOSTS["a"], tmp_path))
        async with (
            home(town, "b", HOSTS["b"], tmp_path, a.address),
            home(town, "c", HOSTS["c"], tmp_path, a.address) as c,
        ):
            async with home(town, "n", HOSTS["n"], tmp_path, a.address) as n:
                await n.until_linked("a", "b", "c")
                founds = {one.peer: n.membership.standing(one).found for one in n.peers()}
                assert founds[a.id] == "bootstrap"
                assert set(founds.values()) <= {"bootstrap", "exchange", "inbound"}
                await until_killed.aclose()
                assert len(n.links) == 2
            await c.until(lambda: n.id not in c.links)
            async with home(town, "n", HOSTS["n"], tmp_path, a.address) as n:
                await n.until_linked("b", "c")
                assert a.id not in n.links


async def test_the_file_keeps_whom_the_node_reached(tmp_path: Path) -> None:
    town = Town()
    async with (
        home(town, "a", HOSTS["a"], tmp_path) as a,
        home(town, "n", HOSTS["n"], tmp_path, a.address) as n,
    ):
        await n.until_linked("a")
        await a.until(a.membership.known)
    (of_n,) = load(tmp_path / "n.book", NETWORK)
    assert (str(of_n.address), of_n.found) == (a.address, "bootstrap")
    assert of_n.tried_s == NOW_S
    (of_a,) = load(tmp_path / "a.book", NETWORK)
    assert (str(of_a.address), of_a.found, of_a.tried_s) == (n.address, "inbound", 0)


async def test_a_told_peer_that_does_not_take_part_is_let_go_and_waits(tmp_path: Path) -> None:
    town = Town()
    async with (
        home(town, "a", HOSTS["a"], tmp_path) as a,
        home(town, "b", HOSTS["b"], tmp_path, a.address) as b,
    ):
        b.mute = True
        async with home(town, "n", HOSTS["n"], tmp_path, a.address) as n:
            await n.until(lambda: b.address in n.dialled)
            await n.until(lambda: b.id not in n.links)
            (known,) = [one for one in n.membership.known() if one.address.peer == b.id]
            assert (known.failures, known.tried_s) == (1, 0)
            assert known.next_s > town.now_s
            assert a.id in n.links


async def test_a_told_peer_of_an_earlier_version_is_kept_and_a_stranger_is_not(
    tmp_path: Path,
) -> None:
    town = Town()
    async with (
        home(town, "a", HOSTS["a"], tmp_path) as a,
        home(town, "b", HOSTS["b"], tmp_path, a.address) as b,
        home(town, "c", HOSTS["c"], tmp_path, a.address) as c,
    ):
        b.speaks, c.speaks = ("sync",), ("ping",)
        async with home(town, "n", HOSTS["n"], tmp_path, a.address) as n:
            await n.until(lambda: {b.address, c.address} <= set(n.dialled))
            await n.until(lambda: c.id not in n.links)
            tried = {one.address.peer: one.tried_s for one in n.membership.known()}
            await n.until(
                lambda: (
                    {one.address.peer for one in n.membership.known() if one.tried_s == NOW_S}
                    == {a.id, b.id}
                )
            )
            assert tried[c.id] == 0
            assert b.id in n.links


@pytest.mark.parametrize(
    "answer",
    [b"garbage", encode(["peers", 0, bytes(32), []]), encode(["peers", 0, NETWORK, ["x"] * 33])],
)
async def test_a_bootstrap_peer_that_answers_nonsense_is_kept_and_teaches_nothing(
    tmp_path: Path, answer: bytes
) -> None:
    town = Town()
    async with home(town, "a", HOSTS["a"], tmp_path) as a:
        a.answer = answer
        async with home(town, "n", HOSTS["n"], tmp_path, a.address) as n:
            await a.until(a.membership.known)  # it was asked
            await turns()
            assert a.id in n.links
            assert [one.found for one in n.membership.known()] == ["bootstrap"]


async def test_what_is_told_across_the_internet_of_near_or_denied_places_is_not_taken(
    tmp_path: Path,
) -> None:
    town = Town()
    told = [
        address("10.0.0.1"), address("127.0.0.1"), address("9.1.2.3"), address("9.9.2.3"),
        address("9.1.2.4", "denied"), address(HOSTS["n"], "n"),
    ]  # fmt: skip
    async with home(town, "a", HOSTS["a"], tmp_path) as a:
        a.answer = encode_answer(NETWORK, told)
        deny = ("9.9.0.0/16", peer("denied"))
        async with home(town, "n", HOSTS["n"], tmp_path, a.address, deny=deny) as n:
            await n.until(lambda: str(told[2]) in n.dialled)
            assert [one.address for one in n.membership.known()[1:]] == [told[2]]


async def test_an_inbound_peer_may_name_only_the_host_it_is_seen_at(tmp_path: Path) -> None:
    town = Town()
    async with (
        home(town, "a", HOSTS["a"], tmp_path, outbound_count=0) as a,
        home(town, "b", HOSTS["b"], tmp_path, a.address, outbound_count=0) as b,
    ):
        await a.until(a.membership.known)
        own = [
            str(address("9.9.9.9", "b")), str(address(HOSTS["b"], "somebody else")),
            *(str(address(HOSTS["b"], "b", port)) for port in (1, 2, 3)),
        ]  # fmt: skip
        await a.membership.answer(b.id, encode_request(NETWORK, own))
        known = {(one.address.host, one.address.port) for one in a.membership.known()}
        assert known == {(HOSTS["b"], port) for port in (4001, 1, 2)}
        with pytest.raises(MalformedBytes):
            await a.membership.answer(b.id, b"garbage")
        with pytest.raises(PeerRefused):
            await a.membership.answer(peer("nobody"), encode_request(NETWORK, []))


async def test_a_relay_tells_on_who_is_behind_it_at_its_own_addresses_only(tmp_path: Path) -> None:
    town = Town()
    async with (
        home(town, "relay", "60.1.1.1", tmp_path, relay=True) as relay,
        home(town, "plain", "60.3.1.1", tmp_path) as plain,
        home(town, "hidden", "60.2.1.1", tmp_path) as hidden,
    ):
        for one in (relay, plain):
            await hidden.dial(one.address)
            true = f"{one.address}/p2p-circuit/p2p/{hidden.id}"
            said = [
                true,
                # A victim's host, another relay's name, another peer's address.
                f"/ip4/99.1.1.1/tcp/4001/p2p/{one.id}/p2p-circuit/p2p/{hidden.id}",
                f"/ip4/60.1.1.1/tcp/4001/p2p/{peer('x')}/p2p-circuit/p2p/{hidden.id}",
                f"{one.address}/p2p-circuit/p2p/{peer('y')}",
            ]
            await one.membership.answer(hidden.id, encode_request(NETWORK, said))
            known = {str(it.address) for it in one.membership.known() if it.address.relay}
            assert known == ({true} if one is relay else set())


async def test_a_peer_that_came_through_a_relay_names_no_address_of_anybody(tmp_path: Path) -> None:
    town = Town()
    async with (
        home(town, "a", "60.1.1.1", tmp_path, relay=True) as a,
        home(town, "b", "60.2.1.1", tmp_path) as b,
    ):
        at = f"/ip4/60.9.1.1/tcp/4001/p2p/{peer('r')}/p2p-circuit"
        a.link(b, at, "in")
        b.link(a, at, "out")
        said = [f"{at}/p2p/{b.id}", b.address]
        await a.membership.answer(b.id, encode_request(NETWORK, said))
        assert not [it for it in a.membership.known() if it.address.peer == b.id]
        standing = a.membership.standing(a.links[b.id])
        assert (standing.group, standing.found) == ("p2p-circuit", "inbound")


async def test_a_peer_is_told_of_those_met_not_of_itself_and_the_same_for_a_while(
    tmp_path: Path,
) -> None:
    town = Town()
    async with (
        home(town, "a", HOSTS["a"], tmp_path, outbound_count=0) as a,
        home(town, "b", HOSTS["b"], tmp_path, a.address, outbound_count=0) as b,
    ):
        await a.until(a.membership.known)
        town.now_s += ANSWER_PAUSE_S + 1

        async def told() -> list[PeerId]:
            raw = await a.membership.answer(b.id, encode_request(NETWORK, []))
            return [one.peer for one in decode_answer(raw, NETWORK)]

        assert await told() == []
        async with home(town, "c", HOSTS["c"], tmp_path, a.address, outbound_count=0) as c:
            await a.until(lambda: len(a.membership.known()) == 2)
            assert await told() == []
            town.now_s += ANSWER_PAUSE_S + 1
            assert await told() == [c.id]


async def test_nothing_is_dialled_while_the_network_child_is_away(tmp_path: Path) -> None:
    town = Town()
    async with (
        home(town, "a", HOSTS["a"], tmp_path) as a,
        home(town, "n", HOSTS["n"], tmp_path) as n,
    ):
        await n.membership.dial(a.address)
        await n.until(n.membership.known)
        n.is_up = False
        n.part(a)
        town.now_s += 100
        n.dialled.clear()
        n.membership.peer_lost(a.id)  # whatever happens wakes it
        await turns()
        assert not n.dialled
        n.is_up = True
        n.membership.peer_lost(a.id)
        await n.until_linked("a")
        (one,) = n.peers()
        assert n.membership.standing(one).found == "operator"
        with pytest.raises(BadAddress):
            await n.membership.dial("/ip4/0.0.0.0/tcp/1/p2p/x")


async def test_a_machine_whose_network_was_away_returns_at_once_and_blames_nobody(
    tmp_path: Path,
) -> None:
    town = Town()
    remembered = Known(address(HOSTS["b"], "b"), "exchange", 1.0, ["9.9.0.0/16"], tried_s=1.0)
    save(tmp_path / "n.book", pack(NETWORK, [remembered]))
    async with home(town, "n", HOSTS["n"], tmp_path) as n:
        for attempt in range(1, 30):
            await n.until(lambda attempt=attempt: len(n.dialled) == attempt)
            await turns()
            town.now_s += 2 * WAIT_ALONE_S
            n.membership.peer_lost(peer("nobody"))  # whatever happens wakes it
        (known,) = n.membership.known()
        assert known.failures == 0
        async with home(town, "b", HOSTS["b"], tmp_path):
            town.now_s += 2 * WAIT_ALONE_S
            n.membership.peer_lost(peer("nobody"))
            await n.until_linked("b")


async def test_whoever_floods_the_lan_gets_its_share_of_outbound_connections_and_no_more(
    tmp_path: Path,
) -> None:
    town = Town()
    async with AsyncExitStack() as stack:
        lan = [
            await stack.enter_async_context(home(town, f"lan {n}", f"10.0.0.{n + 1}", tmp_path))
            for n in range(12)
        ]
        far = await stack.enter_async_context(home(town, "a", HOSTS["a"], tmp_path))
        n = await stack.enter_async_context(home(town, "n", HOSTS["n"], tmp_path, far.address))
        for one in lan:
            n.membership.hear_on_lan(parse_address(one.address))
        n.membership.hear_on_lan(address("8.8.0.1", "sent elsewhere"))
        await n.until(lambda: sum(one.id in n.links for one in lan) == 2)
        await turns()
        assert sum(one.id in n.links for one in lan) == 2, "of eight, one informant has two"
        assert far.id in n.links
        assert not [one for one in n.membership.known() if one.address.host == "8.8.0.1"]
        told = [one for one in n.membership.known() if one.found == "lan"]
        assert len(told) == 12


async def test_whom_the_node_has_called_back_is_no_visitor(tmp_path: Path) -> None:
    town = Town()
    async with (
        home(town, "a", HOSTS["a"], tmp_path, inbound_count=0) as a,
        home(town, "b", HOSTS["b"], tmp_path, a.address, outbound_count=1) as b,
    ):
        await a.until_linked("b")
        a.link(b, f"/ip4/{b.host}/tcp/4001", "out")  # told again: a hole was punched
        town.now_s += VISIT_S + 1
        async with home(town, "n", HOSTS["n"], tmp_path, a.address, outbound_count=1):
            await turns()
            assert b.id in a.links


async def test_who_came_when_all_lasting_places_were_taken_goes_after_a_while(
    tmp_path: Path,
) -> None:
    town = Town()
    async with (
        home(town, "a", HOSTS["a"], tmp_path, inbound_count=1) as a,
        home(town, "b", HOSTS["b"], tmp_path, a.address, outbound_count=1) as b,
        home(town, "c", HOSTS["c"], tmp_path, a.address, outbound_count=1) as c,
    ):
        await a.until_linked("b", "c")
        await turns()
        assert len(a.links) == 2, "a visitor may stay for a while"
        town.now_s += VISIT_S + 1
        async with home(town, "n", HOSTS["n"], tmp_path, a.address, outbound_count=1) as n:
            await a.until(lambda: c.id not in a.links)
            assert {b.id, n.id} <= set(a.links), "the first stays, and so does who has just come"
            b.part(a)
            town.now_s += VISIT_S + 1
            a.membership.addresses_changed()
            await turns()
            assert n.id in a.links, "a place was free, and has become its own"
