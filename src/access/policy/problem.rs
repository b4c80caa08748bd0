//! Problems of policy and entities files.

use std::fmt;

use miette::Diagnostic;

/// Maximum number of problems that are reported. A file with more is probably not a policy file.
const MAX_PROBLEMS: usize = 100;

/// One problem of a file, with the correction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyProblem {
    /// The file name.
    pub file: String,
    /// The line, from 1, if it is known.
    pub line: Option<usize>,
    /// The problem and the correction.
    pub message: String,
}

impl fmt::Display for PolicyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// All problems of the policy and entities files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyError(pub Vec<PolicyProblem>);

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for PolicyError {}

/// Collects problems of one file.
pub(super) struct ProblemCollector<'a> {
    file: &'a str,
    text: &'a str,
    /// The offset of each line.
    lines: Vec<usize>,
    pub(super) problems: Vec<PolicyProblem>,
    pub(super) warnings: Vec<PolicyProblem>,
    /// The number of problems beyond [`MAX_PROBLEMS`].
    left_out: usize,
}

impl<'a> ProblemCollector<'a> {
    pub(super) fn new(file: &'a str, text: &'a str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let lines = std::iter::once(0).chain(breaks.map(|(at, _)| at + 1)).collect();
        let (problems, warnings) = (Vec::new(), Vec::new());
        Self { file, text, lines, problems, warnings, left_out: 0 }
    }

    /// Returns the line of a byte offset, from 1.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start <= offset)
    }

    /// Returns the line of a part of the text, found by its address. Returns `None` if the part is a copy.
    pub(super) fn line_of(&self, part: &str) -> Option<usize> {
        let offset = part.as_ptr().addr().checked_sub(self.text.as_ptr().addr())?;
        (offset < self.text.len()).then(|| self.line(offset))
    }

    pub(super) fn problem(&mut self, line: Option<usize>, message: impl Into<String>) {
        if self.problems.len() >= MAX_PROBLEMS {
            self.left_out += 1;
            return;
        }
        let problem = PolicyProblem { file: self.file.to_owned(), line, message: message.into() };
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    pub(super) fn warning(&mut self, line: Option<usize>, message: impl Into<String>) {
        if self.warnings.len() < MAX_PROBLEMS {
            let warning =
                PolicyProblem { file: self.file.to_owned(), line, message: message.into() };
            self.warnings.push(warning);
        }
    }

    /// Adds a problem that Cedar reports, at its own position or else at `line`.
    pub(super) fn cedar_problem(&mut self, error: &dyn Diagnostic, line: Option<usize>) {
        let (line, message) = self.describe(error, line);
        self.problem(line, message);
    }

    /// Adds a warning that Cedar reports.
    pub(super) fn cedar_warning(&mut self, warning: &dyn Diagnostic, line: Option<usize>) {
        let (line, message) = self.describe(warning, line);
        self.warning(line, message);
    }

    fn describe(&self, error: &dyn Diagnostic, line: Option<usize>) -> (Option<usize>, String) {
        let label = error.labels().and_then(|mut labels| labels.next());
        let at = label.as_ref().map(|label| self.line(label.offset())).or(line);
        let mut message = error.to_string().replace(['\n', '\r'], " ");
        if let Some(text) = label.as_ref().and_then(|label| label.label()) {
            message = format!("{message}: {text}");
        }
        if let Some(help) = error.help() {
            message = format!("{message}; {}", help.to_string().replace(['\n', '\r'], " "));
        }
        (at, message)
    }

    /// Returns all problems and all warnings, in the order of the file.
    pub(super) fn finish(mut self) -> (Vec<PolicyProblem>, Vec<PolicyProblem>) {
        let order = |a: &PolicyProblem, b: &PolicyProblem| {
            a.line.cmp(&b.line).then_with(|| a.message.cmp(&b.message))
        };
        self.problems.sort_by(order);
        self.warnings.sort_by(order);
        if self.left_out > 0 {
            let (file, message) = (self.file.to_owned(), format!("and {} more", self.left_out));
            self.problems.push(PolicyProblem { file, line: None, message });
        }
        (self.problems, self.warnings)
    }
}
