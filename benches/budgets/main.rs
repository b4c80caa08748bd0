//! `cargo bench --bench budgets`: the budgets of the gateway in one table, and other measurements. Each is compared with
//! a reference that is measured in the same run, in alternating rounds. Only the ratios are meaningful.
//!
//! `cargo bench --bench budgets -- --help` lists the options. `docs/development/performance.md` has the results.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a bench is a script: it prints, and panics on errors"
)]

mod associates;
mod commits;
mod decisions;
mod disk;
mod egress;
mod envoy;
mod events;
mod first_tickets;
mod http_caller;
mod installation;
mod journal;
mod layers;
mod load;
mod memory;
mod openbao;
mod options;
mod reference;
mod server;
mod soak;
mod statistics;
mod table;
mod tickets;

use std::process::ExitCode;

use tokio::runtime::Runtime;

use self::{
    options::{Group, HELP, Options, Task},
    table::Table,
};

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}\n\n{HELP}");
            return ExitCode::FAILURE;
        }
    };
    // The reference has a runtime of its own.
    if let Task::Reference { kind, answer } = &options.task {
        reference::serve(kind, answer);
        return ExitCode::SUCCESS;
    }
    let runtime = Runtime::new().unwrap();
    match options.task {
        Task::Budgets => budgets(&runtime, &options),
        Task::Layers => layers::compare(&runtime, &options),
        Task::Commits => commits::compare(&runtime, &options),
        Task::Decisions => decisions::compare(),
        Task::Associates => associates::compare(&runtime, &options),
        Task::Soak(minutes) => soak::run(&runtime, &options, minutes),
        Task::Help | Task::Reference { .. } => println!("{HELP}"),
    }
    ExitCode::SUCCESS
}

/// Measures the selected groups, and prints all budgets in one table.
fn budgets(runtime: &Runtime, options: &Options) {
    let mut table = Table::default();
    for group in Group::ALL.into_iter().filter(|group| options.groups.contains(group)) {
        match group {
            Group::Ticket => tickets::measure(runtime, options, &mut table),
            Group::Audit => commits::measure(runtime, options, &mut table),
            Group::Egress => egress::measure(runtime, options, &mut table),
            Group::First => first_tickets::measure(runtime, options, &mut table),
            Group::Memory => memory::measure(runtime, &mut table),
            Group::Journal => journal::measure(runtime, options, &mut table),
            Group::OpenBao => openbao::measure(runtime, options, &mut table),
        }
    }
    if let Some(file) = &options.json {
        table.write_json(file);
    }
    table.print();
}
