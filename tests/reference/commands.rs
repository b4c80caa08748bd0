//! The help of every command, from the definitions of clap.

use std::fmt::Write as _;

use clap::{Command, CommandFactory as _};
use tenant_gateway::cli::Cli;

/// Columns of the help, whatever terminal the test runs in.
const WIDTH: usize = 100;

pub(crate) fn render() -> String {
    let mut root = Cli::command().term_width(WIDTH);
    root.build();
    let mut page = String::new();
    let name = root.get_name().to_owned();
    add(&mut page, &mut root, &name);
    page
}

/// Adds the help of a command, and then that of the commands below it.
fn add(page: &mut String, command: &mut Command, name: &str) {
    let help = command.render_long_help().to_string();
    let lines: Vec<_> = help.lines().map(str::trim_end).collect();
    write!(page, "## {name}\n\n```text\n{}\n```\n\n", lines.join("\n").trim_end()).unwrap();
    for below in command.get_subcommands_mut().filter(|below| below.get_name() != "help") {
        let name = format!("{name} {}", below.get_name());
        add(page, below, &name);
    }
}
