//! The promises of every audit store, on real files and as different processes.

use std::sync::Arc;

use async_trait::async_trait;
use tempfile::TempDir;

use super::{Journal, Role, ports, promises, settings};
use crate::ports::{AuditStore, SystemClock};

/// The location of a store of audit events. Each opening acts like that of another process.
#[async_trait]
pub(super) trait AuditLocation: Send + Sync {
    /// Opens the store.
    async fn open_audit(&self) -> Arc<dyn AuditStore>;
}

struct Folder {
    directory: TempDir,
    role: Role,
}

impl Folder {
    fn new(role: Role) -> Self {
        Self { directory: tempfile::tempdir().unwrap(), role }
    }
}

#[async_trait]
impl AuditLocation for Folder {
    async fn open_audit(&self) -> Arc<dyn AuditStore> {
        let mut ports = ports();
        ports.clock = Arc::new(SystemClock);
        let settings = settings(self.directory.path(), self.role);
        Arc::new(Journal::open(settings, ports).unwrap())
    }
}

macro_rules! audit_contract {
    ($module:ident, $role:expr; $($name:ident),+ $(,)?) => {
        mod $module {
            use super::*;
            $(#[tokio::test]
            async fn $name() {
                promises::$name(&Folder::new($role)).await;
            })+
        }
    };
}

audit_contract!(of_commands, Role::Command;
    a_group_is_kept_with_its_head,
    blocks_have_the_events_of_a_chain_in_order,
    an_append_can_be_repeated,
    an_append_that_does_not_follow_the_head_is_a_conflict,
    of_two_who_append_one_wins,
    newest_events_come_first_and_pages_go_on_where_they_ended,
    prune_removes_what_is_old_and_keeps_the_head,
    a_public_key_is_kept_in_place_of_the_former,
);

audit_contract!(of_a_server, Role::Server;
    a_group_is_kept_with_its_head,
    blocks_have_the_events_of_a_chain_in_order,
    an_append_can_be_repeated,
    an_append_that_does_not_follow_the_head_is_a_conflict,
    newest_events_come_first_and_pages_go_on_where_they_ended,
    prune_removes_what_is_old_and_keeps_the_head,
    a_public_key_is_kept_in_place_of_the_former,
);
