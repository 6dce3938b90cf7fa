-- What is stored of each account: its operations and their bytes, for its quota.
-- passed_over: something of it came and was not taken, because the quota was used up.
ALTER TABLE account_v1 ADD COLUMN operation_count INTEGER NOT NULL DEFAULT 0;
ALTER TABLE account_v1 ADD COLUMN byte_count INTEGER NOT NULL DEFAULT 0;
ALTER TABLE account_v1 ADD COLUMN passed_over INTEGER NOT NULL DEFAULT 0;
UPDATE account_v1 SET (operation_count, byte_count) = (
    SELECT count(*), coalesce(sum(length(item_v1.raw)), 0)
    FROM record_v1 JOIN item_v1 ON item_v1.record_number = record_v1.number
    WHERE record_v1.account_number = account_v1.number
);
CREATE INDEX account_v1_passed_over ON account_v1 (number) WHERE passed_over;
