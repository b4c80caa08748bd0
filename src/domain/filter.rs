//! Filters of lists, as <https://google.aip.dev/160> has them.
//!
//! `AND`, `OR` (which binds tighter than `AND`), `NOT` or `-`, parentheses; comparisons `=`, `!=`, `<`, `<=`, `>`, `>=`
//! and `:` ("has"); texts bare or quoted, with `*` at their start or end; keys of maps as `labels.team`. A bare text
//! matches if any text of the item contains it. Side by side means `AND`. There are no functions, and no parentheses
//! on the right of a comparison.
//!
//! A list gives its [`Field`]s. Everything about types is checked when the filter is read, so that evaluating cannot
//! fail.

mod parser;
mod pattern;
mod print;

use std::{borrow::Cow, cmp::Ordering, collections::BTreeMap};

use jiff::Timestamp;

pub use self::pattern::Pattern;

/// The longest filter, in bytes.
const MAX_LENGTH: usize = 2048;
/// How deep parentheses may stand in each other.
const MAX_DEPTH: usize = 32;
/// How many comparisons and bare texts there may be.
const MAX_TERMS: usize = 64;

/// What a field holds, and so what it can be compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    /// A text.
    Text,
    /// One of these names.
    Enum(&'static [&'static str]),
    /// A whole number.
    Int,
    /// `true` or `false`.
    Bool,
    /// A time, in RFC 3339.
    Time,
    /// Texts.
    TextList,
    /// Texts by their keys.
    Map,
}

/// A field that can be filtered on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: FieldKind,
}

/// Why a filter was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem} (at byte {position})")]
pub struct FilterError {
    /// Where, in bytes from the start: at most the filter's length.
    pub position: usize,
    /// What is wrong and what was expected.
    pub problem: String,
}

/// The value of a field of one item.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// It has none: nothing but a negation matches.
    Absent,
    /// A text, or the name of an enum's value.
    Text(Cow<'a, str>),
    /// A number.
    Int(i64),
    /// A flag.
    Bool(bool),
    /// A time.
    Time(Timestamp),
    /// Texts.
    List(Vec<&'a str>),
    /// Texts by their keys.
    Map(&'a BTreeMap<String, String>),
}

/// An item that filters look at.
pub trait Fields {
    /// The value of a field of the list's schema.
    fn get(&self, field: &str) -> Value<'_>;
}

/// A filter that was read and fits its schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    schema: &'static [Field],
    root: Node,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    /// All of them; the empty filter has none.
    All(Vec<Node>),
    Any(Vec<Node>),
    Not(Box<Node>),
    Compare(Comparison),
    /// In any text.
    Bare(Pattern),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Comparison {
    field: Field,
    key: Option<String>,
    operator: Operator,
    operand: Operand,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Has,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Operand {
    Text(Pattern),
    Name(&'static str),
    Int(i64),
    Bool(bool),
    Time(Timestamp),
    /// `:*`
    Present,
}

impl Filter {
    /// Reads a filter on these fields. The empty one matches everything.
    ///
    /// # Errors
    /// If it is too large, no filter, or does not fit the fields; with the place.
    pub fn parse(text: &str, schema: &'static [Field]) -> Result<Self, FilterError> {
        let root = parser::parse(text, schema)?;
        Ok(Self { schema, root })
    }

    /// Whether an item matches.
    #[must_use]
    pub fn matches(&self, item: &dyn Fields) -> bool {
        self.root.matches(self.schema, item)
    }

    /// The times outside of which nothing matches, as far as the filter says so of a field by itself: a list need not
    /// look there.
    #[must_use]
    pub fn time_bounds(&self, field: &str) -> (Timestamp, Timestamp) {
        let mut bounds = (Timestamp::MIN, Timestamp::MAX);
        self.root.narrow(field, &mut bounds);
        bounds
    }
}

impl Node {
    fn matches(&self, schema: &[Field], item: &dyn Fields) -> bool {
        match self {
            Self::All(nodes) => nodes.iter().all(|node| node.matches(schema, item)),
            Self::Any(nodes) => nodes.iter().any(|node| node.matches(schema, item)),
            Self::Not(node) => !node.matches(schema, item),
            Self::Compare(comparison) => comparison.matches(&item.get(comparison.field.name)),
            Self::Bare(pattern) => {
                schema.iter().any(|field| contains_bare(&item.get(field.name), pattern))
            }
        }
    }

    fn narrow(&self, field: &str, bounds: &mut (Timestamp, Timestamp)) {
        match self {
            Self::All(nodes) => nodes.iter().for_each(|node| node.narrow(field, bounds)),
            Self::Compare(Comparison {
                field: compared,
                operator,
                operand: Operand::Time(time),
                ..
            }) if compared.name == field => {
                let (from, to) = bounds;
                // Bounds are inclusive; that one of them need not match is no harm.
                if matches!(operator, Operator::Greater | Operator::GreaterOrEqual) {
                    *from = (*from).max(*time);
                } else if matches!(operator, Operator::Less | Operator::LessOrEqual) {
                    *to = (*to).min(*time);
                } else if matches!(operator, Operator::Equal | Operator::Has) {
                    (*from, *to) = ((*from).max(*time), (*to).min(*time));
                }
            }
            _ => {}
        }
    }
}

impl Comparison {
    fn matches(&self, value: &Value<'_>) -> bool {
        match (value, &self.key) {
            (Value::Map(map), Some(key)) => match map.get(key) {
                Some(text) => self.matches_text(text),
                None => false,
            },
            (Value::Map(map), None) => match &self.operand {
                Operand::Text(pattern) => map.keys().any(|key| pattern.matches(key)),
                _ => !map.is_empty(),
            },
            (Value::List(texts), _) => match &self.operand {
                Operand::Text(pattern) => texts.iter().any(|text| pattern.matches(text)),
                _ => !texts.is_empty(),
            },
            (Value::Text(text), _) => self.matches_text(text),
            (Value::Int(number), _) => match &self.operand {
                Operand::Int(wanted) => self.operator.holds(number.cmp(wanted)),
                operand => *operand == Operand::Present,
            },
            (Value::Bool(flag), _) => match &self.operand {
                Operand::Bool(wanted) => self.operator.holds(flag.cmp(wanted)),
                operand => *operand == Operand::Present,
            },
            (Value::Time(time), _) => match &self.operand {
                Operand::Time(wanted) => self.operator.holds(time.cmp(wanted)),
                operand => *operand == Operand::Present,
            },
            (Value::Absent, _) => false,
        }
    }

    fn matches_text(&self, text: &str) -> bool {
        match (&self.operand, self.operator) {
            (Operand::Present, _) => !text.is_empty(),
            (Operand::Name(name), operator) => operator.holds(text.cmp(name)),
            (Operand::Text(pattern), Operator::Equal) => pattern.matches(text),
            (Operand::Text(pattern), Operator::NotEqual) => !pattern.matches(text),
            (Operand::Text(pattern), Operator::Has) => text.contains(&pattern.text),
            (Operand::Text(pattern), operator) => operator.holds(text.cmp(&pattern.text)),
            _ => false,
        }
    }
}

impl Operator {
    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Equal | Self::Has => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }

    fn orders(self) -> bool {
        matches!(self, Self::Less | Self::LessOrEqual | Self::Greater | Self::GreaterOrEqual)
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Has => ":",
        }
    }
}

fn contains_bare(value: &Value<'_>, pattern: &Pattern) -> bool {
    match value {
        Value::Text(text) => pattern.is_in(text),
        Value::List(texts) => texts.iter().any(|text| pattern.is_in(text)),
        Value::Map(map) => map.values().any(|text| pattern.is_in(text)),
        Value::Absent | Value::Int(_) | Value::Bool(_) | Value::Time(_) => false,
    }
}

#[cfg(test)]
mod tests;
