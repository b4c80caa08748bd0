//! An audit store in memory that fails as it is told, and keys.

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
        AuditGroup, AuditPosition, AuditStore, ChainedRow, KeptPublicKey, StoreError, TimeSpan,
    },
};

/// What an append does instead of succeeding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::broker) enum Failure {
    /// Fails, and keeps nothing.
    Refuse,
    /// Keeps the group, and reports a failure.
    KeepAndReport,
    /// Never answers, and keeps nothing.
    Hang,
    /// Keeps the group, and never answers.
    KeepAndHang,
}

type Chain = (ChainState, Vec<AuditRow>);

/// Chains in memory.
#[derive(Default)]
pub(in crate::broker) struct MemoryAudit {
    chains: Mutex<BTreeMap<Arc<str>, Chain>>,
    failures: Mutex<VecDeque<Failure>>,
    /// The sizes of the groups that were kept.
    pub(super) groups: Mutex<Vec<usize>>,
}

impl MemoryAudit {
    pub(in crate::broker) fn fail(&self, failures: impl IntoIterator<Item = Failure>) {
        self.failures.lock().unwrap().extend(failures);
    }

    /// All events of a chain.
    pub(in crate::broker) fn read(&self, chain: &str) -> Vec<AuditEvent> {
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
        let failed = Err(StoreError::Unavailable("as told".to_owned()));
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
        unreachable!("not needed here")
    }

    async fn newest_events(
        &self,
        _: TimeSpan,
        _: Option<&AuditPosition>,
        _: u32,
    ) -> Result<Vec<ChainedRow>, StoreError> {
        unreachable!("not needed here")
    }

    async fn prune(&self, _: &SignedPoint) -> Result<(), StoreError> {
        unreachable!("not needed here")
    }

    async fn public_keys(&self) -> Result<Vec<KeptPublicKey>, StoreError> {
        Ok(Vec::new())
    }

    async fn keep_public_key(&self, _: &KeptPublicKey) -> Result<(), StoreError> {
        unreachable!("not needed here")
    }
}

/// The keys of a new keyring of one.
pub(in crate::broker) fn keys() -> Arc<AuditKeys> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keyring.toml");
    let id = Keyring::generate(&path, Timestamp::UNIX_EPOCH).unwrap();
    Arc::new(AuditKeys::new(&Keyring::load(&path).unwrap(), &id).unwrap())
}
