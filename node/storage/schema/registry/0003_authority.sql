-- Entries of an account's log behind its genesis, each after the one it stands on.
CREATE TABLE entry_v1 (
    number INTEGER PRIMARY KEY,
    account BLOB NOT NULL,
    id BLOB NOT NULL UNIQUE
);
CREATE INDEX entry_v1_account ON entry_v1 (account, number);

-- record_v1.heads are the fact heads; none when nothing shows.
-- tips: every effective head, 32 bytes each, sorted; NULL when they are the fact heads.
ALTER TABLE record_v1 ADD COLUMN tips BLOB;
ALTER TABLE record_v1 ADD COLUMN era BLOB NOT NULL DEFAULT x'';
ALTER TABLE record_v1 ADD COLUMN void_count INTEGER NOT NULL DEFAULT 0;
ALTER TABLE record_v1 ADD COLUMN card_count INTEGER NOT NULL DEFAULT 0;

-- Operations that were dropped because a checkpoint stands for them: not fetched again.
CREATE TABLE pruned_v1 (
    number INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    record BLOB NOT NULL
);
CREATE INDEX pruned_v1_record ON pruned_v1 (record);

-- Records whose state changed without an operation of theirs: the views look at them again.
CREATE TABLE stale_v1 (
    number INTEGER PRIMARY KEY,
    record BLOB NOT NULL UNIQUE
);
