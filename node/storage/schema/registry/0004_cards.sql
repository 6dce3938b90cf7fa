-- What each record's card says, derived from its operations; dropping all rows rebuilds them.
-- last_n and entry_count: the record's newest operation and the number of entries of its account
-- that it was derived from. count: how many parts the snapshot of the document holds.
CREATE TABLE card_v1 (
    number INTEGER PRIMARY KEY,
    record BLOB NOT NULL UNIQUE,
    last_n INTEGER NOT NULL,
    entry_count INTEGER NOT NULL,
    content BLOB NOT NULL,
    count INTEGER NOT NULL,
    snapshot BLOB NOT NULL
);
