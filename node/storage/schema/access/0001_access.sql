-- API keys that programs call models with. A key is shown once; only its hash is kept.
CREATE TABLE api_keys_v1 (
    id         TEXT    PRIMARY KEY,
    name       TEXT    NOT NULL,
    hash       BLOB    NOT NULL UNIQUE,
    created_s  INTEGER NOT NULL,
    used_s     INTEGER,
    revoked_s  INTEGER
) STRICT;
