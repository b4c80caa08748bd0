//! SQL of the audit trail.

/// Adds a group to its chain: one statement that is a transaction by itself, so that it is one hand-over to the
/// driver's thread and one answer, whatever the size of the group. [`PREPARE_APPEND`] says what it does.
pub(super) const APPEND: &str =
    "INSERT INTO audit_groups VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";

/// What a connection needs before it can append: it is the connection's own, and nothing of it is in the file.
///
/// First the head: a first group must begin with 1, later ones must follow it; else nothing is done, and the statement
/// fails. Then the events: `places` has sequence, time, place and length of each, `bytes` the hash and the body of each
/// in a row.
pub(super) const PREPARE_APPEND: &str = "CREATE TEMP VIEW IF NOT EXISTS audit_groups \
     (chain, sequence, hash, time, key_id, signature, first_sequence, places, bytes) \
     AS SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL WHERE FALSE; \
     CREATE TEMP TRIGGER IF NOT EXISTS audit_append INSTEAD OF INSERT ON audit_groups BEGIN \
     INSERT INTO audit_chains (chain, sequence, hash, time, key_id, signature) \
     SELECT new.chain, new.sequence, new.hash, new.time, new.key_id, new.signature \
     WHERE new.first_sequence = 1 OR EXISTS (SELECT 1 FROM audit_chains WHERE chain = new.chain) \
     ON CONFLICT (chain) DO UPDATE SET sequence = excluded.sequence, hash = excluded.hash, \
     time = excluded.time, key_id = excluded.key_id, signature = excluded.signature \
     WHERE audit_chains.sequence = new.first_sequence - 1; \
     SELECT raise(ABORT, 'the group does not follow the head') WHERE changes() = 0; \
     INSERT INTO audit_events (chain_id, sequence, time, hash, body) \
     SELECT (SELECT id FROM audit_chains WHERE chain = new.chain), value ->> 0, value ->> 1, \
     substr(new.bytes, value ->> 2, 32), substr(new.bytes, (value ->> 2) + 32, value ->> 3) \
     FROM json_each(new.places); END";

pub(super) const HASHES: &str = "SELECT sequence, hash FROM audit_events \
     WHERE chain_id = (SELECT id FROM audit_chains WHERE chain = ?1) AND sequence BETWEEN ?2 AND ?3 \
     ORDER BY sequence";

pub(super) const CHAINS: &str = "SELECT chain, sequence, hash, time, key_id, signature, \
     checkpoint_sequence, checkpoint_hash, checkpoint_time, checkpoint_key_id, checkpoint_signature \
     FROM audit_chains ORDER BY id";

pub(super) const CHAIN: &str = "SELECT chain, sequence, hash, time, key_id, signature, \
     checkpoint_sequence, checkpoint_hash, checkpoint_time, checkpoint_key_id, checkpoint_signature \
     FROM audit_chains WHERE chain = ?1";

pub(in crate::store::sqlite) const EVENTS: &str = "SELECT sequence, time, hash, body FROM audit_events \
     WHERE chain_id = (SELECT id FROM audit_chains WHERE chain = ?1) AND sequence > ?2 \
     ORDER BY sequence LIMIT ?3";

/// The name of an event's chain; empty if the chain's own row is gone, which verification finds.
pub(in crate::store::sqlite) const NEWEST: &str = "SELECT sequence, time, hash, body, \
     ifnull((SELECT chain FROM audit_chains WHERE id = chain_id), '') AS chain \
     FROM audit_events WHERE time BETWEEN ?1 AND ?2 \
     ORDER BY time DESC, chain_id DESC, sequence DESC LIMIT ?3";

/// An unknown chain of the position counts as older than all others.
pub(in crate::store::sqlite) const NEWEST_AFTER: &str = "SELECT sequence, time, hash, body, \
     ifnull((SELECT chain FROM audit_chains WHERE id = chain_id), '') AS chain \
     FROM audit_events WHERE time BETWEEN ?1 AND min(?2, ?4) AND (time, chain_id, sequence) < \
     (?4, ifnull((SELECT id FROM audit_chains WHERE chain = ?5), 0), ?6) \
     ORDER BY time DESC, chain_id DESC, sequence DESC LIMIT ?3";

pub(super) const PUT_CHECKPOINT: &str = "UPDATE audit_chains SET checkpoint_sequence = ?2, checkpoint_hash = ?3, \
     checkpoint_time = ?4, checkpoint_key_id = ?5, checkpoint_signature = ?6 \
     WHERE chain = ?1 AND sequence >= ?2 AND ifnull(checkpoint_sequence, 0) < ?2 RETURNING id";

pub(super) const DELETE_EVENTS: &str =
    "DELETE FROM audit_events WHERE chain_id = ?1 AND sequence <= ?2";

pub(super) const KEYS: &str =
    "SELECT key_id, public_key, certified_by, certificate FROM audit_keys ORDER BY key_id";

pub(super) const KEEP_KEY: &str = "INSERT INTO audit_keys (key_id, public_key, certified_by, certificate) \
     VALUES (?1, ?2, ?3, ?4) ON CONFLICT (key_id) DO UPDATE SET public_key = excluded.public_key, \
     certified_by = excluded.certified_by, certificate = excluded.certificate";
