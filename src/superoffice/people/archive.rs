//! Rows of archives (SUPEROFFICE.md 6.6), in Slim mode, where columns stand side by side, and in Full mode, where they
//! stand in `Column` with raw and displayed values.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::{
    Profile,
    cell::{Bounded, Cell, Value},
    json, refused,
};
use crate::ports::UpstreamError;

/// Which columns are read of an archive.
pub(super) trait Columns {
    const NAMES: &'static [&'static str];
}

/// A row: of its columns those that are read.
#[derive(Debug)]
pub(super) struct Row<'a, C> {
    /// A text in most answers, a number in some.
    primary_key: Cell<'a>,
    /// By the place of the column's name; `None` where it does not stand.
    cells: Vec<Option<Cell<'a>>>,
    columns: PhantomData<C>,
}

impl<'a, C: Columns> Row<'a, C> {
    /// A column by its name, null if it does not stand.
    pub(super) fn cell(&self, name: &str) -> &Cell<'a> {
        const NULL: &Cell<'_> = &Cell::NULL;
        let place = C::NAMES.iter().position(|known| *known == name);
        place.and_then(|place| self.cells.get(place)?.as_ref()).unwrap_or(NULL)
    }

    /// The id in its own column, else the primary key; `None` if neither is a number greater than 0.
    pub(super) fn id(&self, name: &str) -> Option<i32> {
        let id = |cell: &Cell<'a>| cell.int().ok().flatten().filter(|id| *id > 0);
        id(self.cell(name)).or_else(|| id(&self.primary_key))
    }

    /// Whether the primary key is this id.
    pub(super) fn is_key(&self, id: i32) -> bool {
        self.primary_key.int() == Ok(Some(id))
    }
}

/// Rows, and whether SuperOffice says that more follow.
pub(super) struct Rows<'a, C> {
    pub(super) rows: Vec<Row<'a, C>>,
    /// Only whether: where to is not believed, calls go where the gateway sends them.
    pub(super) more: bool,
}

#[derive(Deserialize)]
#[serde(bound = "C: Columns")]
struct Answer<'a, C, const MAX: usize> {
    #[serde(borrow)]
    value: Option<Bounded<Row<'a, C>, MAX>>,
    #[serde(rename = "odata.nextLink", default, borrow)]
    next_link: Cell<'a>,
    /// In place of rows, with HTTP 200 (SUPEROFFICE.md 7.3).
    #[serde(rename = "Message", alias = "ErrorMessage")]
    message: Option<IgnoredAny>,
}

/// Reads the rows of an answer; `None` where it is null, which means that nothing was found.
pub(super) fn read_rows<C: Columns, const MAX: usize>(
    profile: Profile,
    body: &[u8],
) -> Result<Option<Rows<'_, C>>, UpstreamError> {
    let Some(answer) = json::<Option<Answer<'_, C, MAX>>>(profile, body)? else { return Ok(None) };
    if answer.message.is_some() {
        return Err(refused(profile, "an error in place of rows"));
    }
    let rows = answer.value.ok_or_else(|| refused(profile, "no rows"))?.0;
    let more = match answer.next_link.raw() {
        Value::Null => false,
        Value::Text(link) => !link.is_empty(),
        _ => return Err(refused(profile, "a next link that is no text")),
    };
    Ok(Some(Rows { rows, more }))
}

impl<'de: 'a, 'a, C: Columns> Deserialize<'de> for Row<'a, C> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut row = Self {
            primary_key: Cell::NULL,
            cells: vec![None; C::NAMES.len()],
            columns: PhantomData,
        };
        deserializer.deserialize_any(Into { row: &mut row, nested: false })?;
        Ok(row)
    }
}

/// Reads the columns of an object into a row.
struct Into<'r, 'a, C> {
    row: &'r mut Row<'a, C>,
    nested: bool,
}

impl<'de: 'a, 'a, C: Columns> DeserializeSeed<'de> for Into<'_, 'a, C> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// In place of an object anything else is a row without columns.
impl<'de: 'a, 'a, C: Columns> Visitor<'de> for Into<'_, 'a, C> {
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
        while let Some(key) = map.next_key_seed(Key(C::NAMES))? {
            match key {
                Place::PrimaryKey if !self.nested => {
                    let stands = self.row.primary_key != Cell::NULL;
                    self.row.primary_key.put(stands, map.next_value()?);
                }
                Place::Columns if !self.nested => {
                    map.next_value_seed(Into { row: self.row, nested: true })?;
                }
                Place::At(place) => {
                    let cell: Cell<'a> = map.next_value()?;
                    if let Some(column) = self.row.cells.get_mut(place) {
                        let stands = column.is_some();
                        column.get_or_insert_default().put(stands, cell);
                    }
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// What a key of a row stands for.
pub(super) enum Place {
    PrimaryKey,
    Columns,
    At(usize),
    Other,
}

/// Looks a key up without keeping it.
pub(super) struct Key(pub(super) &'static [&'static str]);

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Place;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Place, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Key {
    type Value = Place;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a column")
    }

    fn visit_str<E>(self, key: &str) -> Result<Place, E> {
        Ok(match key {
            "PrimaryKey" => Place::PrimaryKey,
            "Column" => Place::Columns,
            _ => self.0.iter().position(|name| *name == key).map_or(Place::Other, Place::At),
        })
    }
}
