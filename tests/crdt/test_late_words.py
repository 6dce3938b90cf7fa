"""What a root or a keep list says counts in every order of arrival.

Each example once made two replicas with one set show two states.
"""

from __future__ import annotations

import itertools

from crdt import (
    Capability,
    EntryType,
    Item,
    ItemId,
    OperationId,
    PublicKey,
    SigningKey,
    make_entry,
)
from tests.crdt.replicas import accept, new_replica, registers
from tests.writers import NETWORK, Writer, key_of

ANN = Writer("ann")
RECOVERY, BOB, NEW_ROOT = key_of("ann recovery"), key_of("bob"), key_of("ann 2")

NOTHING = Capability(0)


def entry(
    type_: EntryType,
    after: Item,
    signer: SigningKey,
    key: PublicKey,
    *keep: Item,
    capabilities: Capability = NOTHING,
) -> Item:
    return make_entry(
        network=NETWORK,
        type=type_,
        account=ANN.account,
        predecessor=ItemId(after.id),
        signer=signer,
        key=key,
        capabilities=capabilities,
        keep=tuple(OperationId(one.id) for one in keep),
    )


def states(*items: Item) -> set[str]:
    """The state of ann's record after every order of the last four, one by one."""
    found: set[str] = set()
    for order in itertools.permutations(items[-4:]):
        replica = new_replica()
        accept(replica, ANN.genesis, *items[:-4])
        for item in order:
            accept(replica, item)
        found.add(repr(registers(replica)[ANN.record()]))
    return found


GRANT = entry(
    EntryType.ADD_KEY, ANN.genesis, ANN.key, BOB.public, capabilities=Capability.MAINTAINER
)


def by_bob(body: bytes, *cites: Item) -> Item:
    return ANN.put(body, key=BOB, account_heads=(GRANT.id,), cites=cites)


def test_a_keep_list_that_names_what_a_retired_root_wrote() -> None:
    """That is void itself, and passes on what the list is about."""
    bobs = by_bob(b"bob's")
    above = ANN.put(b"above", account_heads=(GRANT.id,), cites=(bobs,))
    new = entry(EntryType.ROTATE_ROOT, GRANT, RECOVERY, NEW_ROOT.public)
    gone = entry(EntryType.REVOKE, new, NEW_ROOT, BOB.public, above)
    assert len(states(GRANT, bobs, above, new, gone)) == 1


def test_a_keep_list_that_names_what_was_written_on_a_lost_branch() -> None:
    first = ANN.put(b"first")
    lost = entry(
        EntryType.ADD_KEY, ANN.genesis, ANN.key, BOB.public, capabilities=Capability.EDITOR
    )
    second = ANN.put(b"second", account_heads=(lost.id,), cites=(first,))
    new = entry(EntryType.ROTATE_ROOT, ANN.genesis, RECOVERY, NEW_ROOT.public, second)
    assert len(states(first, lost, second, new)) == 1


def test_a_root_of_a_type_nobody_knows_endorses() -> None:
    bobs = by_bob(b"bob's")
    gone = entry(EntryType.REVOKE, GRANT, ANN.key, BOB.public)
    odd = ANN.write(
        77,  # type: ignore[arg-type]
        b"from the future",
        account_heads=(GRANT.id,),
        cites=(bobs,),
        depth=2,
    )
    first = ANN.put(b"beside", account_heads=(GRANT.id,))
    assert len(states(GRANT, bobs, gone, odd, first)) == 1
