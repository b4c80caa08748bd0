//! Resource usage of a process.

use std::{fs, time::Duration};

use crate::support::binary::Process;

/// Clock ticks a second in `/proc/…/stat`, on every Linux that Rust supports.
const TICKS: u64 = 100;

/// Memory and processor time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) resident_mib: u64,
    pub(crate) processor: Duration,
}

impl Usage {
    pub(crate) fn of(process: &Process) -> Self {
        let folder = format!("/proc/{}", process.pid().as_raw_nonzero());
        let status = fs::read_to_string(format!("{folder}/status")).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let kib: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
        let stat = fs::read_to_string(format!("{folder}/stat")).unwrap();
        // The process name in parentheses may contain spaces.
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        Self { resident_mib: kib / 1024, processor: Duration::from_millis(ticks * 1000 / TICKS) }
    }
}
