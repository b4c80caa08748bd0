//! The simulated service by itself, with demonstration data.

mod cli;

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use superoffice_sandbox::{Sandbox, demo};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::Arguments;

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If standard error is closed, the message is lost.
            let _ = writeln!(std::io::stderr(), "superoffice-sandbox: {}", error_chain(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    // Installs the handlers before the start, so that no signal is missed.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let sandbox = Sandbox::start(arguments.options()).await?;
    let demo = demo::populate(sandbox.control())?;
    if let Some(folder) = &arguments.write_demo {
        cli::write_demo(folder, &demo)?;
    }
    cli::print_summary(&mut std::io::stdout().lock(), &sandbox, &demo, &arguments)?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    sandbox.shutdown().await;
    Ok(())
}

fn error_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
