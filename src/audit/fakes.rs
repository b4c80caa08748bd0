//! An audit store in memory that fails on request, and audit keys.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{
    crypto::{AuditKeys, Keyring},
    domain::{AuditEvent, AuditRow, ChainState, SignedPoint},
    ports::{
        AuditGroup, AuditPosition, AuditStore, ChainedRow, StoreError, StoredPublicKey, TimeSpan,
    },
};

/// The failure of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Returns an error and stores nothing.
    Refuse,
    /// Stores the group and returns an error.
    KeepAndReport,
    /// Never returns and stores nothing.
    Hang,
    /// Stores the group and never returns.
    KeepAndHang,
}

type Chain = (ChainState, Vec<AuditRow>);

/// Chains in memory.
#[derive(Default)]
pub(crate) struct MemoryAudit {
    chains: Mutex<BTreeMap<Arc<str>, Chain>>,
    failures: Mutex<VecDeque<Failure>>,
    /// The sizes of the stored groups.
    pub(super) groups: Mutex<Vec<usize>>,
}

impl MemoryAudit {
    pub(crate) fn fail(&self, failures: impl IntoIterator<Item = Failure>) {
        self.failures.lock().unwrap().extend(failures);
    }

    /// Returns all events of a chain.
    pub(crate) fn read(&self, chain: &str) -> Vec<AuditEvent> {
        let chains = self.chains.lock().unwrap();
        let Some((state, rows)) = chains.get(chain) else { return Vec::new() };
        let name = &state.head.point.chain;
        rows.iter().map(|row| AuditEvent::read(name, row).unwrap()).collect()
    }

    fn keep(&self, group: &AuditGroup) -> Result<(), StoreError> {
        let mut chains = self.chains.lock().unwrap();
        let fresh = ChainState { head: group.head.clone(), checkpoint: None };
        let chain = Arc::clone(&group.head.point.chain);
        let (state, rows) = chains.entry(chain).or_insert((fresh, Vec::new()));
        let first = usize::try_from(group.first_sequence()).unwrap() - 1;
        if let Some(kept) = rows.get(first..first + group.rows.len()) {
            return if *kept == *group.rows { Ok(()) } else { Err(StoreError::Conflict) };
        }
        if first != rows.len() {
            return Err(StoreError::Conflict);
        }
        rows.extend_from_slice(&group.rows);
        state.head = group.head.clone();
        self.groups.lock().unwrap().push(group.rows.len());
        Ok(())
    }
}

#[async_trait]
impl AuditStore for MemoryAudit {
    async fn append(&self, group: &AuditGroup) -> Result<(), StoreError> {
        let failure = self.failures.lock().unwrap().pop_front();
        let failed = Err(StoreError::Unavailable("requested failure".to_owned()));
        match failure {
            None => self.keep(group),
            Some(Failure::Refuse) => failed,
            Some(Failure::KeepAndReport) => self.keep(group).and(failed),
            Some(Failure::Hang) => std::future::pending().await,
            Some(Failure::KeepAndHang) => {
                self.keep(group)?;
                std::future::pending().await
            }
        }
    }

    async fn chains(&self) -> Result<Vec<ChainState>, StoreError> {
        Ok(self.chains.lock().unwrap().values().map(|(state, _)| state.clone()).collect())
    }

    async fn chain(&self, chain: &str) -> Result<Option<ChainState>, StoreError> {
        Ok(self.chains.lock().unwrap().get(chain).map(|(state, _)| state.clone()))
    }

    async fn events(&self, _: &str, _: i64, _: u32) -> Result<Vec<AuditRow>, StoreError> {
        unreachable!("not used by these tests")
    }

    async fn newest_events(
        &self,
        _: TimeSpan,
        _: Option<&AuditPosition>,
        _: u32,
    ) -> Result<Vec<ChainedRow>, StoreError> {
        unreachable!("not used by these tests")
    }

    async fn prune(&self, _: &SignedPoint) -> Result<(), StoreError> {
        unreachable!("not used by these tests")
    }

    async fn public_keys(&self) -> Result<Vec<StoredPublicKey>, StoreError> {
        Ok(Vec::new())
    }

    async fn store_public_key(&self, _: &StoredPublicKey) -> Result<(), StoreError> {
        unreachable!("not used by these tests")
    }
}

/// Returns the audit keys of a new keyring with one key.
pub(crate) fn keys() -> Arc<AuditKeys> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keyring.toml");
    let id = Keyring::generate(&path, Timestamp::UNIX_EPOCH).unwrap();
    Arc::new(AuditKeys::new(&Keyring::load(&path).unwrap(), &id).unwrap())
}
