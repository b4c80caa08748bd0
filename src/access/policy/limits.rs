//! Limits of the policy and entities files.

/// Maximum size of a policy file and of an entities file, in bytes.
pub const MAX_POLICY_FILE_BYTES: usize = 1024 * 1024;

/// Maximum number of policies in a file.
pub const MAX_POLICIES: usize = 10_000;

/// Maximum number of entities in an entities file.
pub const MAX_ENTITIES: usize = 100_000;
