"""The frames of peer exchange: "whom do you know, and here I am", and an answer with addresses.

What an answer holds is hostile until a connection proves it: bounded here, and each address held to
the rules of `addresses.py` and to how far away its teller is. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from crdt import MalformedBytes, NetworkId, WrongNetwork, array, decode, encode, field, natural
from node.network.addresses import ADDRESS_CHARACTERS_MAX, PeerAddress, Scope, parse_address
from node.network.errors import BadAddress

VERSION = 0
TOLD_COUNT_MAX = 32
"""Addresses in one answer: half of what one informant may have in a book."""
OWN_COUNT_MAX = 8
"""Addresses that a node says it listens at."""
REQUEST_BYTES_MAX = 4096
ANSWER_BYTES_MAX = 16 * 1024


def exchange_protocol(network: NetworkId) -> str:
    """Return the protocol by which a peer is asked for others."""
    return f"/hansa/{network.hex()[:16]}/peers/{VERSION}"


def encode_request(network: NetworkId, own: Sequence[str]) -> bytes:
    """Return a request; `own` are the multiaddresses at which the asker listens, best first."""
    return encode(["peers?", VERSION, network, list(own[:OWN_COUNT_MAX])])


def decode_request(raw: bytes, network: NetworkId) -> list[PeerAddress]:
    """Return where an asker says that it listens; what this version cannot dial is left out.

    Raises:
        RemoteFault: it is not such a request, or for another network.
    """
    parts = decode(raw, bytes_max=REQUEST_BYTES_MAX)
    return _addresses(parts, "peers?", network, OWN_COUNT_MAX)


def encode_answer(network: NetworkId, told: Iterable[PeerAddress]) -> bytes:
    """Return an answer."""
    raw = encode(["peers", VERSION, network, [str(one) for one in told]])
    assert len(raw) <= ANSWER_BYTES_MAX
    return raw


def decode_answer(raw: bytes, network: NetworkId) -> list[PeerAddress]:
    """Return the addresses of an answer; what this version cannot dial is left out.

    Raises:
        RemoteFault: it is not such an answer, or for another network.
    """
    parts = decode(raw, bytes_max=ANSWER_BYTES_MAX)
    return _addresses(parts, "peers", network, TOLD_COUNT_MAX)


def may_tell(address: PeerAddress, near: Scope) -> bool:
    """Whether an address means the same to a peer that is itself so near, and is its business.

    Loopback ones are told to and taken from loopback only, private ones from private or loopback:
    a stranger must not make this node knock at the doors of its own network.
    """
    return address.scope is Scope.PUBLIC or near <= address.scope


def _addresses(
    parts: tuple[object, ...], tag: str, network: NetworkId, count_max: int
) -> list[PeerAddress]:
    if len(parts) != 4 or parts[0] != tag or natural(parts[1], "version") != VERSION:
        raise MalformedBytes(f"a frame of 4 fields that starts with {tag!r} is expected")
    if parts[2] != network:
        raise WrongNetwork(f"frame {tag!r} is for another network")
    rows = array(parts[3], "addresses")
    if len(rows) > count_max:
        raise MalformedBytes(f"{len(rows)} addresses; at most {count_max}")
    found: list[PeerAddress] = []
    for row in rows:
        text = field(row, str, "address")
        if len(text) > ADDRESS_CHARACTERS_MAX:
            raise MalformedBytes(f"an address of {len(text)} characters")
        try:
            found.append(parse_address(text))
        except BadAddress:
            continue  # of a later version perhaps, or nonsense: not dialled either way
    return found
