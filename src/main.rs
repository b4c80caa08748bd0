//! The program: parse, run, exit code.

use std::{process::ExitCode, time::Duration};

use clap::Parser as _;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use tenant_gateway::cli::Cli;

/// What still runs when the command has ended is not waited for longer than this.
const LAST_MOMENTS: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    no_core_dumps();
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    let code = runtime.block_on(cli.run());
    runtime.shutdown_timeout(LAST_MOMENTS);
    code
}

/// Memory holds secrets, so it is never written to a file, and no other process of this user reads it. Best
/// effort: where the system forbids even asking, there is nothing more to do.
fn no_core_dumps() {
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

#[expect(clippy::print_stderr, reason = "there is no runtime to run a command that could say it")]
fn fail(error: &std::io::Error) -> ExitCode {
    eprintln!("error: the runtime cannot be started: {error}");
    ExitCode::FAILURE
}
