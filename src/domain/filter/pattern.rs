//! Text patterns with wildcards at either end.

/// A text with an optional `*` at its start or end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// Whether any text may precede.
    pub open_start: bool,
    /// The fixed text.
    pub text: String,
    /// Whether any text may follow.
    pub open_end: bool,
}

impl Pattern {
    /// Returns whether the text equals the pattern, or begins or ends with it or contains it where the pattern is open.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        match (self.open_start, self.open_end) {
            (false, false) => text == self.text,
            (false, true) => text.starts_with(&self.text),
            (true, false) => text.ends_with(&self.text),
            (true, true) => text.contains(&self.text),
        }
    }

    /// Returns whether the text contains the fixed text, ignoring case.
    pub(super) fn is_contained_in(&self, text: &str) -> bool {
        text.contains(&self.text) || text.to_lowercase().contains(&self.text.to_lowercase())
    }

    /// Returns whether the pattern is open at either end.
    pub(super) fn is_open(&self) -> bool {
        self.open_start || self.open_end
    }
}
