"""What can go wrong, in three kinds: a peer's fault, our caller's fault, and the world's.

Programmer errors are asserts, not classes. Every message names the thing, the value and the next
step. `code` is stable and public: `node/api/problems.py` maps it to HTTP statuses and exit codes.
"""

from __future__ import annotations


class HansaError(Exception):
    """Root of every error this project raises on purpose."""

    code = "error"


class RemoteFault(HansaError):
    """A peer broke the rules: drop what it sent, count it, keep running."""

    code = "remote-fault"


class UserFault(HansaError):
    """Our caller asked for something impossible: tell them what to change."""

    code = "user-fault"


class WorldFault(HansaError):
    """What the world does to us: retry, degrade, or say what to mend."""

    code = "world-fault"


class MalformedBytes(RemoteFault):
    """Bytes that are not the canonical encoding of the shape that was expected."""

    code = "malformed-bytes"


class BadSignature(RemoteFault):
    """A signature does not verify under the key that is named."""

    code = "bad-signature"


class WrongNetwork(RemoteFault):
    """Something signed for another network."""

    code = "wrong-network"


class CausalFault(RemoteFault):
    """An operation contradicts what it cites (check B): invalid for everybody, for ever."""

    code = "causal-fault"


class NotAuthorised(RemoteFault):
    """A key wrote what its account does not let it write."""

    code = "not-authorised"


class NotAdmitted(RemoteFault):
    """A genesis without the work that its network asks for: it founds no account there."""

    code = "not-admitted"


class MissingItems(HansaError):
    """Something cannot be judged before other items are known."""

    code = "missing-items"

    def __init__(self, ids: tuple[bytes, ...]) -> None:
        assert ids
        self.ids = ids
        super().__init__(f"waits for {len(ids)} items that are not known here yet")


class MissingAccount(MissingItems):
    """An item names accounts whose genesis is not known here yet; an account's id is its item's."""

    code = "missing-account"


class OverQuota(UserFault):
    """An account has used up what this node stores of it, or takes of it in a day.

    Not a word about whether the item is valid: another node may take it, and this one later.
    """

    code = "over-quota"


class CardEngineFault(WorldFault):
    """The document engine failed on what passed every check: a defect, of ours or of its."""

    code = "card-engine"


class CardFull(UserFault):
    """An edit does not fit into the card of this era any more."""

    code = "card-full"


class EditTooLarge(UserFault):
    """An edit does not fit into one operation; in two or more it may."""

    code = "edit-too-large"
