//! Shortening a chain that no process writes and whose events are all before its checkpoint.
//!
//! Such a chain keeps its last segment, because its head proves where it ends. For that only the last group is needed.
//! Without the other groups, old events do not stay on the disk for as long as the directory exists. The new segment
//! supersedes the former one, as after a failed write, so each moment of a crash leaves a valid chain.

use std::{io, sync::Arc};

use super::{
    chain::Chain,
    compressed, files,
    header::{HEADER_BYTES, Header},
    names,
    place::Place,
    segment::GroupReader,
};
use crate::domain::{AuditSignature, ChainPoint};

/// Adds a segment with only the last group, if the last segment has more groups and all of them are before the
/// checkpoint. Returns whether it did. The caller has verified the checkpoint.
pub(super) fn shorten(place: &Place, chain: &mut Chain) -> io::Result<bool> {
    if checkpoint_at_head(place, chain)?.is_none() {
        return Ok(false);
    }
    // A process that writes the chain holds the first lock, one that prunes or compresses it the second.
    let lock = |name| place.files.lock(&chain.directory.join(name), false);
    let (Some(_writing), Some(_pruning)) = (lock(names::CHAIN_LOCK)?, lock(names::PRUNE_LOCK)?)
    else {
        return Ok(false);
    };
    chain.refresh(place)?;
    chain.load_newest(place)?;
    let Some(checkpoint) = checkpoint_at_head(place, chain)? else { return Ok(false) };
    let Some((first, content)) = last_group(place, chain, &checkpoint)? else { return Ok(false) };
    files::replace(&*place.files, &chain.directory, &names::segment_name(first), &content)?;
    chain.refresh(place)?;
    Ok(true)
}

/// Returns the checkpoint, if it is at the last event.
fn checkpoint_at_head(place: &Place, chain: &mut Chain) -> io::Result<Option<ChainPoint>> {
    let Some(state) = chain.state(place)? else { return Ok(None) };
    let head = state.head.point.sequence;
    let checkpoint = state.checkpoint.map(|checkpoint| checkpoint.point);
    Ok(checkpoint.filter(|checkpoint| checkpoint.sequence == head))
}

/// Returns the number of the last group's first event, and a segment with this group; `None` if there is no other group
/// in the segment, or if the segment is damaged.
fn last_group(
    place: &Place,
    chain: &Chain,
    checkpoint: &ChainPoint,
) -> io::Result<Option<(i64, Vec<u8>)>> {
    let Some((segment, extent)) = chain.newest() else { return Ok(None) };
    let alone = extent.last_group == HEADER_BYTES as u64;
    if alone || !segment.trusted || chain.damage_at_end().is_some() {
        return Ok(None);
    }
    let file = compressed::open(&*place.files, &segment.path)?;
    let Header { incarnation, begun, created, .. } = segment.header;
    let mut reader = GroupReader::new(&*file, incarnation);
    let group = reader.group_at(extent.last_group)?;
    let proved = group
        .filter(|group| (group.last, group.last_hash) == (checkpoint.sequence, checkpoint.hash));
    let Some(group) = proved else { return Ok(None) };
    let key_id = place.signer.active_key_id();
    let mut header = Header {
        chain: Arc::clone(&chain.name),
        incarnation,
        first: group.first,
        follows: extent.before_last.hash,
        begun,
        created,
        latest: extent.before_last.latest,
        former_earliest: extent.earliest,
        signature: AuditSignature { key_id: Arc::clone(&key_id), bytes: Vec::new() },
    };
    let message = header.message().map_err(io::Error::other)?;
    header.signature.bytes = place.signer.sign(&key_id, &message).map_err(io::Error::other)?;
    let mut content = header.encode().map_err(io::Error::other)?;
    content.extend_from_slice(group.bytes);
    Ok(Some((group.first, content)))
}
