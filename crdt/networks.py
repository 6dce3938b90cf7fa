"""Networks: a name, and the rule by which accounts are admitted, both hashed into one id.

The text of a network, as it stands in settings and account files, is its name, and after it the
rule if there is one: `main`, or `main:work=14`. One text says everything, so whoever is told it
cannot be on the right network with the wrong rule.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from crdt.errors import UserFault
from crdt.ids import NetworkId
from crdt.stamps import BITS_MAX, SCRYPT_N, SCRYPT_P, SCRYPT_R, WorkRule
from crdt.wire import Value, encode, sha3

VERSION = 0
NETWORK_PATTERN = r"[a-z0-9][a-z0-9._-]{0,31}(:work=[1-9][0-9]?)?"
"""Of the whole text; that the bits are within their bound is `parse_network`'s to say."""
_WORK = ":work="


class BadNetwork(UserFault):
    """A text that names no network."""

    code = "bad-network"


@dataclass(frozen=True)
class Network:
    """A network to be on.

    Attributes:
        rule: What a genesis takes there; None on an open network, where stamps are not looked at.
    """

    name: str
    rule: WorkRule | None = None

    @cached_property
    def id(self) -> NetworkId:
        """The id that everything signed for the network carries."""
        return network_id(self.name, self.rule)

    @property
    def text(self) -> str:
        """The one text that `parse_network` makes this network of."""
        return self.name if self.rule is None else f"{self.name}{_WORK}{self.rule.bits}"


def network_id(name: str, rule: WorkRule | None = None) -> NetworkId:
    """Return the id of the network called `name` that admits accounts by a rule, or all."""
    assert ":" not in name, "a text with a rule is parse_network's"
    fields: list[Value] = ["hansa/network", VERSION, name]
    if rule is not None:
        fields.append(["scrypt", SCRYPT_N, SCRYPT_R, SCRYPT_P, rule.bits])
    return NetworkId(sha3(encode(fields)))


def parse_network(text: str) -> Network:
    """Return the network that a text means.

    Raises:
        BadNetwork: it is no network's text.
    """
    if not re.fullmatch(NETWORK_PATTERN, text):
        raise BadNetwork(
            f"{text[:80]!r} is no network; give its name of 1..32 of a-z 0-9 . _ -, and after it "
            f"the work that an account takes, if it takes any, for example main{_WORK}14"
        )
    name, divider, bits = text.partition(_WORK)
    if not divider:
        return Network(name)
    if int(bits) > BITS_MAX:
        raise BadNetwork(f"{text!r} asks for {bits} bits of work; at most {BITS_MAX} can be asked")
    return Network(name, WorkRule(int(bits)))
