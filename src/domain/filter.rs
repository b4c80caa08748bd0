//! List filters, as defined by <https://google.aip.dev/160>.
//!
//! Supported: `AND`, `OR` (which binds tighter than `AND`), `NOT` or `-`, parentheses; comparisons `=`, `!=`, `<`,
//! `<=`, `>`, `>=` and `:` ("has"); bare or quoted texts, with `*` at their start or end; map keys, as in
//! `labels.team`. A bare text matches if any text of the item contains it. Adjacent terms mean `AND`. Functions, and
//! parentheses on the right of a comparison, are not supported.
//!
//! Each list defines its [`Field`]s. All types are checked when the filter is parsed, so that evaluation cannot fail.

mod parser;
mod pattern;
mod print;

use std::{borrow::Cow, cmp::Ordering, collections::BTreeMap};

use jiff::Timestamp;

pub use self::pattern::Pattern;

/// Maximum length of a filter, in bytes.
const MAX_LENGTH: usize = 2048;
/// Maximum nesting of parentheses.
const MAX_DEPTH: usize = 32;
/// Maximum number of comparisons and bare texts.
const MAX_TERMS: usize = 64;

/// The type of a field, which decides the possible comparisons.
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
    /// The name.
    pub name: &'static str,
    /// The type.
    pub kind: FieldKind,
}

/// The reason why a filter is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem} (at byte {position})")]
pub struct FilterError {
    /// The position, in bytes from the start; at most the filter's length.
    pub position: usize,
    /// The problem and the expected text.
    pub problem: String,
}

/// The value of a field of one item.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// No value: only a negation matches.
    Absent,
    /// A text, or the name of an enum value.
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

/// An item that can be filtered.
pub trait Fields {
    /// Returns the value of a field of the list's schema.
    fn get(&self, field: &str) -> Value<'_>;
}

/// A parsed filter that fits its schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    schema: &'static [Field],
    root: Node,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    /// All of these nodes match. The empty filter has no nodes.
    All(Vec<Node>),
    Any(Vec<Node>),
    Not(Box<Node>),
    Compare(Comparison),
    /// Any text of the item contains the pattern.
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
    /// The operand of `:*`.
    Present,
}

impl Filter {
    /// Parses a filter on these fields. The empty filter matches everything.
    ///
    /// # Errors
    /// Returns an error with its position if the filter is too large, malformed, or does not fit the fields.
    pub fn parse(text: &str, schema: &'static [Field]) -> Result<Self, FilterError> {
        let root = parser::parse(text, schema)?;
        Ok(Self { schema, root })
    }

    /// Returns whether an item matches.
    #[must_use]
    pub fn matches(&self, item: &dyn Fields) -> bool {
        self.root.matches(self.schema, item)
    }

    /// Returns inclusive bounds of a time field outside of which nothing matches. Uses only conditions on that field
    /// alone.
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
                // Bounds are inclusive, so a bound itself may not match, which is harmless.
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

    fn is_ordering(self) -> bool {
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
        Value::Text(text) => pattern.is_contained_in(text),
        Value::List(texts) => texts.iter().any(|text| pattern.is_contained_in(text)),
        Value::Map(map) => map.values().any(|text| pattern.is_contained_in(text)),
        Value::Absent | Value::Int(_) | Value::Bool(_) | Value::Time(_) => false,
    }
}

#[cfg(test)]
mod tests;
