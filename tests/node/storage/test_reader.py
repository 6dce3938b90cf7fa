"""An account is read again when an entry was added, and only then."""

from __future__ import annotations

from pathlib import Path

from crdt import Replica
from node.storage.reader import SqliteReader
from node.storage.sqlite import open_storage
from tests.crdt.replicas import accept
from tests.crdt.test_accounts import add
from tests.writers import NETWORK, AnyBody, LaneReceipts, Writer

ANN = Writer("ann")


def test_an_account_is_remembered_until_it_grows(tmp_path: Path) -> None:
    storage = open_storage(tmp_path / "log.db", NETWORK)
    replica = Replica(NETWORK, storage, AnyBody(), LaneReceipts())
    reader = SqliteReader(tmp_path / "log.db", NETWORK)
    assert reader.account(ANN.account) is None
    accept(replica, ANN.genesis)
    first = reader.account(ANN.account)
    assert first is not None
    assert reader.account(ANN.account) is first
    granted = add(ANN.genesis, 1)
    accept(replica, granted)
    second = reader.account(ANN.account)
    assert second is not None
    assert [entry.id for entry in second.entries] == [ANN.genesis.id, granted.id]
    assert reader.account(ANN.account) is second
    accept(replica, add(ANN.genesis, 2))
    assert reader.account(ANN.account) == storage.account(ANN.account)
    reader.close()
    storage.close()
