//! List order, as defined by <https://google.aip.dev/132>: `field [desc], …`.

use std::cmp::Ordering;

use super::filter::{Fields, Value};

/// Maximum length of an order, in bytes.
const MAX_LENGTH: usize = 512;

/// The reason why an order is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem} (at byte {position})")]
pub struct OrderError {
    /// The position, in bytes from the start; at most the order's length.
    pub position: usize,
    /// The problem and the expected text.
    pub problem: String,
}

/// A parsed order. The empty order keeps the items as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Order {
    /// The fields, and whether each is descending.
    keys: Vec<(&'static str, bool)>,
}

impl Order {
    /// Parses an order by these fields. Ignores spaces.
    ///
    /// # Errors
    /// Returns an error with its position if the order is too long, has an unknown or duplicate field, or has something
    /// other than `desc` after a field.
    pub fn parse(text: &str, fields: &[&'static str]) -> Result<Self, OrderError> {
        if text.len() > MAX_LENGTH {
            let problem = format!("the order is longer than {MAX_LENGTH} bytes");
            return Err(OrderError { position: 0, problem });
        }
        let mut keys = Vec::new();
        if text.trim().is_empty() {
            return Ok(Self { keys });
        }
        let mut begin = 0;
        for part in text.split(',') {
            let at = begin + part.len() - part.trim_start().len();
            keys.push(key(part, at, fields, &keys)?);
            begin += part.len() + 1;
        }
        Ok(Self { keys })
    }

    /// Compares two items. Absent values come first. Case decides only between otherwise equal texts.
    #[must_use]
    pub fn compare(&self, a: &dyn Fields, b: &dyn Fields) -> Ordering {
        let mut orders = self.keys.iter().map(|(field, descending)| {
            let order = compare(&a.get(field), &b.get(field));
            if *descending { order.reverse() } else { order }
        });
        orders.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    }

    /// Returns whether the order is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

fn key(
    part: &str,
    at: usize,
    fields: &[&'static str],
    before: &[(&'static str, bool)],
) -> Result<(&'static str, bool), OrderError> {
    let error = |position: usize, problem: String| Err(OrderError { position, problem });
    let part = part.trim();
    let (name, rest) = part.split_once(char::is_whitespace).unwrap_or((part, ""));
    let rest_at = at + part.len() - rest.trim_start().len();
    let Some(field) = fields.iter().find(|field| **field == name) else {
        return error(at, format!("expected one of the fields {}", fields.join(", ")));
    };
    if before.iter().any(|(other, _)| other == field) {
        return error(at, format!("`{field}` occurs twice"));
    }
    match rest.trim() {
        "" => Ok((field, false)),
        "desc" => Ok((field, true)),
        _ => error(rest_at, format!("expected `desc`, a comma or the end after `{field}`")),
    }
}

fn compare(a: &Value<'_>, b: &Value<'_>) -> Ordering {
    match (a, b) {
        (Value::Text(a), Value::Text(b)) => {
            let folded = a.chars().flat_map(char::to_lowercase);
            folded.cmp(b.chars().flat_map(char::to_lowercase)).then_with(|| a.cmp(b))
        }
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Time(a), Value::Time(b)) => a.cmp(b),
        (Value::List(a), Value::List(b)) => a.cmp(b),
        (Value::Map(a), Value::Map(b)) => a.cmp(b),
        // One value is absent, because all values of a field have the same type.
        (a, b) => (*a != Value::Absent).cmp(&(*b != Value::Absent)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FIELDS: &[&str] = &["name", "size", "nothing"];

    struct Item(&'static str, i64);

    impl Fields for Item {
        fn get(&self, field: &str) -> Value<'_> {
            match field {
                "name" => Value::Text(self.0.into()),
                "size" => Value::Int(self.1),
                _ => Value::Absent,
            }
        }
    }

    fn read(text: &str) -> Order {
        Order::parse(text, FIELDS).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn sorts_items_by_the_order() {
        let mut items = [Item("b", 1), Item("Å", 3), Item("a", 2), Item("A", 9), Item("B", 1)];
        for (text, wanted) in [
            ("name", ["A", "a", "B", "b", "Å"]),
            (" name  desc ", ["Å", "b", "B", "a", "A"]),
            ("size desc,name desc", ["A", "Å", "a", "b", "B"]),
            ("nothing, size,\tname", ["B", "b", "a", "Å", "A"]),
        ] {
            let order = read(text);
            items.sort_by(|a, b| order.compare(a, b));
            assert_eq!(items.each_ref().map(|item| item.0), wanted, "{text}");
        }
        assert!(read("").is_empty() && read("  ").is_empty() && !read("name").is_empty());
    }

    #[test]
    fn errors_have_the_position() {
        for (text, position) in [
            ("names", 0),
            (" colour", 1),
            ("name,", 5),
            (",name", 0),
            ("name, ,size", 6),
            ("name asc", 5),
            ("name DESC", 5),
            ("name  desc desc", 6),
            ("size, name desc, size", 17),
            ("name desc; size", 5),
            ("name\0", 0),
        ] {
            let error = Order::parse(text, FIELDS).unwrap_err();
            assert_eq!(error.position, position, "{text}: {error}");
        }
        assert!(Order::parse(&"name, ".repeat(1 << 18), FIELDS).is_err());
    }

    proptest! {
        #[test]
        fn error_positions_are_in_the_text(text in "(name|size| |,|desc|\\PC){0,12}") {
            if let Err(error) = Order::parse(&text, FIELDS) {
                prop_assert!(text.is_char_boundary(error.position), "{error:?}");
            }
        }
    }
}
