//! The filter language of archives, which differs from `OData`.

mod parse;
mod tokens;

pub(super) use self::parse::parse;
use super::columns::{Cell, Column, Row};
use crate::answer::Answer;
use hyper::StatusCode;
use serde_json::json;

/// The reason why a filter is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FilterError {
    /// It cannot be parsed.
    Malformed(String),
    /// It is documented, but fails in the real service.
    Unsupported(String),
}

impl FilterError {
    pub(super) fn answer(&self) -> Answer {
        match self {
            Self::Malformed(detail) => Answer::bad_request(detail),
            Self::Unsupported(operator) => Answer::json(
                StatusCode::INTERNAL_SERVER_ERROR,
                &json!({
                    "Error": true,
                    "ErrorType": "SoArchiveException",
                    "ErrorMessage": format!("The operator {operator} failed"),
                    "ErrorSource": "SuperOffice.Archives",
                }),
            ),
        }
    }
}

/// The comparison of row keys. The wrong comparisons simulate faulty paging.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum KeyComparison {
    #[default]
    Exact,
    /// "Greater" includes the key itself.
    Inclusive,
    /// "Greater" is always true.
    Ignored,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Filter {
    Always(bool),
    And(Vec<Filter>),
    Or(Vec<Filter>),
    /// The index of the column, and the condition on it.
    Column(usize, Condition),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Number(Compare, i64),
    Numbers(Vec<i64>, bool),
    /// Text in lower case, and whether it must match.
    Text(TextMatch, String, bool),
    /// A range of text in lower case, both ends included.
    Texts(String, String),
    Range(i64, i64),
    Flag(bool),
    Date(Compare, String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compare {
    Equal,
    Unequal,
    Less,
    Greater,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextMatch {
    Whole,
    Begin,
    End,
    Part,
}

impl Compare {
    fn matches<T: Ord>(self, left: &T, right: &T) -> bool {
        match self {
            Self::Equal => left == right,
            Self::Unequal => left != right,
            Self::Less => left < right,
            Self::Greater => left > right,
        }
    }
}

impl Filter {
    pub(super) fn matches(&self, columns: &[Column], row: Row<'_>, keys: KeyComparison) -> bool {
        match self {
            Self::Always(always) => *always,
            Self::And(filters) => filters.iter().all(|filter| filter.matches(columns, row, keys)),
            Self::Or(filters) => filters.iter().any(|filter| filter.matches(columns, row, keys)),
            // The first column is the key.
            Self::Column(0, Condition::Number(Compare::Greater, than)) => match keys {
                KeyComparison::Exact => i64::from(row.key()) > *than,
                KeyComparison::Inclusive => i64::from(row.key()) >= *than,
                KeyComparison::Ignored => true,
            },
            Self::Column(at, test) => {
                columns.get(*at).is_some_and(|column| test.matches(&column.read_cell(row)))
            }
        }
    }
}

impl Condition {
    fn matches(&self, cell: &Cell<'_>) -> bool {
        match (self, cell) {
            (Self::Number(compare, than), Cell::Number(value) | Cell::List(value, _)) => {
                compare.matches(value, than)
            }
            (Self::Numbers(values, among), Cell::Number(value) | Cell::List(value, _)) => {
                values.contains(value) == *among
            }
            (Self::Range(from, to), Cell::Number(value)) => (from..=to).contains(&value),
            (Self::Text(how, what, expected), Cell::Text(text)) => {
                how.matches(&text.to_lowercase(), what) == *expected
            }
            (Self::Texts(from, to), Cell::Text(text)) => {
                (from..=to).contains(&&text.to_lowercase())
            }
            (Self::Flag(expected), Cell::Flag(flag)) => expected == flag,
            // Compares the date without the time.
            (Self::Date(compare, than), Cell::Date(date)) => {
                compare.matches(&date.get(..than.len()), &Some(than.as_str()))
            }
            _ => false,
        }
    }
}

impl TextMatch {
    fn matches(self, text: &str, what: &str) -> bool {
        match self {
            Self::Whole => text == what,
            Self::Begin => text.starts_with(what),
            Self::End => text.ends_with(what),
            Self::Part => text.contains(what),
        }
    }
}
