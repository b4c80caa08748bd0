//! Control of the people of a tenant, its Web API and its webhooks.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Control, ControlError};
use crate::lock::{read, write};
use crate::people::{self, Associate, Oddities, People, SYSTEM_ASSOCIATE_ID, changed_columns};
use crate::webhooks::{AssociateEvent, NewWebhook, WebhookState};

impl Control {
    /// Returns the current people of a tenant.
    ///
    /// # Errors
    ///
    /// When there is no such tenant.
    pub fn people(&self, tenant: &str) -> Result<Arc<People>, ControlError> {
        let world = read(&self.platform.world);
        let found = world.tenant(tenant).map(|tenant| Arc::clone(&tenant.people));
        found.ok_or_else(|| ControlError::UnknownTenant(tenant.to_owned()))
    }

    /// Replaces the people of a tenant. No webhook is sent.
    ///
    /// # Errors
    ///
    /// When there is no such tenant.
    pub fn set_people(&self, tenant: &str, people: People) -> Result<(), ControlError> {
        write(&self.platform.world).tenant_mut(tenant)?.people = Arc::new(people);
        Ok(())
    }

    /// Replaces the people of a tenant with generated ones: see [`people::generate`].
    ///
    /// # Errors
    ///
    /// When there is no such tenant.
    pub fn generate_people(
        &self,
        tenant: &str,
        count: usize,
        seed: u64,
    ) -> Result<(), ControlError> {
        self.set_people(tenant, people::generate(tenant, count, seed))
    }

    /// Adds an associate, and sends `associate.created`.
    ///
    /// # Errors
    ///
    /// When there is no such tenant, or the associate's id is in use.
    pub fn add_associate(&self, tenant: &str, new: &Associate) -> Result<(), ControlError> {
        self.change_people(tenant, |people| {
            if people.associates.contains_key(&new.id) {
                return Err(ControlError::Exists(format!("associate {}", new.id)));
            }
            people.associates.insert(new.id, new.clone());
            Ok(())
        })?;
        self.send_webhooks(tenant, AssociateEvent::Created, &[], new)
    }

    /// Changes an associate, and sends `associate.changed`. Keeps its id, and records who changed
    /// it and when.
    ///
    /// # Errors
    ///
    /// When there is no such tenant or associate.
    pub fn change_associate(
        &self,
        tenant: &str,
        id: u32,
        change: impl FnOnce(&mut Associate),
    ) -> Result<(), ControlError> {
        let now = iso(self.now());
        let mut states = None;
        self.change_people(tenant, |people| {
            let associate = people.associates.get_mut(&id);
            let associate = associate.ok_or(ControlError::UnknownAssociate(id))?;
            let old = associate.clone();
            change(associate);
            associate.id = id;
            associate.updated = now;
            associate.updated_by = SYSTEM_ASSOCIATE_ID;
            states = Some((old, associate.clone()));
            Ok(())
        })?;
        let (old, new) = states.ok_or(ControlError::UnknownAssociate(id))?;
        let mut changes = changed_columns(&old, &new);
        changes.extend(["updated", "updated_associate_id"]);
        self.send_webhooks(tenant, AssociateEvent::Changed, &changes, &new)
    }

    /// Deletes an associate, and sends `associate.deleted`. To retire an associate, change it
    /// instead.
    ///
    /// # Errors
    ///
    /// When there is no such tenant or associate.
    pub fn delete_associate(&self, tenant: &str, id: u32) -> Result<(), ControlError> {
        let mut removed = None;
        self.change_people(tenant, |people| {
            removed = people.associates.remove(&id);
            Ok(())
        })?;
        let removed = removed.ok_or(ControlError::UnknownAssociate(id))?;
        self.send_webhooks(tenant, AssociateEvent::Deleted, &[], &removed)
    }

    /// Changes anything about the people of a tenant. No webhook is sent.
    ///
    /// # Errors
    ///
    /// When there is no such tenant, or the change fails.
    pub fn change_people(
        &self,
        tenant: &str,
        change: impl FnOnce(&mut People) -> Result<(), ControlError>,
    ) -> Result<(), ControlError> {
        let mut world = write(&self.platform.world);
        change(Arc::make_mut(&mut world.tenant_mut(tenant)?.people))
    }

    /// Sets how the Web API of a tenant reports people from now on.
    ///
    /// # Errors
    ///
    /// When there is no such tenant.
    pub fn set_oddities(&self, tenant: &str, oddities: Oddities) -> Result<(), ControlError> {
        write(&self.platform.world).tenant_mut(tenant)?.oddities = Arc::new(oddities);
        Ok(())
    }

    /// Registers a webhook on a tenant, or replaces the one of that name. Its state becomes active.
    ///
    /// # Errors
    ///
    /// When there is no such tenant.
    pub fn set_webhook(&self, tenant: &str, webhook: NewWebhook) -> Result<(), ControlError> {
        self.people(tenant)?;
        self.platform.webhooks.set(tenant, webhook);
        Ok(())
    }

    /// Removes a webhook, if there is one of that name.
    pub fn remove_webhook(&self, tenant: &str, name: &str) {
        self.platform.webhooks.remove(tenant, name);
    }

    /// Returns the state of a webhook.
    #[must_use]
    pub fn webhook_state(&self, tenant: &str, name: &str) -> Option<WebhookState> {
        self.platform.webhooks.state(tenant, name)
    }

    /// Sets whether a tenant sends webhooks. By default it does.
    ///
    /// # Errors
    ///
    /// When there is no such tenant.
    pub fn set_webhooks_sent(&self, tenant: &str, sent: bool) -> Result<(), ControlError> {
        self.people(tenant)?;
        self.platform.webhooks.set_sending(tenant, sent);
        Ok(())
    }

    fn send_webhooks(
        &self,
        tenant: &str,
        event: AssociateEvent,
        changes: &[&str],
        associate: &Associate,
    ) -> Result<(), ControlError> {
        Ok(self.platform.webhooks.queue_event(tenant, event, changes, associate, self.now())?)
    }
}

fn iso(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%dT%H:%M:%S").to_string()
}
