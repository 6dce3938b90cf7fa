"""Limits of different parts that must agree do, and one that does not stops the node."""

from __future__ import annotations

from dataclasses import replace

import pytest

from node.api.server import ApiLimits
from node.limits import agreements, assert_limits
from node.peer.server import PeerLimits


@pytest.mark.parametrize("one", agreements(), ids=str)
def test_a_pair_agrees_and_a_contradiction_is_told(one):
    assert_limits([one])
    with pytest.raises(AssertionError, match="limits do not agree"):
        assert_limits([replace(one, outer_max=one.inner_max - 1)])


@pytest.mark.parametrize(
    "found",
    [
        agreements(peer=PeerLimits(body_bytes_max=1000)),
        agreements(api=ApiLimits(body_bytes_max=2000, body_bytes_top=1000)),
    ],
)
def test_limits_that_are_set_are_judged_too(found):
    with pytest.raises(AssertionError, match="limits do not agree"):
        assert_limits(found)
