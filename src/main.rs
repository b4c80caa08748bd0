//! The program: parses the command line, runs the command, and returns its exit code.

use std::{process::ExitCode, time::Duration};

use clap::Parser as _;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use tenant_gateway::cli::Cli;

/// The longest wait for tasks that still run when the command has ended.
const RUNTIME_SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    no_core_dumps();
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    let code = runtime.block_on(cli.run());
    runtime.shutdown_timeout(RUNTIME_SHUTDOWN_TIMEOUT);
    code
}

/// Disables core dumps, and reading of the memory by other processes of the same user, because it holds secrets. Errors
/// are ignored: if the system forbids these calls, there is no alternative.
fn no_core_dumps() {
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

#[expect(clippy::print_stderr, reason = "without a runtime, no command can print it")]
fn fail(error: &std::io::Error) -> ExitCode {
    eprintln!("error: cannot start the async runtime: {error}");
    ExitCode::FAILURE
}
