//! A disk that is full for one process.

use std::process::Command;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::binary::Site;

/// Limits the file size of the process, as a full disk does; `None` removes the limit.
pub(crate) fn limit_files(process: Pid, bytes: Option<u64>) {
    let limit = Rlimit { current: bytes, maximum: None };
    prlimit(Some(process), Resource::Fsize, limit).unwrap();
}

/// Returns `serve` with SIGXFSZ ignored, so that a write beyond the limit is an error and does not end the process.
pub(crate) fn serve_ignoring_size_limits(site: &Site) -> Command {
    let plain = site.command(&["serve"]);
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]);
    command.arg(plain.get_program()).args(plain.get_args()).env_remove("RUST_LOG");
    command
}
