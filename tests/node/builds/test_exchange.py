"""The scheduler alone: who is asked for what, who is blamed, when it ends."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crdt import PeerId
from node.builds.exchange import (
    AskHolders,
    Ban,
    Blame,
    ChunkVerified,
    Drop,
    Effect,
    Event,
    Exchange,
    ExchangeLimits,
    Fault,
    Finish,
    GiveUp,
    HoldersFound,
    Pull,
    RetryDue,
    RunArrived,
    RunFailed,
    StartTimer,
)

A, B, C = PeerId("A"), PeerId("B"), PeerId("C")
MIB = 1024 * 1024


def made(count: int, blame: Blame | None = None, **limits: float) -> Exchange:
    return Exchange(lambda _index: MIB, range(count), blame or Blame(), ExchangeLimits(**limits))  # type: ignore[arg-type]


def pulls(effects: list[Effect]) -> list[Pull]:
    return [effect for effect in effects if isinstance(effect, Pull)]


def test_one_holder_is_asked_over_two_connections() -> None:
    exchange = made(10)
    assert exchange.start() == [AskHolders()]
    effects = pulls(exchange.handle(HoldersFound((A, B)), 0))
    assert [(p.holder, p.connection, p.first, p.count) for p in effects] == [
        (A, 0, 0, 1),
        (A, 1, 1, 1),
    ]


def test_nothing_missing_is_finished_at_once() -> None:
    assert made(0).start() == [Finish()]


def test_runs_grow_with_the_measured_rate_and_shrink_at_the_end() -> None:
    exchange = made(100)
    todo = pulls(exchange.handle(HoldersFound((A,)), 0))
    counts: list[int] = []
    finished = False
    while todo:
        pull = todo.pop(0)
        counts.append(pull.count)
        effects: list[Effect] = []
        for _ in range(pull.count):
            effects += exchange.handle(ChunkVerified(pull.run), 0)
        effects += exchange.handle(RunArrived(pull.run, pull.count / 50), 0)  # 50 MiB/s
        finished = finished or Finish() in effects
        todo += pulls(effects)
    assert finished
    assert sum(counts) == 100
    assert max(counts) == 16
    assert counts[-1] == 1


def test_wrong_bytes_ban_the_holder_at_once_and_its_rest_goes_to_the_next() -> None:
    blame = Blame()
    exchange = made(4, blame)
    first, second = pulls(exchange.handle(HoldersFound((A, B)), 0))
    effects = exchange.handle(RunFailed(first.run, Fault.WRONG_BYTES), 0)
    assert effects[:2] == [Ban(A, 3600), Drop(A)]
    assert [(p.holder, p.first) for p in pulls(effects)] == [(B, 0), (B, 2)]
    assert exchange.handle(RunFailed(second.run, Fault.BROKEN), 0) == []
    assert blame.is_banned(A, 3599)
    assert not blame.is_banned(A, 3601)
    again = made(4, blame)
    assert pulls(again.handle(HoldersFound((A, B)), 10))[0].holder == B


def test_a_ban_doubles_and_ends_somewhere() -> None:
    blame = Blame()
    assert [blame.ban(A, 0) for _ in range(4)] == [3600, 7200, 14400, 28800]
    for _ in range(20):
        seconds = blame.ban(A, 0)
    assert seconds == Blame.BAN_S_MAX


def test_a_hung_holder_is_tried_three_times_and_not_banned() -> None:
    blame = Blame()
    exchange = made(1, blame)
    holder = A
    (pull,) = pulls(exchange.handle(HoldersFound((A, B)), 0))
    for _ in range(3):
        assert pull.holder == holder
        (pull,) = pulls(exchange.handle(RunFailed(pull.run, Fault.HUNG), 0))
    assert pull.holder == B
    assert not blame.is_banned(A, 0)


def test_what_arrived_before_a_failure_is_not_asked_again() -> None:
    exchange = Exchange(lambda _index: 1024, range(200), Blame())
    (pull,) = pulls(exchange.handle(HoldersFound((A, B)), 0))
    assert pull.count == 200
    for _ in range(130):
        exchange.handle(ChunkVerified(pull.run), 0)
    (pull,) = pulls(exchange.handle(RunFailed(pull.run, Fault.BROKEN), 0))
    assert (pull.holder, pull.first, pull.count) == (B, 130, 70)


def test_a_run_of_tiny_files_is_short() -> None:
    exchange = Exchange(lambda _index: 1, range(10_000), Blame())
    assert [p.count for p in pulls(exchange.handle(HoldersFound((A,)), 0))] == [256, 256]


def test_without_any_chunk_it_waits_longer_each_round_and_gives_up_with_reasons() -> None:
    exchange = made(3, round_count_max=3)
    exchange.start()
    waits: list[float] = []
    effects: list[Effect] = exchange.handle(HoldersFound((A,)), 0)
    while not any(isinstance(effect, GiveUp) for effect in effects):
        for pull in pulls(effects):
            effects = exchange.handle(RunFailed(pull.run, Fault.UNREACHABLE), 0)
            if effects:
                break
        if effects and isinstance(effects[-1], StartTimer):
            waits.append(effects[-1].seconds)
            assert exchange.handle(RetryDue(), 0) == [AskHolders()]
            effects = exchange.handle(HoldersFound((A,)), 0)
    assert waits == [1.0, 2.0, 4.0]
    (end,) = [effect for effect in effects if isinstance(effect, GiveUp)]
    assert "A: unreachable" in end.reason


def test_news_for_a_run_that_is_over_change_nothing() -> None:
    exchange = made(2)
    first, _second = pulls(exchange.handle(HoldersFound((A,)), 0))
    exchange.handle(ChunkVerified(first.run), 0)
    exchange.handle(ChunkVerified(first.run), 0)
    exchange.handle(RunArrived(first.run, 1), 0)
    assert exchange.handle(RunArrived(first.run, 1), 0) == []
    assert exchange.handle(RunFailed(first.run, Fault.WRONG_BYTES), 0) == []
    assert exchange.handle(ChunkVerified(99), 0) == []


@given(st.data(), st.integers(1, 40))
def test_whatever_happens_every_chunk_is_asked_until_it_came_and_of_one_peer_at_a_time(
    data: st.DataObject, count: int
) -> None:
    exchange = Exchange(lambda index: MIB - index, range(count), Blame())
    flying: dict[int, list[int]] = {}
    came: set[int] = set()
    waiting: list[Event] = []
    over = False

    def apply(effects: list[Effect]) -> None:
        nonlocal over
        for effect in effects:
            match effect:
                case Pull(run, _holder, _connection, first, size):
                    wanted = list(range(first, first + size))
                    assert not came & set(wanted)
                    assert not {i for run in flying.values() for i in run} & set(wanted)
                    flying[run] = wanted
                case AskHolders():
                    waiting.append(HoldersFound((A, B, C)))
                case StartTimer():
                    waiting.append(RetryDue())
                case Finish() | GiveUp():
                    over = True
                case _:
                    pass

    apply(exchange.start())
    for _ in range(500):
        if over:
            break
        choices: list[object] = [*waiting, *flying]
        assert choices, "nothing is under way and it is not over"
        choice = data.draw(st.sampled_from(choices))
        if not isinstance(choice, int):
            waiting.remove(choice)  # type: ignore[arg-type]
            apply(exchange.handle(choice, 0))  # type: ignore[arg-type]
        elif data.draw(st.booleans()):
            fault = data.draw(st.sampled_from([Fault.BROKEN, Fault.HUNG, Fault.UNREACHABLE]))
            del flying[choice]
            apply(exchange.handle(RunFailed(choice, fault), 0))
        elif flying[choice]:
            came.add(flying[choice].pop(0))
            apply(exchange.handle(ChunkVerified(choice), 0))
        else:
            del flying[choice]
            apply(exchange.handle(RunArrived(choice, 0.01), 0))
    if over and len(came) < count:
        assert exchange.handle(RetryDue(), 0) == []
