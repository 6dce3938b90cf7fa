import pytest

from node.live import UpdateRefused
from node.live.presence import Presence
from node.live.protocol import PresenceEntry as Entry


def test_news_is_kept_for_those_who_join():
    presence = Presence()
    assert presence.hear("ann", [Entry(1, 0, "{}")]) == [Entry(1, 0, "{}")]
    assert presence.hear("ann", [Entry(1, 1, '{"x":1}')]) == [Entry(1, 1, '{"x":1}')]
    assert presence.entries() == [Entry(1, 1, '{"x":1}')]


def test_what_is_no_news_is_not_passed_on_or_editors_would_echo_for_ever():
    presence = Presence()
    presence.hear("ann", [Entry(1, 5, "{}")])
    assert presence.hear("bob", [Entry(1, 5, "{}"), Entry(1, 4, "{}")]) == []


def test_a_client_that_leaves_says_so_under_the_same_clock():
    presence = Presence()
    presence.hear("ann", [Entry(1, 5, "{}")])
    assert presence.hear("ann", [Entry(1, 5, "null")]) == [Entry(1, 5, "null")]
    assert presence.entries() == []
    assert presence.hear("ann", [Entry(1, 5, "null")]) == []


def test_a_closed_connection_takes_its_clients_along_and_no_others():
    presence = Presence()
    presence.hear("ann", [Entry(1, 5, "{}"), Entry(2, 0, "{}")])
    presence.hear("bob", [Entry(3, 0, "{}")])
    assert presence.leave("ann") == [Entry(1, 5, "null"), Entry(2, 0, "null")]
    assert presence.entries() == [Entry(3, 0, "{}")]


@pytest.mark.parametrize(
    "state", ["", "{", "NaN", "[" * 5000, '"' + "x" * 9000 + '"'], ids=lambda state: state[:4]
)
def test_what_would_stop_another_editor_is_refused(state):
    presence = Presence()
    with pytest.raises(UpdateRefused):
        presence.hear("ann", [Entry(1, 0, state)])
    assert presence.entries() == []


def test_the_number_of_clients_is_bounded():
    presence = Presence()
    presence.hear("ann", [Entry(client, 0, "{}") for client in range(64)])
    with pytest.raises(UpdateRefused, match="more than 64 clients"):
        presence.hear("ann", [Entry(64, 0, "{}")])
