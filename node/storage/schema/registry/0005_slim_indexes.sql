-- Indexes on random ids are what an insert costs most: two become small ones.
-- item_v1.record_number is record_v1.number: numbers of new records only grow.
ALTER TABLE item_v1 ADD COLUMN record_number INTEGER;
UPDATE item_v1 SET record_number = (SELECT number FROM record_v1 WHERE record_v1.id = item_v1.record)
WHERE record IS NOT NULL;
DROP INDEX item_v1_record;
CREATE INDEX item_v1_record_number ON item_v1 (record_number) WHERE record_number IS NOT NULL;
DROP INDEX record_v1_slug;
DROP INDEX record_v1_account;
CREATE INDEX record_v1_account_slug ON record_v1 (account, slug);
