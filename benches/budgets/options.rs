//! The command line.

use std::{ops::RangeInclusive, path::PathBuf, str::FromStr, time::Duration};

pub(crate) const HELP: &str = "\
Measures the budgets of the gateway and compares each with a reference of the same run.

Usage: cargo bench --bench budgets -- [OPTIONS]

Budgets (all of them in one table, in at most 15 minutes):
  --only NAME[,NAME]  Measures only these groups: ticket, audit, egress, first, memory, journal, openbao
  --round SECONDS     The duration of a round [default: 1]
  --runs N            The rounds of each measurement. The table has medians [default: 5]
  --events N          The events of the large journal [default: 10000000, about 4 GB]
  --json FILE         Also writes the table to this file

Other measurements, which print tables of their own:
  --layers            A cached ticket with each layer around a call
  --commits           The audit trail by the number of events that are committed together
  --decisions         Policy decisions, the first time and from the cache
  --associates        The users of a tenant
  --soak [MINUTES]    Whether memory or latency grow under load, and the disk bytes of an event [default: 20]

  --help              Prints this text

Envoy and OpenBao (`envoy`, `bao` or `openbao`) are measured if they are on PATH. TMPDIR names the disk that is used.
BENCH_GATEWAY names another build of the gateway. BENCH_LOG sets the log level of the gateway.
";

/// The part of the budgets that is measured by itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    Ticket,
    Audit,
    Egress,
    First,
    Memory,
    Journal,
    OpenBao,
}

impl Group {
    pub(crate) const ALL: [Self; 7] = [
        Self::Ticket,
        Self::Audit,
        Self::Egress,
        Self::First,
        Self::Memory,
        Self::Journal,
        Self::OpenBao,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ticket => "ticket",
            Self::Audit => "audit",
            Self::Egress => "egress",
            Self::First => "first",
            Self::Memory => "memory",
            Self::Journal => "journal",
            Self::OpenBao => "openbao",
        }
    }
}

/// The task of this process.
pub(crate) enum Task {
    Budgets,
    Layers,
    Commits,
    Decisions,
    Associates,
    /// Load for this number of minutes.
    Soak(u32),
    Help,
    /// A server that another process of this bench measures.
    Reference {
        kind: String,
        answer: String,
    },
}

pub(crate) struct Options {
    pub(crate) task: Task,
    pub(crate) groups: Vec<Group>,
    pub(crate) round: Duration,
    pub(crate) runs: usize,
    pub(crate) events: u32,
    pub(crate) json: Option<PathBuf>,
}

impl Options {
    /// Parses the arguments, without the name of the program.
    ///
    /// # Errors
    /// The message for the user, if an argument is unknown or has no valid value.
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            task: Task::Budgets,
            groups: Group::ALL.to_vec(),
            round: Duration::from_secs(1),
            runs: 5,
            events: 10_000_000,
            json: None,
        };
        let mut arguments = arguments.peekable();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
            match argument.as_str() {
                // Cargo adds it.
                "--bench" => {}
                "--help" | "-h" => options.task = Task::Help,
                "--layers" => options.task = Task::Layers,
                "--commits" => options.task = Task::Commits,
                "--decisions" => options.task = Task::Decisions,
                "--associates" => options.task = Task::Associates,
                "--soak" => {
                    let minutes = arguments.next_if(|next| !next.starts_with("--"));
                    let minutes = minutes.unwrap_or_else(|| "20".to_owned());
                    options.task = Task::Soak(number(&argument, &minutes, &(1..=1440))?);
                }
                "--reference" => {
                    options.task = Task::Reference { kind: value()?, answer: value()? };
                }
                "--only" => options.groups = groups(&value()?)?,
                "--round" => {
                    let seconds = number(&argument, &value()?, &(0.05..=60.0))?;
                    options.round = Duration::from_secs_f64(seconds);
                }
                "--runs" => options.runs = number(&argument, &value()?, &(1..=99))?,
                "--events" => {
                    options.events = number(&argument, &value()?, &(20_000..=100_000_000))?;
                }
                "--json" => options.json = Some(value()?.into()),
                _ => return Err(format!("unknown option {argument}")),
            }
        }
        Ok(options)
    }
}

fn number<T: FromStr + PartialOrd + std::fmt::Display>(
    option: &str,
    text: &str,
    range: &RangeInclusive<T>,
) -> Result<T, String> {
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| {
        format!("{option} needs a number from {} to {}, not {text:?}", range.start(), range.end())
    })
}

fn groups(names: &str) -> Result<Vec<Group>, String> {
    let group = |name: &str| {
        let group = Group::ALL.into_iter().find(|group| group.name() == name);
        group.ok_or_else(|| {
            format!("there is no group {name:?}: use {}", Group::ALL.map(Group::name).join(", "))
        })
    };
    names.split(',').map(group).collect()
}
