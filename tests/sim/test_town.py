"""Towns: nodes that find each other by the production membership, and are attacked and parted."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

import node.network.outbound
from crdt import Item, PeerId
from node.network.addresses import PeerAddress
from node.network.exchange import encode_answer
from tests.node.network.books import public
from tests.sim.checkers import check_agreement, check_cursors, check_safety
from tests.sim.disks import copy_of
from tests.sim.independent import Violation
from tests.sim.liars import LIARS, hides_everything
from tests.sim.planted import BUGS, swapped
from tests.sim.shared import shared_work
from tests.sim.town import Town
from tests.writers import NETWORK, Writer

pytestmark = pytest.mark.slow
FOUNDING_MS = 60_000
CATCH_UP_MS = 100_000
"""Three rounds of catch-up; the proofs that come every 10 minutes are not waited for."""
ANN = Writer("ann")


@pytest.fixture(autouse=True)
def shared() -> object:
    with shared_work():
        yield


def founded(seed: int, node_count: int) -> Town:
    town = Town(seed, node_count)
    town.run(FOUNDING_MS)
    town.publish(names_of(town)[0], [ANN.genesis])
    town.run(1_000)
    return town


def names_of(town: Town) -> list[PeerId]:
    """The honest ones."""
    return [name for name in sorted(town.nodes) if town.nodes[name].is_honest]


def puts(name: str, count: int) -> list[Item]:
    return [ANN.put(f"{name} {n}".encode(), slug=f"{name}-{n}") for n in range(count)]


def check_all(town: Town) -> None:
    check_safety(town)
    check_cursors(town)
    check_agreement(town)


def test_nodes_that_know_three_find_as_many_as_they_keep_and_agree() -> None:
    town = founded(1, 30)
    for name, home in town.homes.items():
        assert len(town.beside[name]) >= 8
        assert home.outbound.missing_count == 0 or len(town.beside[name]) == 29
    for number, name in enumerate(names_of(town)):
        town.publish(name, puts(f"of {number}".replace(" ", "-"), 2))
    town.run(10_000)
    check_all(town)


def test_one_seed_twice_is_one_town() -> None:
    assert founded(3, 12).history == founded(3, 12).history != founded(4, 12).history


def test_late_joiners_get_all_while_others_leave() -> None:
    town = founded(2, 15)
    town.publish(names_of(town)[3], puts("early", 100))
    town.run(5_000)
    for name in names_of(town)[:5]:
        newcomer = town.add_node()
        town.run(2_000)
        town.crash(name)
        town.run(20_000)
        assert len(town.nodes[newcomer].disk.items) == 101
    town.heal()
    town.run(CATCH_UP_MS)
    check_all(town)


def test_a_town_that_was_parted_finds_itself_and_agrees() -> None:
    town = founded(3, 20)
    names = names_of(town)
    town.part([names[::2], names[1::2]])
    town.publish(names[0], puts("left", 30))
    town.publish(names[1], puts("right", 30))
    town.run(120_000)
    assert {len(town.nodes[name].disk.items) for name in names} == {31}
    assert not any(set(town.beside[names[0]]) & {one} for one in names[1::2])
    town.heal()
    town.run(CATCH_UP_MS)
    check_all(town)
    assert {len(town.nodes[name].disk.items) for name in names} == {61}


# Restores


@pytest.mark.parametrize("folder", [False, True], ids=["the database", "the folder"])
def test_what_is_written_after_a_restore_reaches_those_who_had_read_further(folder: bool) -> None:
    town = restored(folder=folder)
    check_all(town)


@pytest.mark.parametrize("folder", [False, True], ids=["the database", "the folder"])
def test_under_a_kept_epoch_a_cursor_lies_and_that_is_noticed(folder: bool) -> None:
    with BUGS["epochs_kept"].plant(), pytest.raises(Violation, match="a cursor lies"):
        check_cursors(restored(folder=folder))


def restored(*, folder: bool) -> Town:
    """A town of which one node went back by 40 arrivals and took 40 others before it was heard."""
    town = founded(4, 12)
    name, *others = names_of(town)
    backup = copy_of(town.nodes[name].disk)
    town.publish(name, puts("lost", 40))
    town.run(CATCH_UP_MS)  # everybody has read them by cursor, too
    town.stop(name)
    town.put_back(name, backup, folder=folder)
    town.part([[name], others])
    town.start(name)
    town.publish(name, puts("after", 40))
    town.run(20_000)
    town.heal()
    town.run(CATCH_UP_MS)
    return town


# Lies


@pytest.mark.parametrize("liar", LIARS, ids=lambda liar: liar.__name__)
def test_lying_sketches_and_cursors_keep_nothing_from_a_town(liar: object) -> None:
    """A third of the nodes lie in their answers, bootstrap peers among them."""
    town = Town(5, 12)
    for name in sorted(town.nodes)[::3]:
        town.nodes[name].liar = liar  # type: ignore[assignment]
    town.run(FOUNDING_MS)
    honest = names_of(town)
    town.part([[honest[0]], [name for name in town.nodes if name != honest[0]]])
    apart, together = puts("apart", 60), puts("together", 60)
    town.publish(honest[0], [ANN.genesis, *apart])
    town.publish(honest[1], [ANN.genesis, *together])
    town.run(30_000)
    town.heal()
    newcomer = town.add_node()
    town.run(300_000)
    check_all(town)
    held = town.nodes[newcomer].disk.numbers.keys()
    assert held >= {ANN.genesis.id, *(one.id for one in (*apart, *together))}


# Eclipse


def crowd_of(networks: Sequence[int], count: int) -> list[PeerAddress]:
    """As many addresses as an attacker likes, in the networks that it holds."""
    return [public(n, network=networks[n % len(networks)]) for n in range(count)]


def attacked(seed: int, networks: Sequence[int], count: int, *, node_count: int = 24) -> Town:
    """A town while a crowd from a few networks knocks at every door and fills every book."""
    town = founded(seed, node_count)
    crowd = crowd_of(networks, count)
    for at in crowd:
        name = town.add_attacker(at, crowd)
        town.nodes[name].liar = hides_everything
        town.start(name)
    victims = names_of(town)
    for _ in range(6):
        for at in crowd:
            town.knock(at.peer, town.rng.choice(victims))
        for name in town.rng.sample(victims, 6):  # who starts again chooses again
            town.crash(name)
            town.run(500)
            town.start(name)
        town.run(20_000)
    return town


def network_of(address: PeerAddress) -> str:
    """The /16, read from the text."""
    return ".".join(address.host.split(".")[:2])


def check_eclipse(town: Town, networks: Sequence[int]) -> None:
    """No honest node has more connections of its own to the crowd than its networks count.

    Judged by who is really there, not by what the node charges to whom. A network may hold an
    eighth of eight connections: one.

    Raises:
        Violation: more of them.
    """
    for name in names_of(town):
        links = [one for one in town.homes[name].outbound.links() if one.since_s is not None]
        evil = [one for one in links if town.homes[one.address.peer].evil]
        if len(evil) > len(networks):
            raise Violation("eclipse", f"{len(evil)} of {len(links)} connections of {name}")
        if len({network_of(one.address) for one in evil}) < len(evil):
            raise Violation("eclipse", f"{name} chose two of one network")
        if len(links) - len(evil) < 3 and len(town.beside[name]) < len(names_of(town)) - 1:
            raise Violation("eclipse", f"{name} has {len(links) - len(evil)} honest ones")


NETWORKS = (1, 2, 3)


def test_a_crowd_that_fills_the_books_gets_no_more_than_its_networks_count() -> None:
    town = attacked(6, NETWORKS, 150)
    known = [one for name in names_of(town) for one in town.homes[name].book.all()]
    evil = sum(
        one.address.peer in town.homes and town.homes[one.address.peer].evil for one in known
    )
    assert evil > len(known) / 2, "the books are full of them"
    check_eclipse(town, NETWORKS)
    town.publish(names_of(town)[-1], puts("besieged", 20))
    town.run(CATCH_UP_MS)  # a mesh full of neighbours that pass nothing on is no help
    check_agreement(town)
    for name in [name for name in town.nodes if not town.nodes[name].is_honest]:
        town.crash(name)
    town.publish(names_of(town)[0], puts("free", 20))
    town.run(CATCH_UP_MS)
    check_safety(town)
    check_cursors(town)
    check_agreement(town)


def test_without_shares_of_networks_the_same_crowd_takes_more_and_that_is_noticed() -> None:
    freely = swapped(
        (node.network.outbound, "group_max", lambda count: count),
        (node.network.outbound, "informant_max", lambda count: count),
    )
    with freely, pytest.raises(Violation, match="eclipse"):
        check_eclipse(attacked(6, NETWORKS, 150), NETWORKS)


def test_attackers_answers_are_whole_frames_of_the_exchange() -> None:
    assert len(encode_answer(NETWORK, crowd_of(NETWORKS, 32))) > 1_000
