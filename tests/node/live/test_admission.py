import pytest

from node.live.admission import Admission, make_room


def refusal(host="127.0.0.1:4711", origin=None, room="card-secret", origins=()):
    admission = Admission("card-secret", port=4711, origins=origins)
    return admission.refusal(host=host, origin=origin, room=room)


def test_no_two_rooms_are_alike_and_their_names_say_what_is_in_them():
    one, other = make_room("acme.model"), make_room("acme.model")
    assert one != other
    assert one.startswith("acme.model-")
    assert len(one) >= len("acme.model-") + 22


@pytest.mark.parametrize("host", ["127.0.0.1:4711", "localhost:4711", "LOCALHOST:4711"])
def test_programs_of_this_machine_are_let_in(host):
    assert refusal(host=host) is None


@pytest.mark.parametrize("host", [None, "", "127.0.0.1", "rebound.example:4711", "127.0.0.1:1"])
def test_a_name_that_was_pointed_here_is_not_let_in(host):
    assert "Host" in refusal(host=host)


@pytest.mark.parametrize(
    "origin",
    ["http://localhost:5173", "https://127.0.0.1", "http://[::1]:80", "https://ed.example"],
)
def test_pages_of_this_machine_and_named_ones_are_let_in(origin):
    assert refusal(origin=origin, origins=["https://ed.example/"]) is None


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "http://localhost.evil.example",
        "ftp://localhost",
        "http://[",
    ],
)
def test_pages_of_others_are_not_let_in_even_with_the_room(origin):
    assert "may not edit here" in refusal(origin=origin)


@pytest.mark.parametrize("room", ["", "card", "card-secre", "card-secret2", "cärd-secret"])
def test_whoever_does_not_know_the_room_is_not_let_in(room):
    assert "no such room" in refusal(room=room)
