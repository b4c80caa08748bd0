//! Rows of Web API archives. In Slim mode the columns are fields of the row; in Full mode they are in `Column`, with
//! raw and displayed values.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::{
    RequestLimits,
    cell::{BoundedList, Cell, Value},
    invalid, json,
};
use crate::ports::UpstreamError;

/// The columns of an archive that are read.
pub(super) trait Columns {
    const NAMES: &'static [&'static str];
}

/// A row with the columns that are read.
#[derive(Debug)]
pub(super) struct Row<'a, C> {
    /// A string in most responses, a number in some.
    primary_key: Cell<'a>,
    /// The cells in the order of the column names; `None` for an absent column.
    cells: Vec<Option<Cell<'a>>>,
    columns: PhantomData<C>,
}

impl<'a, C: Columns> Row<'a, C> {
    /// Returns the cell of a column, or null if it is absent.
    pub(super) fn cell(&self, name: &str) -> &Cell<'a> {
        const NULL: &Cell<'_> = &Cell::NULL;
        let place = C::NAMES.iter().position(|known| *known == name);
        place.and_then(|place| self.cells.get(place)?.as_ref()).unwrap_or(NULL)
    }

    /// Returns the id in its own column, otherwise the primary key. `None` if neither is a number above 0.
    pub(super) fn id(&self, name: &str) -> Option<i32> {
        let id = |cell: &Cell<'a>| cell.int().ok().flatten().filter(|id| *id > 0);
        id(self.cell(name)).or_else(|| id(&self.primary_key))
    }

    /// Returns whether the primary key is this id.
    pub(super) fn primary_key_is(&self, id: i32) -> bool {
        self.primary_key.int() == Ok(Some(id))
    }
}

/// Rows, and whether SuperOffice announces more.
pub(super) struct Rows<'a, C> {
    pub(super) rows: Vec<Row<'a, C>>,
    /// Whether there is a next link. The link itself is not used.
    pub(super) has_more: bool,
}

#[derive(Deserialize)]
#[serde(bound = "C: Columns")]
struct Answer<'a, C, const MAX: usize> {
    #[serde(borrow)]
    value: Option<BoundedList<Row<'a, C>, MAX>>,
    #[serde(rename = "odata.nextLink", default, borrow)]
    next_link: Cell<'a>,
    /// An error message in place of rows, which SuperOffice sends with HTTP 200.
    #[serde(rename = "Message", alias = "ErrorMessage")]
    message: Option<IgnoredAny>,
}

/// Reads the rows of a response. `None` if it is null, which means that nothing was found.
pub(super) fn read_rows<C: Columns, const MAX: usize>(
    limits: RequestLimits,
    body: &[u8],
) -> Result<Option<Rows<'_, C>>, UpstreamError> {
    let Some(answer) = json::<Option<Answer<'_, C, MAX>>>(limits, body)? else { return Ok(None) };
    if answer.message.is_some() {
        return Err(invalid(limits, "an error in place of rows"));
    }
    let rows = answer.value.ok_or_else(|| invalid(limits, "no rows"))?.0;
    let more = match answer.next_link.raw() {
        Value::Null => false,
        Value::Text(link) => !link.is_empty(),
        _ => return Err(invalid(limits, "a next link that is not a string")),
    };
    Ok(Some(Rows { rows, has_more: more }))
}

impl<'de: 'a, 'a, C: Columns> Deserialize<'de> for Row<'a, C> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut row = Self {
            primary_key: Cell::NULL,
            cells: vec![None; C::NAMES.len()],
            columns: PhantomData,
        };
        deserializer.deserialize_any(RowVisitor { row: &mut row, nested: false })?;
        Ok(row)
    }
}

/// Reads the columns of an object into a row.
struct RowVisitor<'r, 'a, C> {
    row: &'r mut Row<'a, C>,
    nested: bool,
}

impl<'de: 'a, 'a, C: Columns> DeserializeSeed<'de> for RowVisitor<'_, 'a, C> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// Any value other than an object is read as a row without columns.
impl<'de: 'a, 'a, C: Columns> Visitor<'de> for RowVisitor<'_, 'a, C> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(KeyLookup(C::NAMES))? {
            match key {
                FieldKey::PrimaryKey if !self.nested => {
                    let was_set = self.row.primary_key != Cell::NULL;
                    self.row.primary_key.set(was_set, map.next_value()?);
                }
                FieldKey::Columns if !self.nested => {
                    map.next_value_seed(RowVisitor { row: self.row, nested: true })?;
                }
                FieldKey::Column(place) => {
                    let cell: Cell<'a> = map.next_value()?;
                    if let Some(column) = self.row.cells.get_mut(place) {
                        let was_set = column.is_some();
                        column.get_or_insert_default().set(was_set, cell);
                    }
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// The meaning of a key in a row.
pub(super) enum FieldKey {
    PrimaryKey,
    Columns,
    Column(usize),
    Other,
}

/// Looks up a key without allocating it.
pub(super) struct KeyLookup(pub(super) &'static [&'static str]);

impl<'de> DeserializeSeed<'de> for KeyLookup {
    type Value = FieldKey;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<FieldKey, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for KeyLookup {
    type Value = FieldKey;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a column")
    }

    fn visit_str<E>(self, key: &str) -> Result<FieldKey, E> {
        Ok(match key {
            "PrimaryKey" => FieldKey::PrimaryKey,
            "Column" => FieldKey::Columns,
            _ => self
                .0
                .iter()
                .position(|name| *name == key)
                .map_or(FieldKey::Other, FieldKey::Column),
        })
    }
}
