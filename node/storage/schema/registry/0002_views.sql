-- Derived from the winners of record_v1; dropping all rows and projected_n rebuilds them.
CREATE TABLE view_v1 (
    number INTEGER PRIMARY KEY,
    kind INTEGER NOT NULL,
    account BLOB NOT NULL,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL,
    tags TEXT NOT NULL,
    description TEXT NOT NULL,
    type TEXT NOT NULL,
    framework TEXT NOT NULL,
    license TEXT NOT NULL,
    quantization TEXT,
    status TEXT NOT NULL,
    parameters INTEGER NOT NULL,
    context INTEGER NOT NULL,
    price INTEGER,
    requires_gpu INTEGER NOT NULL,
    min_vram_gb INTEGER NOT NULL,
    min_memory_mb INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);
CREATE INDEX view_v1_name ON view_v1 (name_key, number);
CREATE INDEX view_v1_account ON view_v1 (account, number);
CREATE INDEX view_v1_updated ON view_v1 (updated_at, number);

-- The values of properties that are sets.
CREATE TABLE mark_v1 (
    property TEXT NOT NULL,
    value TEXT NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (property, value, number)
) WITHOUT ROWID;
CREATE INDEX mark_v1_number ON mark_v1 (number);

CREATE VIRTUAL TABLE words_v1 USING fts5 (
    name, tags, description,
    content = 'view_v1', content_rowid = 'number',
    tokenize = 'unicode61 remove_diacritics 2', prefix = '2 3'
);
