-- The replicated log in order of arrival, and what is derived from it one commit at a time.
CREATE TABLE meta_v1 (
    key TEXT PRIMARY KEY,
    value BLOB NOT NULL
);

-- n only grows and is never used twice: a receipt that is superseded leaves a gap.
CREATE TABLE item_v1 (
    n INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    kind INTEGER NOT NULL,
    record BLOB,
    raw BLOB NOT NULL
);
CREATE INDEX item_v1_record ON item_v1 (record) WHERE record IS NOT NULL;

CREATE TABLE account_v1 (
    number INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    root_key BLOB NOT NULL,
    recovery_key BLOB NOT NULL
);

-- heads: 32 bytes each, the winner first, the others sorted.
CREATE TABLE record_v1 (
    number INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    kind INTEGER NOT NULL,
    account BLOB NOT NULL,
    slug TEXT NOT NULL,
    heads BLOB NOT NULL,
    deleted INTEGER NOT NULL
);
CREATE INDEX record_v1_slug ON record_v1 (slug, account);
CREATE INDEX record_v1_account ON record_v1 (account);

-- Grow-only maxima: the item that stands in each slot.
CREATE TABLE slot_v1 (
    slot BLOB PRIMARY KEY,
    rank INTEGER NOT NULL,
    id BLOB NOT NULL,
    subject BLOB NOT NULL,
    period INTEGER NOT NULL
);
CREATE INDEX slot_v1_subject ON slot_v1 (subject, period);

-- How far we have read each peer's store.
CREATE TABLE cursor_v1 (
    peer TEXT PRIMARY KEY,
    epoch BLOB NOT NULL,
    n INTEGER NOT NULL
);
