"""What the next write cites, from a node's answer about a record."""

from __future__ import annotations

from node.client import heads_of

ERA = "ab" * 32


def answer(**changes: object) -> dict[str, object]:
    heads = [
        {"version_id": f"{n:02x}" * 32, "depth": depth} for n, depth in ((1, 5), (2, 3), (3, 9))
    ]
    return {"heads": heads, "version_id": "02" * 32, "era": ERA, **changes}


def test_the_winner_comes_first_then_the_deepest() -> None:
    assert [one.depth for one in heads_of(answer())] == [3, 9, 5]
    assert {one.era.hex() for one in heads_of(answer())} == {ERA}


def test_a_tombstone_is_the_winner_of_a_deleted_record() -> None:
    gone = answer(version_id=None, tombstone="01" * 32, era="")
    assert [one.depth for one in heads_of(gone)] == [5, 9, 3]
    assert heads_of(gone)[0].era == b""
