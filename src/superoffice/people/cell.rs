//! Single values, in the many forms in which archives show them (SUPEROFFICE.md 6.6): as they are, as texts, encoded
//! as `[I:10]`, or with a raw and a displayed form.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess,
    Visitor,
};

use crate::domain::Reference;

/// How many values a list may hold.
const MAX_LIST: usize = 1000;

/// The longest text that is kept, in bytes: the database's longest has 254 characters, in several languages more.
const MAX_TEXT_BYTES: usize = 2048;

/// The deepest nesting that is read: a list of values with a raw and a displayed form. Deeper values are passed over.
const MAX_DEPTH: u8 = 4;

/// A value of any JSON type, or two as rows in Full mode have them. Absent and null are the same.
///
/// Texts stay where they are in the answer: a list of many thousand people has millions of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Cell<'a> {
    raw: Value<'a>,
    shown: Value<'a>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) enum Value<'a> {
    #[default]
    Null,
    Bool(bool),
    Int(i64),
    Text(Cow<'a, str>),
    List(Vec<Cell<'a>>),
    /// Something that no column holds: a number that is not whole, an object of another form, two values for one name.
    Other,
}

/// Of another type or form than documented.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

/// A text within bounds, and whether it had to be cut.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) text: String,
    pub(super) cut: bool,
    /// Whether it holds U+FFFD, which stands for what could not be read.
    pub(super) replaced: bool,
}

impl<'a> Cell<'a> {
    /// What an absent value is.
    pub(super) const NULL: Cell<'static> = Cell { raw: Value::Null, shown: Value::Null };

    /// Something that cannot be read.
    const OTHER: Cell<'static> = Cell { raw: Value::Other, shown: Value::Null };

    /// Puts a value where none or the same one is. Two that differ are one that cannot be read.
    pub(super) fn put(&mut self, stands: bool, value: Self) {
        *self = if stands && *self != value { Cell::OTHER } else { value };
    }

    fn one(value: Value<'a>) -> Self {
        Self { raw: value, shown: Value::Null }
    }

    /// The raw value where there are two.
    pub(super) fn raw(&self) -> &Value<'a> {
        if self.raw == Value::Null { &self.shown } else { &self.raw }
    }

    /// The displayed value where there are two.
    fn shown(&self) -> &Value<'a> {
        if self.shown == Value::Null { &self.raw } else { &self.shown }
    }

    fn into_raw(self) -> Value<'a> {
        if self.raw == Value::Null { self.shown } else { self.raw }
    }

    pub(super) fn is_null(&self) -> bool {
        *self.raw() == Value::Null
    }

    /// A whole number; an empty text is none.
    pub(super) fn int(&self) -> Result<Option<i32>, Unreadable> {
        match self.raw() {
            Value::Null => Ok(None),
            Value::Int(number) => i32::try_from(*number).map(Some).map_err(|_| Unreadable),
            Value::Text(text) if text.trim().is_empty() => Ok(None),
            Value::Text(text) => number(text).map(Some).ok_or(Unreadable),
            _ => Err(Unreadable),
        }
    }

    /// Yes or no.
    pub(super) fn flag(&self) -> Result<Option<bool>, Unreadable> {
        match self.raw() {
            Value::Null => Ok(None),
            Value::Bool(flag) => Ok(Some(*flag)),
            Value::Int(0) => Ok(Some(false)),
            Value::Int(1) => Ok(Some(true)),
            Value::Text(text) => match decoded(text).to_ascii_lowercase().as_str() {
                "" => Ok(None),
                "true" | "1" => Ok(Some(true)),
                "false" | "0" => Ok(Some(false)),
                _ => Err(Unreadable),
            },
            _ => Err(Unreadable),
        }
    }

    /// A text, without control characters and of bounded length; null is the empty one.
    pub(super) fn text(&self) -> Result<Kept, Unreadable> {
        match self.shown() {
            Value::Null => Ok(Kept::default()),
            Value::Text(text) => Ok(kept(text)),
            _ => Err(Unreadable),
        }
    }

    /// A text, and of a number its digits: names are sometimes written as numbers.
    pub(super) fn name(&self) -> Option<String> {
        match self.shown() {
            Value::Int(number) => Some(number.to_string()),
            _ => self.text().ok().map(|kept| kept.text),
        }
    }

    /// What is in a list, told by id or by name.
    pub(super) fn reference(&self) -> Result<Reference, Unreadable> {
        let name = match self.shown() {
            Value::Text(text) if number(text).is_none() => kept(text).text,
            _ => String::new(),
        };
        match self.raw() {
            Value::Null => Ok(Reference::default()),
            Value::Text(text) if number(text).is_none() => {
                Ok(Reference { id: 0, name: if name.is_empty() { kept(text).text } else { name } })
            }
            _ => Ok(Reference { id: self.int()?.unwrap_or(0), name }),
        }
    }

    /// Several of them: a list, or a text in which they stand side by side.
    pub(super) fn references(&self) -> Result<Vec<Reference>, Unreadable> {
        let parts = match self.raw() {
            Value::Null => return Ok(Vec::new()),
            Value::List(cells) => return cells.iter().map(Cell::reference).collect(),
            Value::Text(text) => parts(text),
            _ => return Ok(vec![self.reference()?]),
        };
        let reference = |part: &&str| match number(part) {
            Some(id) => Reference { id, name: String::new() },
            None => Reference { id: 0, name: kept(part).text },
        };
        Ok(parts.iter().map(reference).collect())
    }
}

/// `[I:10]` is 10.
fn decoded(text: &str) -> &str {
    let text = text.trim();
    let inside = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match inside.and_then(|inside| inside.split_once(':')) {
        Some((mark, value)) if mark.len() == 1 => value.trim(),
        _ => text,
    }
}

fn number(text: &str) -> Option<i32> {
    decoded(text).parse().ok()
}

/// The parts of a text between commas or semicolons. How they are separated is not documented; what stands in
/// quotes is a translation and is not taken apart, nor is a text of them at its semicolons.
fn parts(text: &str) -> Vec<&str> {
    let mut quoted = false;
    let translated = text.contains('"');
    let separates = |character: char| {
        quoted ^= character == '"';
        !quoted && (character == ',' || character == ';' && !translated)
    };
    let parts = text.split(separates).map(str::trim).filter(|part| !part.is_empty());
    // One more than is kept, so that it shows that there are more.
    parts.take(MAX_LIST + 1).collect()
}

fn kept(text: &str) -> Kept {
    let replaced = text.contains(char::REPLACEMENT_CHARACTER);
    if text.len() <= MAX_TEXT_BYTES && !text.chars().any(char::is_control) {
        return Kept { text: text.to_owned(), cut: false, replaced };
    }
    let clean: String = text.chars().filter(|character| !character.is_control()).collect();
    let end = clean.floor_char_boundary(MAX_TEXT_BYTES);
    match clean.get(..end) {
        Some(head) if end < clean.len() => Kept { text: head.to_owned(), cut: true, replaced },
        _ => Kept { text: clean, cut: false, replaced },
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Cell<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        CellVisitor { depth: 0, in_list: false }.deserialize(deserializer)
    }
}

/// Reads a value at a depth of nesting.
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
        Ok(Cell::one(Value::Bool(flag)))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Cell<'de>, E> {
        Ok(Cell::one(Value::Int(number)))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Cell<'de>, E> {
        Ok(Cell::one(i64::try_from(number).map_or(Value::Other, Value::Int)))
    }

    /// One that is whole counts as such: 5.0 is 5.
    fn visit_f64<E>(self, number: f64) -> Result<Cell<'de>, E> {
        let whole = number.fract() == 0.0 && number.abs() <= f64::from(i32::MAX);
        let digits = whole.then(|| format!("{number:.0}").parse().ok()).flatten();
        Ok(Cell::one(digits.map_or(Value::Other, Value::Int)))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Cell<'de>, E> {
        Ok(Cell::one(Value::Text(Cow::Borrowed(text))))
    }

    /// One with escapes in it.
    fn visit_str<E>(self, text: &str) -> Result<Cell<'de>, E> {
        Ok(Cell::one(Value::Text(Cow::Owned(text.to_owned()))))
    }

    /// Passes over more than a list may hold, and over lists in lists.
    fn visit_seq<A: SeqAccess<'de>>(self, mut cells: A) -> Result<Cell<'de>, A::Error> {
        let mut all = Vec::new();
        let inner = Self { depth: self.depth + 1, in_list: true };
        while !self.in_list && all.len() < MAX_LIST {
            match cells.next_element_seed(inner)? {
                Some(cell) => all.push(cell),
                None => return Ok(Cell::one(Value::List(all))),
            }
        }
        while cells.next_element::<IgnoredAny>()?.is_some() {}
        Ok(if self.in_list { Cell::OTHER } else { Cell::one(Value::List(all)) })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Cell<'de>, A::Error> {
        let (mut raw, mut shown, mut others) = (None, None, false);
        while let Some(key) = map.next_key::<Form>()? {
            let form = match key {
                Form::RawValue => &mut raw,
                Form::DisplayValue => &mut shown,
                Form::Other => {
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
        Ok(Cell { raw: raw.unwrap_or_default(), shown: shown.unwrap_or_default() })
    }
}

#[derive(serde::Deserialize)]
enum Form {
    RawValue,
    DisplayValue,
    #[serde(other)]
    Other,
}

/// A list of at most so many; null is the empty one. More are refused while they are read, so that a small body
/// cannot take much memory.
#[derive(Debug)]
pub(super) struct Bounded<T, const MAX: usize>(pub(super) Vec<T>);

impl<T, const MAX: usize> Default for Bounded<T, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Bounded<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BoundedVisitor(PhantomData))
    }
}

struct BoundedVisitor<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for BoundedVisitor<T, MAX> {
    type Value = Bounded<T, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MAX}")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Bounded::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = list.next_element()? {
            if all.len() == MAX {
                return Err(A::Error::custom("too many"));
            }
            all.push(item);
        }
        Ok(Bounded(all))
    }
}

/// The elements of a list that could be read, and whether there was something else.
#[derive(Debug)]
pub(super) struct Many<T, const MAX: usize> {
    pub(super) items: Vec<T>,
    /// Whether it is no list, or holds more.
    pub(super) odd: bool,
}

impl<T, const MAX: usize> Default for Many<T, MAX> {
    fn default() -> Self {
        Self { items: Vec::new(), odd: false }
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Many<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ManyVisitor(PhantomData))
    }
}

struct ManyVisitor<T, const MAX: usize>(PhantomData<T>);

impl<T, const MAX: usize> Many<T, MAX> {
    fn no_list() -> Self {
        Self { items: Vec::new(), odd: true }
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for ManyVisitor<T, MAX> {
    type Value = Many<T, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Many::default())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Many::no_list())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Many::no_list())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Many::no_list())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Many::no_list())
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(Many::no_list())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Many::no_list())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while items.len() < MAX {
            match list.next_element()? {
                Some(item) => items.push(item),
                None => return Ok(Many { items, odd: false }),
            }
        }
        let odd = list.next_element::<IgnoredAny>()?.is_some();
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Many { items, odd })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(json: &str) -> Cell<'_> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn numbers_and_flags_come_in_many_forms() {
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
    fn texts_are_kept_within_bounds() {
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
        assert!(kept.cut && kept.text.len() <= MAX_TEXT_BYTES);
    }

    #[test]
    fn what_is_referred_to_is_told_by_id_or_name() {
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
    fn lists_are_bounded_while_they_are_read() {
        let long = format!("[{}0]", "0,".repeat(MAX_LIST));
        assert!(matches!(cell(&long).raw(), Value::List(all) if all.len() == MAX_LIST));
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        assert_eq!(cell(&deep).references(), Err(Unreadable));
        let deep = format!("{}5{}", r#"{"RawValue":"#.repeat(10_000), "}".repeat(10_000));
        assert_eq!(cell(&deep).int(), Err(Unreadable));
        assert!(serde_json::from_str::<Bounded<i32, 2>>("[1,2]").is_ok());
        assert!(serde_json::from_str::<Bounded<i32, 2>>("[1,2,3]").is_err());
    }
}
