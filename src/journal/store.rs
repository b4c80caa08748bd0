//! The port of the audit store.

use std::{
    io,
    sync::{Arc, PoisonError},
};

use async_trait::async_trait;

use super::{
    Journal, backward, error::WriteError, files, format::EncodedGroup, header, keys, maintenance,
    names, place::Place,
};
use crate::{
    domain::{AuditDamage, AuditRow, ChainState, SignedPoint, StoredPublicKey},
    ports::{
        AuditGroup, AuditPosition, AuditSpace, AuditStore, ChainedRow, EventBlock, StoreError,
        StoredHeads, StoredSegment, TimeSpan,
    },
};

#[async_trait]
impl AuditStore for Journal {
    async fn append(&self, group: &AuditGroup) -> Result<(), StoreError> {
        let encoded = EncodedGroup::new(group).map_err(WriteError::from)?;
        let chain = Arc::clone(&group.head.point.chain);
        self.worker()?.append(chain, encoded).await
    }

    async fn chains(&self) -> Result<Vec<ChainState>, StoreError> {
        self.read(|journal| {
            let mut states = Vec::new();
            for chain in journal.chains()? {
                let mut chain = chain.lock().unwrap_or_else(PoisonError::into_inner);
                chain.refresh(&journal.place)?;
                let begun = chain.begun();
                states.extend(chain.state(&journal.place)?.map(|state| (begun, state)));
            }
            // The names are in order already, for chains that began at one time.
            states.sort_by_key(|(begun, _)| *begun);
            Ok(states.into_iter().map(|(_, state)| state).collect())
        })
        .await
    }

    async fn chain(&self, chain: &str) -> Result<Option<ChainState>, StoreError> {
        self.read_chain(chain, |place, chain| chain.state(place)).await.map(Option::flatten)
    }

    async fn events(
        &self,
        chain: &str,
        after: i64,
        limit: u32,
    ) -> Result<Vec<AuditRow>, StoreError> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let rows = self.read_chain(chain, move |place, chain| chain.rows(place, after, limit));
        Ok(rows.await?.unwrap_or_default())
    }

    async fn event_block(
        &self,
        chain: &str,
        after: i64,
        heads: StoredHeads,
    ) -> Result<EventBlock, StoreError> {
        let block =
            self.read_chain(chain, move |place, chain| chain.event_block(place, after, heads));
        Ok(block.await?.unwrap_or_default())
    }

    fn damaged_places(&self) -> Vec<AuditDamage> {
        self.0.place.damaged_places()
    }

    async fn newest_events(
        &self,
        span: TimeSpan,
        after: Option<&AuditPosition>,
        limit: u32,
    ) -> Result<Vec<ChainedRow>, StoreError> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let after = after.cloned();
        self.read(move |journal| {
            backward::newest(&journal.place, journal.chains()?, span, after.as_ref(), limit)
        })
        .await
    }

    async fn prune(&self, checkpoint: &SignedPoint) -> Result<(), StoreError> {
        let encoded = header::encode_checkpoint(checkpoint).map_err(WriteError::from)?;
        let sequence = checkpoint.point.sequence;
        let pruned = self.read_chain(&checkpoint.point.chain, move |place, chain| {
            maintenance::prune(place, chain, sequence, &encoded)
        });
        if pruned.await?.unwrap_or_default() { Ok(()) } else { Err(StoreError::Conflict) }
    }

    async fn finish_prune(&self, chain: &str) -> Result<(), StoreError> {
        let pruned =
            self.read_chain(chain, |place, chain| maintenance::finish_prune(place, chain, false));
        pruned.await.map(drop)
    }

    async fn segments(&self) -> Result<Vec<StoredSegment>, StoreError> {
        self.read(maintenance::segments).await
    }

    async fn space(&self) -> Result<AuditSpace, StoreError> {
        self.read(|journal| maintenance::space(&journal.place)).await
    }

    async fn public_keys(&self) -> Result<Vec<StoredPublicKey>, StoreError> {
        let keys = self.read(|journal| keys::read(&*journal.place.files, &journal.place.directory));
        Ok(keys.await?.into_values().collect())
    }

    async fn store_public_key(&self, key: &StoredPublicKey) -> Result<(), StoreError> {
        let key = key.clone();
        self.read(move |journal| store_public_key(&journal.place, key)).await
    }
}

fn store_public_key(place: &Place, key: StoredPublicKey) -> io::Result<()> {
    let _lock = place.files.lock(&place.directory.join(names::PUBLIC_KEYS_LOCK), true)?;
    let mut keys = keys::read(&*place.files, &place.directory)?;
    keys.insert(key.key_id.clone(), key);
    let encoded = keys::encode(&keys)
        .ok_or_else(|| io::Error::other("there are too many public keys, or one is too long"))?;
    files::replace(&*place.files, &place.directory, names::PUBLIC_KEYS, &encoded)
}
