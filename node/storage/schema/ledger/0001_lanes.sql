-- Orders, calls, claims and agreed receipts of this node, as consumer (role 1) and provider (role 2).

CREATE TABLE lanes_v1 (
    role INTEGER NOT NULL,
    lane BLOB NOT NULL,                 -- id of the lane
    fields BLOB NOT NULL,               -- the lane, canonical
    epoch INTEGER NOT NULL,
    record BLOB NOT NULL,
    other BLOB NOT NULL,                -- the other party's account
    peer TEXT NOT NULL,                 -- the other party's node, to settle with
    agreed BLOB,                        -- the highest agreed receipt, as a replicated item
    published INTEGER NOT NULL DEFAULT 0,   -- the replicated log holds it
    delivered INTEGER NOT NULL DEFAULT 1,   -- the provider holds it
    forked INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (role, lane)
) STRICT;

CREATE INDEX lanes_v1_epoch ON lanes_v1 (role, epoch);

CREATE TABLE calls_v1 (
    n INTEGER PRIMARY KEY,              -- order of arrival
    role INTEGER NOT NULL,
    lane BLOB NOT NULL,
    nonce BLOB NOT NULL,                -- the ticket's
    order_hash BLOB NOT NULL,
    call BLOB NOT NULL,                 -- the raw receipt, canonical
    state INTEGER NOT NULL,             -- 0 open, 1 settled, 2 disputed
    UNIQUE (role, lane, nonce)
) STRICT;

CREATE INDEX calls_v1_state ON calls_v1 (state, role, lane);
CREATE INDEX calls_v1_order ON calls_v1 (role, order_hash);

CREATE TABLE claims_v1 (
    role INTEGER NOT NULL,              -- 1: seen from a provider, 2: made here
    lane BLOB NOT NULL,
    sequence INTEGER NOT NULL,
    claim BLOB NOT NULL,                -- receipt and the provider's signature
    calls BLOB NOT NULL,                -- what it covers, canonical
    PRIMARY KEY (role, lane, sequence)
) STRICT;

CREATE TABLE orders_v1 (
    hash BLOB PRIMARY KEY,
    role INTEGER NOT NULL,
    raw BLOB NOT NULL,
    expires_s INTEGER NOT NULL
) STRICT;

CREATE TABLE disputes_v1 (
    role INTEGER NOT NULL,
    lane BLOB NOT NULL,
    nonce BLOB NOT NULL,
    theirs BLOB NOT NULL,
    mine BLOB,
    PRIMARY KEY (role, lane, nonce)
) STRICT;

CREATE TABLE forks_v1 (
    lane BLOB NOT NULL,
    sequence INTEGER NOT NULL,
    first BLOB NOT NULL,                -- two claims with one sequence number: the proof
    second BLOB NOT NULL,
    PRIMARY KEY (lane, sequence)
) STRICT;
