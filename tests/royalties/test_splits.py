"""Splits: every level's parts sum to its whole, whatever the terms."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crdt import AccountId, RecordId, sha3
from royalties import Base, Role, Terms, shares_of
from royalties.money import AMOUNT_PICOS_MAX
from royalties.splits import LINEAGE_DEPTH_MAX


def account(number: int) -> AccountId:
    return AccountId(sha3(b"account %d" % number))


def record(number: int) -> RecordId:
    return RecordId(sha3(b"record %d" % number))


OPERATOR = account(99)


@st.composite
def lineages(draw: st.DrawFn) -> list[Terms]:
    """Records that name each other as bases in any way, cycles among them."""
    count = draw(st.integers(1, 5))
    found: list[Terms] = []
    for number in range(count):
        shares = draw(st.lists(st.integers(0, 3000), max_size=3))
        bases = tuple(Base(record(draw(st.integers(0, count - 1))), share) for share in shares)
        weights = draw(st.dictionaries(st.integers(0, 6), st.integers(1, 10**6), max_size=4))
        splits = tuple((account(who), weight) for who, weight in weights.items())
        royalty = draw(st.integers(0, 10_000))
        found.append(Terms(account(number), record(number), royalty, splits, bases))
    return found


@given(st.integers(0, AMOUNT_PICOS_MAX), lineages())
def test_all_shares_of_any_lineage_sum_to_the_amount(amount: int, lineage: list[Terms]) -> None:
    known = {terms.record: terms for terms in lineage}
    shares = shares_of(amount, OPERATOR, lineage[0], lambda base: known[base.record])
    assert sum(share.amount_picos for share in shares) == amount
    assert all(share.amount_picos > 0 for share in shares)


def test_the_operator_keeps_what_the_royalty_leaves() -> None:
    shares = shares_of(1000, OPERATOR, Terms(account(1), record(1), 1500), _none)
    assert [(s.account, s.role, s.amount_picos) for s in shares] == [
        (OPERATOR, Role.OPERATOR, 850),
        (account(1), Role.CREATOR, 150),
    ]


def test_splits_divide_the_creators_share_and_a_base_gets_its_part_first() -> None:
    base = Terms(account(3), record(2), 10_000)
    terms = Terms(
        account(1), record(1), 5000, ((account(1), 1), (account(2), 3)), (Base(record(2), 2000),)
    )
    shares = shares_of(1000, OPERATOR, terms, lambda _base: base)
    got = {(s.account, s.role): s.amount_picos for s in shares}
    assert got == {
        (OPERATOR, Role.OPERATOR): 500,
        (account(1), Role.CREATOR): 100,
        (account(2), Role.CREATOR): 300,
        (account(3), Role.BASE): 100,
    }


def test_a_record_that_is_its_own_base_is_paid_once() -> None:
    terms = Terms(account(1), record(1), 10_000, (), (Base(record(1), 9000),))
    assert [s.amount_picos for s in shares_of(77, OPERATOR, terms, _none)] == [77]


def test_a_chain_is_followed_to_its_stated_depth() -> None:
    chain = {
        record(n): Terms(account(n), record(n), 10_000, (), (Base(record(n + 1), 5000),))
        for n in range(30)
    }
    shares = shares_of(2**40, OPERATOR, chain[record(0)], lambda base: chain[base.record])
    assert len({s.account for s in shares}) == LINEAGE_DEPTH_MAX + 1
    assert sum(s.amount_picos for s in shares) == 2**40


def _none(_base: Base) -> Terms:
    raise AssertionError("no base is looked up")
