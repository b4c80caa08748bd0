//! The table of budgets.

use std::{
    fmt, fs,
    io::{Write as _, stdout},
    path::Path,
};

use serde_json::{Value, json};

use super::statistics::Spread;

/// The limit of a ratio.
#[derive(Clone, Copy)]
pub(crate) enum Budget {
    AtLeast(f64),
    AtMost(f64),
}

impl Budget {
    fn is_met(self, ratio: f64) -> bool {
        match self {
            Self::AtLeast(limit) => ratio >= limit,
            Self::AtMost(limit) => ratio <= limit,
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(limit) => write!(f, "≥ {limit:.2}"),
            Self::AtMost(limit) => write!(f, "≤ {limit:.2}"),
        }
    }
}

/// A line of the table.
pub(crate) struct Row {
    what: String,
    /// A line without a budget is only a comparison.
    budget: Option<Budget>,
    result: Result<Measured, String>,
}

struct Measured {
    ours: String,
    reference: String,
    ratio: Spread,
}

impl Row {
    pub(crate) fn new(
        what: impl Into<String>,
        ours: impl Into<String>,
        reference: impl Into<String>,
        ratio: Spread,
    ) -> Self {
        let (ours, reference) = (ours.into(), reference.into());
        let result = Ok(Measured { ours, reference, ratio });
        Self { what: what.into(), budget: None, result }
    }

    /// Returns a line that could not be measured, for this reason.
    pub(crate) fn missing(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { what: what.into(), budget: None, result: Err(reason.into()) }
    }

    pub(crate) fn budget(mut self, budget: Budget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Returns whether the budget is met; `None` without a budget or a measurement.
    fn met(&self) -> Option<bool> {
        let ratio = self.result.as_ref().ok()?.ratio.median;
        Some(self.budget?.is_met(ratio))
    }

    fn verdict(&self) -> &'static str {
        match (self.met(), &self.result) {
            (Some(true), _) => "met",
            (Some(false), _) => "MISSED",
            (None, Ok(_)) => "",
            (None, Err(_)) => "not measured",
        }
    }

    fn cells(&self) -> [String; 7] {
        let (ours, reference, ratio, range) = match &self.result {
            Ok(Measured { ours, reference, ratio }) => (
                ours.clone(),
                reference.clone(),
                format!("{:.2}", ratio.median),
                format!("{:.2} to {:.2}", ratio.lowest, ratio.highest),
            ),
            Err(reason) => (reason.clone(), String::new(), String::new(), String::new()),
        };
        let budget = self.budget.map_or_else(String::new, |budget| budget.to_string());
        [self.what.clone(), ours, reference, ratio, range, budget, self.verdict().to_owned()]
    }

    fn to_json(&self) -> Value {
        let (kind, limit) = match self.budget {
            Some(Budget::AtLeast(limit)) => (Some("at least"), Some(limit)),
            Some(Budget::AtMost(limit)) => (Some("at most"), Some(limit)),
            None => (None, None),
        };
        let mut row =
            json!({ "what": self.what, "budget": kind, "limit": limit, "met": self.met() });
        match &self.result {
            Ok(Measured { ours, reference, ratio }) => {
                row["ours"] = json!(ours);
                row["reference"] = json!(reference);
                row["ratio"] = json!(ratio.median);
                row["lowest"] = json!(ratio.lowest);
                row["highest"] = json!(ratio.highest);
            }
            Err(reason) => row["not_measured"] = json!(reason),
        }
        row
    }
}

/// All lines.
#[derive(Default)]
pub(crate) struct Table(Vec<Row>);

impl Table {
    pub(crate) fn push(&mut self, row: Row) {
        self.0.push(row);
    }

    /// Prints all lines and the number of budgets that are met.
    pub(crate) fn print(&self) {
        let header = ["what", "ours", "reference", "ratio", "of the rounds", "budget", ""];
        let lines: Vec<[String; 7]> = std::iter::once(header.map(str::to_owned))
            .chain(self.0.iter().map(Row::cells))
            .collect();
        let mut widths = [0; 7];
        for (column, width) in widths.iter_mut().enumerate() {
            // The reason of a line that was not measured may reach into the next columns.
            let cells = lines.iter().filter(|cells| column != 1 || !cells[3].is_empty());
            *width = cells.map(|cells| cells[column].chars().count()).max().unwrap_or_default();
        }
        let mut out = stdout().lock();
        for cells in &lines {
            let padded: Vec<String> = if cells[3].is_empty() {
                vec![format!("{:width$}", cells[0], width = widths[0]), cells[1].clone()]
            } else {
                let pad = |(cell, width): (&String, usize)| format!("{cell:width$}");
                cells.iter().zip(widths).map(pad).collect()
            };
            writeln!(out, "{}", padded.join("  ").trim_end()).unwrap();
        }
        let count = |verdict: &dyn Fn(&Row) -> bool| {
            self.0.iter().filter(|row| row.budget.is_some() && verdict(row)).count()
        };
        let met = count(&|row| row.met() == Some(true));
        let measured = count(&|row| row.met().is_some());
        let missing = count(&|row| row.met().is_none());
        if missing > 0 {
            writeln!(out, "\n{missing} budgets were not measured").unwrap();
        }
        writeln!(out, "\nmet {met} of {measured}").unwrap();
    }

    /// Writes all lines as JSON.
    pub(crate) fn write_json(&self, file: &Path) {
        let rows: Vec<Value> = self.0.iter().map(Row::to_json).collect();
        fs::write(file, format!("{:#}\n", Value::from(rows))).unwrap();
    }
}

pub(crate) fn per_second(rate: f64) -> String {
    format!("{rate:.0}/s")
}

pub(crate) fn micros(duration: f64) -> String {
    format!("{duration:.1} µs")
}
