"""What a relay grants to strangers, and where it ends."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from node.network.circuits import Circuit, Pace, RelayLimits, Switchboard

NOW_S = 1000.0
LIMITS = RelayLimits(
    reservation_count_max=6, reservation_group_count_max=2, circuit_count_max=4,
    circuit_peer_count_max=2, circuit_bytes_max=100, reservation_s=60.0,
)  # fmt: skip


def test_one_network_gets_its_share_of_reservations_and_all_get_no_more_than_there_are() -> None:
    board = Switchboard(LIMITS)
    assert [board.reserve(f"a{n}", "a", NOW_S) is not None for n in range(3)] == [True, True, False]
    assert board.reserve("a0", "a", NOW_S + 1) == NOW_S + 61.0, "who has one prolongs it"
    got = [board.reserve(f"{n}", f"{n}", NOW_S) is not None for n in range(6)]
    assert got == [True] * 4 + [False] * 2
    board.forget("a0")
    assert board.reserve("late", "late", NOW_S) is not None


def test_a_reservation_ends_with_its_time_and_with_its_peer() -> None:
    board = Switchboard(LIMITS)
    until_s = board.reserve("a", "a", NOW_S)
    assert until_s == NOW_S + 60.0
    assert board.has_reserved("a", until_s - 0.1)
    assert not board.has_reserved("a", until_s)
    board.reserve("a", "a", NOW_S)
    board.forget("a")
    assert not board.has_reserved("a", NOW_S)


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from("abcde"), st.booleans())))
def test_circuits_are_bounded_in_all_and_for_each_peer_whatever_comes_and_goes(
    story: list[tuple[str, str, bool]],
) -> None:
    board, open_ = Switchboard(LIMITS), list[Circuit]()
    for caller, callee, comes in story:
        if comes and (made := board.open(caller, callee)) is not None:
            open_.append(made)
        elif not comes and open_:
            board.close(open_.pop(0))
        assert board.counts == (0, len(open_))
        assert len(open_) <= LIMITS.circuit_count_max
        for one in "abcde":
            ends = sum((one == it.caller) + (one == it.callee) for it in open_)
            assert ends <= LIMITS.circuit_peer_count_max + 1  # a call of oneself has both ends
    for made in open_:
        board.close(made)
    assert board.open("a", "b") is not None, "what ended is given back"


def test_a_circuit_passes_on_its_bytes_and_not_one_more() -> None:
    circuit = Switchboard(LIMITS).open("a", "b")
    assert circuit is not None
    assert circuit.pass_on(60)
    assert circuit.pass_on(40)
    assert not circuit.pass_on(1)


@given(st.lists(st.tuples(st.integers(1, 65_536), st.floats(0, 2)), min_size=1, max_size=50))
def test_a_relay_passes_no_more_than_its_rate_and_one_second_at_once(
    chunks: list[tuple[int, float]],
) -> None:
    pace, now_s, passed, rate = Pace(1000), NOW_S, 0, 1000
    started_s = now_s
    for count, pause_s in chunks:
        now_s += pause_s
        now_s += pace.wait_s(count, now_s)
        passed += count
        assert passed <= rate * (now_s - started_s + 1.0) + 1e-6 * passed + 1e-3
