//! Single values in the forms of archives: plain JSON, strings, encoded as `[I:10]`, or raw and displayed.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess,
    Visitor,
};

use crate::domain::Reference;

/// The maximum number of values in a list.
const MAX_LIST: usize = 1000;

/// The maximum length of a text, in bytes. The longest database field has 254 characters; translations need more.
const MAX_TEXT_BYTES: usize = 2048;

/// The maximum nesting depth: a list of values with a raw and a displayed form. Deeper values are skipped.
const MAX_DEPTH: u8 = 4;

/// A value of any JSON type, or a raw and a displayed value as in Full mode. Absent and null are the same.
///
/// Texts borrow from the response: a list of many thousand people has millions of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Cell<'a> {
    raw: Value<'a>,
    displayed: Value<'a>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) enum Value<'a> {
    #[default]
    Null,
    Bool(bool),
    Int(i64),
    Text(Cow<'a, str>),
    List(Vec<Cell<'a>>),
    /// An unusable value: a number that is not whole, an object of another form, or two values for one name.
    Other,
}

/// The value has another type or form than documented.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

/// A text of limited length, and whether it was truncated.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct BoundedText {
    pub(super) text: String,
    pub(super) truncated: bool,
    /// Whether it contains U+FFFD, which replaces unreadable characters.
    pub(super) replaced: bool,
}

impl<'a> Cell<'a> {
    /// The value of an absent cell.
    pub(super) const NULL: Cell<'static> = Cell { raw: Value::Null, displayed: Value::Null };

    /// An unreadable value.
    const OTHER: Cell<'static> = Cell { raw: Value::Other, displayed: Value::Null };

    /// Sets the value. `was_set`: a value was already set. Two different values make the cell unreadable.
    pub(super) fn set(&mut self, was_set: bool, value: Self) {
        *self = if was_set && *self != value { Cell::OTHER } else { value };
    }

    fn from_value(value: Value<'a>) -> Self {
        Self { raw: value, displayed: Value::Null }
    }

    /// Returns the raw value, or the only one.
    pub(super) fn raw(&self) -> &Value<'a> {
        if self.raw == Value::Null { &self.displayed } else { &self.raw }
    }

    /// Returns the displayed value, or the only one.
    fn displayed(&self) -> &Value<'a> {
        if self.displayed == Value::Null { &self.raw } else { &self.displayed }
    }

    fn into_raw(self) -> Value<'a> {
        if self.raw == Value::Null { self.displayed } else { self.raw }
    }

    pub(super) fn is_null(&self) -> bool {
        *self.raw() == Value::Null
    }

    /// Reads an integer. An empty string is `None`.
    pub(super) fn int(&self) -> Result<Option<i32>, Unreadable> {
        match self.raw() {
            Value::Null => Ok(None),
            Value::Int(number) => i32::try_from(*number).map(Some).map_err(|_| Unreadable),
            Value::Text(text) if text.trim().is_empty() => Ok(None),
            Value::Text(text) => number(text).map(Some).ok_or(Unreadable),
            _ => Err(Unreadable),
        }
    }

    /// Reads a boolean.
    pub(super) fn flag(&self) -> Result<Option<bool>, Unreadable> {
        match self.raw() {
            Value::Null => Ok(None),
            Value::Bool(flag) => Ok(Some(*flag)),
            Value::Int(0) => Ok(Some(false)),
            Value::Int(1) => Ok(Some(true)),
            Value::Text(text) => match decode_archive_value(text).to_ascii_lowercase().as_str() {
                "" => Ok(None),
                "true" | "1" => Ok(Some(true)),
                "false" | "0" => Ok(Some(false)),
                _ => Err(Unreadable),
            },
            _ => Err(Unreadable),
        }
    }

    /// Reads a text, without control characters and of limited length. Null is the empty text.
    pub(super) fn text(&self) -> Result<BoundedText, Unreadable> {
        match self.displayed() {
            Value::Null => Ok(BoundedText::default()),
            Value::Text(text) => Ok(bounded_text(text)),
            _ => Err(Unreadable),
        }
    }

    /// Reads a text, or a number as its digits, because names are sometimes written as numbers.
    pub(super) fn name(&self) -> Option<String> {
        match self.displayed() {
            Value::Int(number) => Some(number.to_string()),
            _ => self.text().ok().map(|kept| kept.text),
        }
    }

    /// Reads a reference to a list item, by id or by name.
    pub(super) fn reference(&self) -> Result<Reference, Unreadable> {
        let name = match self.displayed() {
            Value::Text(text) if number(text).is_none() => bounded_text(text).text,
            _ => String::new(),
        };
        match self.raw() {
            Value::Null => Ok(Reference::default()),
            Value::Text(text) if number(text).is_none() => Ok(Reference {
                id: 0,
                name: if name.is_empty() { bounded_text(text).text } else { name },
            }),
            _ => Ok(Reference { id: self.int()?.unwrap_or(0), name }),
        }
    }

    /// Reads several references: a list, or a text with separators.
    pub(super) fn references(&self) -> Result<Vec<Reference>, Unreadable> {
        let parts = match self.raw() {
            Value::Null => return Ok(Vec::new()),
            Value::List(cells) => return cells.iter().map(Cell::reference).collect(),
            Value::Text(text) => split_list(text),
            _ => return Ok(vec![self.reference()?]),
        };
        let reference = |part: &&str| match number(part) {
            Some(id) => Reference { id, name: String::new() },
            None => Reference { id: 0, name: bounded_text(part).text },
        };
        Ok(parts.iter().map(reference).collect())
    }
}

/// Removes the encoding of archives: `[I:10]` is 10.
fn decode_archive_value(text: &str) -> &str {
    let text = text.trim();
    let inside = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match inside.and_then(|inside| inside.split_once(':')) {
        Some((mark, value)) if mark.len() == 1 => value.trim(),
        _ => text,
    }
}

fn number(text: &str) -> Option<i32> {
    decode_archive_value(text).parse().ok()
}

/// Splits a text at commas and semicolons. The separator is not documented. Quoted text is a translation and is not
/// split, and a text with translations is not split at its semicolons.
fn split_list(text: &str) -> Vec<&str> {
    let mut quoted = false;
    let translated = text.contains('"');
    let separates = |character: char| {
        quoted ^= character == '"';
        !quoted && (character == ',' || character == ';' && !translated)
    };
    let parts = text.split(separates).map(str::trim).filter(|part| !part.is_empty());
    // One more than the limit, so that the caller notices the excess.
    parts.take(MAX_LIST + 1).collect()
}

fn bounded_text(text: &str) -> BoundedText {
    let replaced = text.contains(char::REPLACEMENT_CHARACTER);
    if text.len() <= MAX_TEXT_BYTES && !text.chars().any(char::is_control) {
        return BoundedText { text: text.to_owned(), truncated: false, replaced };
    }
    let clean: String = text.chars().filter(|character| !character.is_control()).collect();
    let end = clean.floor_char_boundary(MAX_TEXT_BYTES);
    match clean.get(..end) {
        Some(head) if end < clean.len() => {
            BoundedText { text: head.to_owned(), truncated: true, replaced }
        }
        _ => BoundedText { text: clean, truncated: false, replaced },
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Cell<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        CellVisitor { depth: 0, in_list: false }.deserialize(deserializer)
    }
}

/// Reads a value at a nesting depth.
#[derive(Clone, Copy)]
struct CellVisitor {
    depth: u8,
    in_list: bool,
}

impl<'de> DeserializeSeed<'de> for CellVisitor {
    type Value = Cell<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Cell<'de>, D::Error> {
        if self.depth > MAX_DEPTH {
            return IgnoredAny::deserialize(deserializer).map(|_| Cell::OTHER);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for CellVisitor {
    type Value = Cell<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Cell<'de>, E> {
        Ok(Cell::NULL)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Cell<'de>, E> {
        Ok(Cell::from_value(Value::Bool(flag)))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Cell<'de>, E> {
        Ok(Cell::from_value(Value::Int(number)))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Cell<'de>, E> {
        Ok(Cell::from_value(i64::try_from(number).map_or(Value::Other, Value::Int)))
    }

    /// A whole number counts as an integer: 5.0 is 5.
    fn visit_f64<E>(self, number: f64) -> Result<Cell<'de>, E> {
        let whole = number.fract() == 0.0 && number.abs() <= f64::from(i32::MAX);
        let digits = whole.then(|| format!("{number:.0}").parse().ok()).flatten();
        Ok(Cell::from_value(digits.map_or(Value::Other, Value::Int)))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Cell<'de>, E> {
        Ok(Cell::from_value(Value::Text(Cow::Borrowed(text))))
    }

    /// A string with escapes, which cannot be borrowed.
    fn visit_str<E>(self, text: &str) -> Result<Cell<'de>, E> {
        Ok(Cell::from_value(Value::Text(Cow::Owned(text.to_owned()))))
    }

    /// Skips values beyond the maximum, and lists in lists.
    fn visit_seq<A: SeqAccess<'de>>(self, mut cells: A) -> Result<Cell<'de>, A::Error> {
        let mut all = Vec::new();
        let inner = Self { depth: self.depth + 1, in_list: true };
        while !self.in_list && all.len() < MAX_LIST {
            match cells.next_element_seed(inner)? {
                Some(cell) => all.push(cell),
                None => return Ok(Cell::from_value(Value::List(all))),
            }
        }
        while cells.next_element::<IgnoredAny>()?.is_some() {}
        Ok(if self.in_list { Cell::OTHER } else { Cell::from_value(Value::List(all)) })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Cell<'de>, A::Error> {
        let (mut raw, mut shown, mut others) = (None, None, false);
        while let Some(key) = map.next_key::<ValueField>()? {
            let form = match key {
                ValueField::RawValue => &mut raw,
                ValueField::DisplayValue => &mut shown,
                ValueField::Other => {
                    map.next_value::<IgnoredAny>()?;
                    others = true;
                    continue;
                }
            };
            let inner = Self { depth: self.depth + 1, ..self };
            let value = map.next_value_seed(inner)?.into_raw();
            let differs = form.as_ref().is_some_and(|before| *before != value);
            *form = Some(if differs { Value::Other } else { value });
        }
        if raw.is_none() && shown.is_none() && others {
            return Ok(Cell::OTHER);
        }
        Ok(Cell { raw: raw.unwrap_or_default(), displayed: shown.unwrap_or_default() })
    }
}

#[derive(serde::Deserialize)]
enum ValueField {
    RawValue,
    DisplayValue,
    #[serde(other)]
    Other,
}

/// A list with at most `MAX` items; null is the empty list. Longer lists are rejected while they are read, so that a
/// small body cannot use much memory.
#[derive(Debug)]
pub(super) struct BoundedList<T, const MAX: usize>(pub(super) Vec<T>);

impl<T, const MAX: usize> Default for BoundedList<T, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for BoundedList<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BoundedListVisitor(PhantomData))
    }
}

struct BoundedListVisitor<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for BoundedListVisitor<T, MAX> {
    type Value = BoundedList<T, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MAX}")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(BoundedList::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = list.next_element()? {
            if all.len() == MAX {
                return Err(A::Error::custom("too many"));
            }
            all.push(item);
        }
        Ok(BoundedList(all))
    }
}

/// The readable items of a list, and whether anything was skipped.
#[derive(Debug)]
pub(super) struct LenientList<T, const MAX: usize> {
    pub(super) items: Vec<T>,
    /// Whether it is not a list, or has more items.
    pub(super) incomplete: bool,
}

impl<T, const MAX: usize> Default for LenientList<T, MAX> {
    fn default() -> Self {
        Self { items: Vec::new(), incomplete: false }
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for LenientList<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LenientListVisitor(PhantomData))
    }
}

struct LenientListVisitor<T, const MAX: usize>(PhantomData<T>);

impl<T, const MAX: usize> LenientList<T, MAX> {
    fn not_a_list() -> Self {
        Self { items: Vec::new(), incomplete: true }
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for LenientListVisitor<T, MAX> {
    type Value = LenientList<T, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(LenientList::default())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(LenientList::not_a_list())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(LenientList::not_a_list())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(LenientList::not_a_list())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(LenientList::not_a_list())
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(LenientList::not_a_list())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(LenientList::not_a_list())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while items.len() < MAX {
            match list.next_element()? {
                Some(item) => items.push(item),
                None => return Ok(LenientList { items, incomplete: false }),
            }
        }
        let odd = list.next_element::<IgnoredAny>()?.is_some();
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(LenientList { items, incomplete: odd })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(json: &str) -> Cell<'_> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn reads_numbers_and_flags_in_all_forms() {
        for (json, wanted) in [
            ("null", Ok(None)),
            ("5", Ok(Some(5))),
            ("-5", Ok(Some(-5))),
            (r#""5""#, Ok(Some(5))),
            (r#"" [I:10] ""#, Ok(Some(10))),
            (r#""""#, Ok(None)),
            (r#"{"RawValue":13,"DisplayValue":"System","LinkHint":""}"#, Ok(Some(13))),
            (r#"{"RawValue":null,"DisplayValue":"[I:13]"}"#, Ok(Some(13))),
            ("{}", Ok(None)),
            ("2147483648", Err(Unreadable)),
            ("18446744073709551615", Err(Unreadable)),
            ("5.0", Ok(Some(5))),
            ("1.5", Err(Unreadable)),
            ("2147483648.0", Err(Unreadable)),
            (r#"{"Value":5}"#, Err(Unreadable)),
            (r#"{"RawValue":5,"RawValue":5}"#, Ok(Some(5))),
            (r#"{"RawValue":5,"RawValue":6}"#, Err(Unreadable)),
            ("true", Err(Unreadable)),
            ("[5]", Err(Unreadable)),
            (r#""five""#, Err(Unreadable)),
            (r#""[I:]""#, Err(Unreadable)),
        ] {
            assert_eq!(cell(json).int(), wanted, "{json}");
        }
        for (json, wanted) in [
            ("null", Ok(None)),
            ("true", Ok(Some(true))),
            ("0", Ok(Some(false))),
            (r#""True""#, Ok(Some(true))),
            (r#""[B:0]""#, Ok(Some(false))),
            (r#""""#, Ok(None)),
            ("2", Err(Unreadable)),
            (r#""yes""#, Err(Unreadable)),
            ("[]", Err(Unreadable)),
        ] {
            assert_eq!(cell(json).flag(), wanted, "{json}");
        }
    }

    #[test]
    fn limits_the_length_of_texts() {
        let text = |json: &str| cell(json).text().map(|kept| kept.text);
        assert_eq!(text("null"), Ok(String::new()));
        assert_eq!(text(r#""Åse\u0000\n""#), Ok("Åse".to_owned()));
        assert_eq!(text(r#"{"RawValue":1,"DisplayValue":"One"}"#), Ok("One".to_owned()));
        assert_eq!(text("5"), Err(Unreadable));
        assert!(cell(r#""cut \ufffd""#).text().unwrap().replaced);
        assert_eq!(cell("42").name().as_deref(), Some("42"));
        assert_eq!(cell("[42]").name(), None);
        let long = serde_json::to_string(&"å".repeat(2000)).unwrap();
        let kept = cell(&long).text().unwrap();
        assert!(kept.truncated && kept.text.len() <= MAX_TEXT_BYTES);
    }

    #[test]
    fn reads_references_by_id_or_name() {
        let one = |id, name: &str| Reference { id, name: name.to_owned() };
        for (json, wanted) in [
            ("null", vec![]),
            (r#""""#, vec![]),
            ("0", vec![one(0, "")]),
            ("3", vec![one(3, "")]),
            ("[3, \"4\", \"Sales\"]", vec![one(3, ""), one(4, ""), one(0, "Sales")]),
            (r#""3,4; 5""#, vec![one(3, ""), one(4, ""), one(5, "")]),
            (r#""Sales, Support""#, vec![one(0, "Sales"), one(0, "Support")]),
            (
                r#""NO:\"Salg, nord\";US:\"Sales\", 4""#,
                vec![one(0, r#"NO:"Salg, nord";US:"Sales""#), one(4, "")],
            ),
            (r#"{"RawValue":3,"DisplayValue":"Sales"}"#, vec![one(3, "Sales")]),
        ] {
            assert_eq!(cell(json).references().as_ref(), Ok(&wanted), "{json}");
        }
        assert_eq!(cell(r#"{"Id":3}"#).references(), Err(Unreadable));
        assert_eq!(cell("[true]").references(), Err(Unreadable));
        assert_eq!(cell("[[3]]").references(), Err(Unreadable));
    }

    #[test]
    fn limits_lists_while_reading() {
        let long = format!("[{}0]", "0,".repeat(MAX_LIST));
        assert!(matches!(cell(&long).raw(), Value::List(all) if all.len() == MAX_LIST));
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        assert_eq!(cell(&deep).references(), Err(Unreadable));
        let deep = format!("{}5{}", r#"{"RawValue":"#.repeat(10_000), "}".repeat(10_000));
        assert_eq!(cell(&deep).int(), Err(Unreadable));
        assert!(serde_json::from_str::<BoundedList<i32, 2>>("[1,2]").is_ok());
        assert!(serde_json::from_str::<BoundedList<i32, 2>>("[1,2,3]").is_err());
    }
}
