-- Refreshes that failed, one after the other, since the grant last gave an access token or the person last consented.
ALTER TABLE grants ADD COLUMN failure_count INTEGER NOT NULL DEFAULT 0 CHECK (failure_count >= 0);
ALTER TABLE grants ADD COLUMN failing_since INTEGER CHECK ((failing_since IS NULL) = (failure_count = 0));

-- A grant that failed after it last worked has failed at least once.
UPDATE grants SET failure_count = 1, failing_since = last_failure_time
WHERE last_failure_time IS NOT NULL AND (last_refresh_time IS NULL OR last_failure_time > last_refresh_time);
