-- How the caller of a consent proved who it is: policy is asked again when the person comes back. Of a consent that was
-- begun before, nobody knows: it permits nothing any more.
ALTER TABLE consents ADD COLUMN caller_method TEXT NOT NULL DEFAULT '';
ALTER TABLE consents ADD COLUMN caller_issuer TEXT;
