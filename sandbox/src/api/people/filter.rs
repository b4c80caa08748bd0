//! The filter language of archives, which is not that of `OData`.

mod parse;
mod tokens;

pub(super) use self::parse::parse;
use super::columns::{Cell, Column, Row};
use crate::answer::Answer;
use hyper::StatusCode;
use serde_json::json;

/// Why a filter is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FilterError {
    /// It cannot be read.
    Malformed(String),
    /// It is documented, and known to fail in the service.
    Fails(String),
}

impl FilterError {
    pub(super) fn answer(&self) -> Answer {
        match self {
            Self::Malformed(detail) => Answer::bad_request(detail),
            Self::Fails(operator) => Answer::json(
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

/// How the key of a row is compared; the wrong ways are for pages that go wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Keys {
    #[default]
    Exact,
    /// "Greater" holds for the key itself as well.
    Inclusive,
    /// "Greater" holds always.
    Ignored,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Filter {
    Always(bool),
    All(Vec<Filter>),
    Any(Vec<Filter>),
    /// The column by its position, and what it is held against.
    Column(usize, Test),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Test {
    Number(Compare, i64),
    Numbers(Vec<i64>, bool),
    /// What is compared is in lower case.
    Text(Match, String, bool),
    /// Between two texts in lower case, both included.
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
pub(super) enum Match {
    Whole,
    Begin,
    End,
    Part,
}

impl Compare {
    fn holds<T: Ord>(self, left: &T, right: &T) -> bool {
        match self {
            Self::Equal => left == right,
            Self::Unequal => left != right,
            Self::Less => left < right,
            Self::Greater => left > right,
        }
    }
}

impl Filter {
    pub(super) fn holds(&self, columns: &[Column], row: Row<'_>, keys: Keys) -> bool {
        match self {
            Self::Always(always) => *always,
            Self::All(filters) => filters.iter().all(|filter| filter.holds(columns, row, keys)),
            Self::Any(filters) => filters.iter().any(|filter| filter.holds(columns, row, keys)),
            // The first column is the key.
            Self::Column(0, Test::Number(Compare::Greater, than)) => match keys {
                Keys::Exact => i64::from(row.key()) > *than,
                Keys::Inclusive => i64::from(row.key()) >= *than,
                Keys::Ignored => true,
            },
            Self::Column(at, test) => {
                columns.get(*at).is_some_and(|column| test.holds(&column.of(row)))
            }
        }
    }
}

impl Test {
    fn holds(&self, cell: &Cell<'_>) -> bool {
        match (self, cell) {
            (Self::Number(compare, than), Cell::Number(value) | Cell::List(value, _)) => {
                compare.holds(value, than)
            }
            (Self::Numbers(values, among), Cell::Number(value) | Cell::List(value, _)) => {
                values.contains(value) == *among
            }
            (Self::Range(from, to), Cell::Number(value)) => (from..=to).contains(&value),
            (Self::Text(how, what, expected), Cell::Text(text)) => {
                how.holds(&text.to_lowercase(), what) == *expected
            }
            (Self::Texts(from, to), Cell::Text(text)) => {
                (from..=to).contains(&&text.to_lowercase())
            }
            (Self::Flag(expected), Cell::Flag(flag)) => expected == flag,
            // A day is compared with a day.
            (Self::Date(compare, than), Cell::Date(date)) => {
                compare.holds(&date.get(..than.len()), &Some(than.as_str()))
            }
            _ => false,
        }
    }
}

impl Match {
    fn holds(self, text: &str, what: &str) -> bool {
        match self {
            Self::Whole => text == what,
            Self::Begin => text.starts_with(what),
            Self::End => text.ends_with(what),
            Self::Part => text.contains(what),
        }
    }
}
