"""Which record a person means: an id, `owner/slug`, a local account's name, or just a slug."""

from __future__ import annotations

from collections.abc import Callable, Collection

from crdt import AccountId, NetworkId, RecordId, RecordKind, UserFault, is_slug, record_id

HEX = frozenset("0123456789abcdef")
ID_DIGITS = 64


class BadReference(UserFault):
    """What was given does not name a record."""

    code = "bad-reference"


def spelled_out(
    text: str, *, accounts: Collection[str], account_of: Callable[[str | None], AccountId]
) -> str:
    """Return a reference as the node takes it: an id, or `OWNER_HEX/slug`.

    Args:
        accounts: Names of the accounts on this machine, which may stand for the owner.
        account_of: Returns an account's id by its name; None asks for the one in use.

    Raises:
        BadReference: it cannot name a record.
    """
    bare, at, version = text.partition("@")
    owner, slash, slug = bare.rpartition("/")
    if not slash:
        if len(bare) == ID_DIGITS and set(bare) <= HEX:
            return text
        if not is_slug(bare):
            raise BadReference(
                f"{text!r} names no record; give its id (64 hex digits), owner/slug, or the slug"
                " of a record of yours"
            )
        return f"{account_of(None).hex()}/{bare}{at}{version}"
    if owner in accounts:
        return f"{account_of(owner).hex()}/{slug}{at}{version}"
    if len(owner) < 8 or not set(owner) <= HEX:
        raise BadReference(
            f"{owner!r} is no account of yours ({', '.join(sorted(accounts)) or 'you have none'});"
            " name another's by the first 8 or more digits of its id"
        )
    return text


def id_of(text: str, network: NetworkId, kind: RecordKind) -> RecordId | None:
    """Return the id of a spelled-out reference, or None if only the node can tell."""
    bare = text.partition("@")[0]
    owner, slash, slug = bare.rpartition("/")
    if not slash:
        return RecordId(bytes.fromhex(bare))
    if len(owner) != ID_DIGITS or not is_slug(slug):
        return None
    return record_id(network, kind, AccountId(bytes.fromhex(owner)), slug)
