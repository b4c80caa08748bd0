//! Watching the store while it is served: changes by other processes, and a file that is no longer the one in use.

use std::{sync::Arc, time::Duration};

use crate::{
    broker::Trail,
    ports::{Clock, StoreError, StoreWatch},
};

/// How often we look whether another process has changed the store. CONTRACT section 7 promises a second.
const LOOK_AT_STORE: Duration = Duration::from_millis(500);

/// Commands change the store beside us: what is remembered of it is dropped then. If its file is no longer the one that
/// was opened, everything that needs the audit trail is refused: what would be written is in no file that a restart
/// finds.
pub(super) async fn watch_store(
    store: Arc<dyn StoreWatch>,
    forget: impl Fn(),
    trail: Arc<Trail>,
    clock: Arc<dyn Clock>,
    mut seen: Option<i64>,
) {
    let mut lost = false;
    loop {
        // First what waits for no write that hangs.
        let looked = match store.check_file() {
            Ok(()) => store.external_version().await,
            Err(error) => Err(error),
        };
        lost = follow_file(&looked, lost, &trail);
        match looked {
            Ok(version) => {
                // Not known before: something may have been missed.
                if seen != Some(version) {
                    forget();
                }
                seen = Some(version);
            }
            Err(error) => {
                // What is remembered may be out of date: the emergency stop must not be missed.
                forget();
                seen = None;
                if !lost {
                    tracing::warn!(%error, "cannot see whether the store was changed by another process");
                }
            }
        }
        clock.sleep(LOOK_AT_STORE).await;
    }
}

/// Refuses calls while the file is not the one that was opened. Returns whether that is so.
fn follow_file(looked: &Result<i64, StoreError>, lost: bool, trail: &Trail) -> bool {
    let now = match looked {
        Err(StoreError::Lost(_)) => true,
        Ok(_) => false,
        // A file that cannot be looked at is not known to be the right one again.
        Err(_) => lost,
    };
    if now != lost {
        trail.refuse(now);
    }
    match looked {
        Err(StoreError::Lost(happened)) if !lost => tracing::error!(
            happened,
            "the store's file is no longer the one that was opened: all calls that need it are refused. To serve what \
             is there now, restart the gateway; stop the gateway before a backup is restored. To serve the former \
             file, put it back with the files beside it"
        ),
        Ok(_) if lost => {
            tracing::warn!("the store's file is the one that was opened again; calls are served");
        }
        _ => {}
    }
    now
}
