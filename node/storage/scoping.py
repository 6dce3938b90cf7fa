"""Scopes in SQL: which rows of the log are of the kinds and owners that somebody wants."""

from __future__ import annotations

from crdt import ItemKind, Scope

_OPERATION = int(ItemKind.OPERATION)


def in_scope(
    scope: Scope | None, *, record: str = "r.number = i.record_number"
) -> tuple[str, list[bytes]]:
    """Return a condition on a row `i` of items, and the values of its parameters.

    True of everything that is no operation.

    Args:
        record: What makes a row `r` of records that of the item.
    """
    if scope is None or scope.is_all:
        return "1", []
    kinds = ", ".join(str(int(kind)) for kind in sorted(scope.kinds))
    wanted, values = f"r.kind IN ({kinds})", []
    if scope.owners is not None:
        values = [bytes(owner) for owner in sorted(scope.owners)]
        wanted += f" AND r.account IN ({', '.join('?' * len(values))})"
    found = f"SELECT 1 FROM record_v1 AS r WHERE {record} AND {wanted}"  # noqa: S608 - ours
    return f"(i.kind <> {_OPERATION} OR EXISTS ({found}))", values
