-- The index of an account's records was on its random id and each slug; small numbers do, because
-- the record that a slug names is found by its id, which follows from account, kind and slug.
-- record_v1.account_number is account_v1.number.
ALTER TABLE record_v1 ADD COLUMN account_number INTEGER;
UPDATE record_v1 SET account_number = (SELECT number FROM account_v1 WHERE account_v1.id = record_v1.account);
DROP INDEX record_v1_account_slug;
CREATE INDEX record_v1_account_number ON record_v1 (account_number);
