//! Denials of the last minute, by caller, action and error reason. Only the first one of a minute gets an event of its
//! own. The others are counted, so that a refused caller does not fill the disk.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;

use crate::domain::{Aggregate, AuditRecord, AuditText, Reason};

/// The time from the first denial until the others are recorded.
pub(super) const WINDOW: Duration = Duration::from_mins(1);

/// The most open windows. Before another one opens, the window that ends first is ended early.
pub(super) const MAX_WINDOWS: usize = 4096;

/// The most open windows of a caller that are kept apart by application. A caller can make up names of applications, so
/// its denials for further ones are counted together, without new events.
pub(super) const MAX_CALLER_WINDOWS: usize = 64;

/// The most distinct resources that a window counts.
pub(super) const MAX_DISTINCT_RESOURCES: usize = 4096;

/// The most distinct resources that all windows count together, about 5 MiB. Beyond it, a window counts only those that
/// its event names.
const MAX_DISTINCT_IN_ALL: usize = 262_144;

const APPLICATIONS: &str = "applications/";

/// The denials that are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct DenialKey {
    caller: CallerKey,
    action: AuditText,
    code: i32,
    reason: Option<Reason>,
    scope: Scope,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct CallerKey {
    id: AuditText,
    method: AuditText,
    issuer: AuditText,
}

/// The application of denied resources. Denials for different applications are kept apart, so that a reader with
/// permission on one application sees its denials and no others.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Scope {
    /// No application.
    Gateway,
    /// The name of an application.
    Application(Box<str>),
    /// Several applications, because the caller was denied for too many. Only readers of the whole trail see this.
    Several,
}

/// The open windows. A window opens with the event of its first denial and counts equal ones until it ends.
#[derive(Default)]
pub(super) struct DenialWindows {
    windows: HashMap<Arc<DenialKey>, Window>,
    /// The windows in the order in which they opened, which is the order in which they end.
    order: BTreeMap<u64, Arc<DenialKey>>,
    /// The number of windows of each caller.
    callers: HashMap<CallerKey, usize>,
    /// The number of windows opened so far.
    opened: u64,
    /// The number of distinct resources in all windows.
    distinct: usize,
    /// Its keys are random, so no caller can choose resources with equal hashes.
    hasher: RandomState,
}

struct Window {
    /// The position in [`DenialWindows::order`].
    position: u64,
    /// The end, by the monotonic clock.
    end: Duration,
    /// The number of events that are committed once the first denial's event is.
    first: u64,
    /// The denials after the first one.
    counted: Option<Box<CountedDenials>>,
}

struct CountedDenials {
    /// The fields in which all denials are equal. The other fields are empty.
    common: AuditRecord,
    count: u64,
    last_time: Timestamp,
    /// The first distinct resources.
    resources: Vec<AuditText>,
    /// The hashes of the distinct resources.
    hashes: HashSet<u64>,
}

impl DenialKey {
    fn of(record: &AuditRecord) -> Self {
        let caller = CallerKey {
            id: record.caller.clone(),
            method: record.caller_method.clone(),
            issuer: record.caller_issuer.clone(),
        };
        Self {
            caller,
            action: record.action.clone(),
            code: record.code,
            reason: record.error_reason,
            scope: Scope::of(&record.resource),
        }
    }
}

impl Scope {
    fn of(resource: &str) -> Self {
        let Some(rest) = resource.strip_prefix(APPLICATIONS) else { return Self::Gateway };
        let id = rest.split_once('/').map_or(rest, |(id, _)| id);
        Self::Application(format!("{APPLICATIONS}{id}").into())
    }
}

impl DenialWindows {
    /// Returns the key under which a denial is counted.
    pub(super) fn key(&self, denial: &AuditRecord) -> DenialKey {
        let key = DenialKey::of(denial);
        let by_application = matches!(key.scope, Scope::Application(_));
        let full = || self.callers.get(&key.caller).is_some_and(|n| *n >= MAX_CALLER_WINDOWS);
        if by_application && full() && !self.windows.contains_key(&key) {
            return DenialKey { scope: Scope::Several, ..key };
        }
        key
    }

    /// Returns the number of events that are committed once the event that opened the window is; `None` if no window
    /// is open.
    pub(super) fn first_event(&self, key: &DenialKey) -> Option<u64> {
        self.windows.get(key).map(|window| window.first)
    }

    /// Opens a window. `first` is the number of events that are committed once the event of the first denial is.
    pub(super) fn open(&mut self, key: DenialKey, first: u64, now: Duration) {
        self.opened += 1;
        let position = self.opened;
        *self.callers.entry(key.caller.clone()).or_default() += 1;
        let key = Arc::new(key);
        self.order.insert(position, Arc::clone(&key));
        let end = now.saturating_add(WINDOW);
        self.windows.insert(key, Window { position, end, first, counted: None });
    }

    /// Counts a denial in its open window.
    pub(super) fn count(&mut self, key: &DenialKey, denial: &AuditRecord, time: Timestamp) {
        let Some(window) = self.windows.get_mut(key) else { return };
        let counted =
            window.counted.get_or_insert_with(|| Box::new(CountedDenials::new(denial, time)));
        counted.add(denial, time);
        if denial.resource.is_empty() {
            return;
        }
        let limit = if self.distinct < MAX_DISTINCT_IN_ALL {
            MAX_DISTINCT_RESOURCES
        } else {
            Aggregate::MAX_RESOURCES
        };
        let hash = self.hasher.hash_one(&*denial.resource);
        if counted.hashes.len() < limit && counted.hashes.insert(hash) {
            self.distinct += 1;
            if counted.resources.len() < Aggregate::MAX_RESOURCES {
                counted.resources.push(denial.resource.clone());
            }
        }
    }

    /// Returns whether a window must end before another one opens.
    pub(super) fn is_full(&self) -> bool {
        self.windows.len() >= MAX_WINDOWS
    }

    /// Returns the window that ends first.
    pub(super) fn first_to_end(&self) -> Option<Arc<DenialKey>> {
        self.order.values().next().cloned()
    }

    /// Returns the time at which the first window ends.
    pub(super) fn next_end(&self) -> Option<Duration> {
        self.order.values().next().and_then(|key| self.windows.get(key)).map(|window| window.end)
    }

    /// Returns the windows that end until `now`.
    pub(super) fn ended(&self, now: Duration) -> Vec<Arc<DenialKey>> {
        let has_ended =
            |key: &&Arc<DenialKey>| self.windows.get(*key).is_some_and(|window| window.end <= now);
        self.order.values().take_while(has_ended).cloned().collect()
    }

    /// Returns the event for the counted denials of a window; `None` if there are none.
    pub(super) fn event(&self, key: &DenialKey) -> Option<AuditRecord> {
        let counted = self.windows.get(key)?.counted.as_deref()?;
        let mut event = counted.common.clone();
        if event.resource.is_empty()
            && let Scope::Application(name) = &key.scope
        {
            event.resource = Arc::<str>::from(&**name).into();
        }
        event.aggregate = Some(Arc::new(Aggregate {
            count: counted.count,
            last_time: counted.last_time,
            resources: counted.resources.clone(),
            resource_count: counted.hashes.len() as u64,
        }));
        Some(event)
    }

    /// Removes a window. The next denial opens another one.
    pub(super) fn remove(&mut self, key: &DenialKey) {
        let Some(window) = self.windows.remove(key) else { return };
        self.order.remove(&window.position);
        let distinct = window.counted.map_or(0, |counted| counted.hashes.len());
        self.distinct = self.distinct.saturating_sub(distinct);
        if let Some(windows) = self.callers.get_mut(&key.caller) {
            *windows = windows.saturating_sub(1);
            if *windows == 0 {
                self.callers.remove(&key.caller);
            }
        }
    }

    /// Returns the number of events for counted denials that are not recorded yet.
    pub(super) fn unrecorded(&self) -> u64 {
        self.windows.values().filter(|window| window.counted.is_some()).count() as u64
    }
}

impl CountedDenials {
    fn new(first: &AuditRecord, time: Timestamp) -> Self {
        Self {
            common: first.clone(),
            count: 0,
            last_time: time,
            resources: Vec::new(),
            hashes: HashSet::new(),
        }
    }

    fn add(&mut self, denial: &AuditRecord, time: Timestamp) {
        self.count = self.count.saturating_add(1);
        self.last_time = time;
        let common = &mut self.common;
        for (field, value) in [
            (&mut common.resource, &denial.resource),
            (&mut common.acting_as, &denial.acting_as),
            (&mut common.reason, &denial.reason),
            (&mut common.credential_id, &denial.credential_id),
            (&mut common.request_id, &denial.request_id),
            (&mut common.trace_id, &denial.trace_id),
            (&mut common.client_address, &denial.client_address),
            (&mut common.method, &denial.method),
            (&mut common.path, &denial.path),
        ] {
            if field != value {
                *field = AuditText::default();
            }
        }
        if common.policy_ids != denial.policy_ids {
            common.policy_ids = Arc::default();
        }
    }
}
