//! Archives: pages of rows.

use std::borrow::Cow;
use std::cmp::Ordering;

use hyper::StatusCode;
use serde_json::{Map, Value, json};

use super::columns::{self, Cell, Column, Row};
use super::filter::{self, Filter, Keys};
use super::language::Language;
use super::query::Query;
use crate::answer::Answer;
use crate::people::{AssociateType, Oddities, People, PrimaryKeyForm};
use crate::world::Tenant;

/// The archives that are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Provider {
    AllUsers,
    InternalUsers,
    ExternalUsers,
    OtherUsers,
    Role,
}

impl Provider {
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name.to_lowercase().as_str() {
            "allusers" => Self::AllUsers,
            "internalusers" => Self::InternalUsers,
            "externalusers" => Self::ExternalUsers,
            "otherusers" => Self::OtherUsers,
            "role" => Self::Role,
            _ => return None,
        })
    }

    fn columns(self, people: &People) -> Vec<Column> {
        match self {
            Self::Role => columns::of_roles(),
            _ => columns::of_users(people, self != Self::OtherUsers),
        }
    }

    fn entity(self) -> &'static str {
        if self == Self::Role { "role" } else { "associate" }
    }

    fn rows<'a>(self, people: &'a People, retired: bool) -> Box<dyn Iterator<Item = Row<'a>> + 'a> {
        if self == Self::Role {
            return Box::new(people.roles.values().map(Row::Role));
        }
        let all = people.associates.values();
        let wanted = all.filter(move |one| match self {
            Self::InternalUsers => one.kind == AssociateType::Internal && (retired || !one.deleted),
            Self::ExternalUsers => one.kind == AssociateType::External,
            Self::OtherUsers => {
                matches!(one.kind, AssociateType::System | AssociateType::Anonymous)
            }
            Self::AllUsers | Self::Role => true,
        });
        Box::new(wanted.map(move |one| Row::User(people, one)))
    }
}

/// A page of an archive. The address is that of the tenant, `path` what was asked for there.
pub(super) fn page(
    tenant: &Tenant,
    provider: Provider,
    query: &Query,
    language: &Language,
    (address, path): (&str, &str),
) -> Result<Answer, Answer> {
    let (people, odd) = (&*tenant.people, &*tenant.oddities);
    let columns = provider.columns(people);
    let shown = shown(&columns, &query.select)?;
    let order = order(&columns, query)?;
    let filter = match query.filter.as_str() {
        "" => Filter::Always(true),
        text => filter::parse(text, &columns).map_err(|error| error.answer())?,
    };
    let keys = match (odd.repeat_first_page, odd.duplicate_rows) {
        (true, _) => Keys::Ignored,
        (_, true) => Keys::Inclusive,
        _ => Keys::Exact,
    };

    let limit = query.top.unwrap_or(odd.page_limit).min(odd.page_limit);
    let skip = if odd.repeat_first_page { 0 } else { query.skip };
    let again = usize::from(odd.duplicate_rows && skip > 0);
    let retired = query.entities.iter().any(|entity| entity == "retired");
    let matching = provider.rows(people, retired).filter(|row| filter.holds(&columns, *row, keys));
    let mut page: Vec<Row<'_>> = if order.is_empty() {
        matching.skip(skip - again).take(limit + again + 1).collect()
    } else {
        let mut all: Vec<_> = matching.collect();
        all.sort_by(|left, right| compare(&order, *left, *right));
        all.into_iter().skip(skip - again).take(limit + again + 1).collect()
    };
    let more = page.len() > limit + again;
    page.truncate(limit + again);

    let rows = (0..).zip(page).map(|(at, row)| {
        let cells = shown.iter().map(|column| (&*column.name, column.of(row)));
        if query.full {
            full(provider, row, cells, language)
        } else {
            slim(provider, row, at, cells, language, odd)
        }
    });
    let rows: Vec<Value> = rows.collect();
    let next = (more && limit > 0 && !odd.no_next_link)
        .then(|| format!("{address}/api/v1/{path}?{}", query.skipping(query.skip + limit)));
    Ok(Answer::json(
        StatusCode::OK,
        &json!({
            // Two slashes, as seen.
            "odata.metadata": format!("{address}/api/v1/Archive//$metadata"),
            "odata.nextLink": next,
            "value": rows,
        }),
    ))
}

fn find<'a>(columns: &'a [Column], name: &str) -> Result<&'a Column, Answer> {
    let found = columns.iter().find(|column| column.name == name);
    found.ok_or_else(|| Answer::bad_request(&format!("There is no column {name}.")))
}

/// Without `$select` all columns.
fn shown<'a>(columns: &'a [Column], select: &[String]) -> Result<Vec<&'a Column>, Answer> {
    if select.is_empty() {
        return Ok(columns.iter().collect());
    }
    select.iter().map(|name| find(columns, name)).collect()
}

/// Rows are in the order of their keys anyhow.
fn order<'a>(columns: &'a [Column], query: &Query) -> Result<Vec<(&'a Column, bool)>, Answer> {
    let order = query.order_by.iter().map(|(name, descends)| Ok((find(columns, name)?, *descends)));
    let order: Vec<_> = order.collect::<Result<_, Answer>>()?;
    let by_key = matches!(
        (order.first(), columns.first()),
        (Some((first, false)), Some(key)) if first.name == key.name
    );
    Ok(if by_key { Vec::new() } else { order })
}

fn compare(order: &[(&Column, bool)], left: Row<'_>, right: Row<'_>) -> Ordering {
    let by_column = order.iter().map(|(column, descends)| {
        let ordering = column.of(left).cmp(&column.of(right));
        if *descends { ordering.reverse() } else { ordering }
    });
    by_column.fold(Ordering::Equal, Ordering::then).then(left.key().cmp(&right.key()))
}

fn slim<'a>(
    provider: Provider,
    row: Row<'_>,
    at: usize,
    cells: impl Iterator<Item = (&'a str, Cell<'a>)>,
    language: &Language,
    odd: &Oddities,
) -> Value {
    let mut fields = Map::new();
    let number = match odd.primary_key {
        PrimaryKeyForm::Text => false,
        PrimaryKeyForm::Number => true,
        PrimaryKeyForm::Mixed => at % 2 == 1,
    };
    let key = if number { json!(row.key()) } else { json!(row.key().to_string()) };
    fields.insert("PrimaryKey".to_owned(), key);
    fields.insert("EntityName".to_owned(), json!(provider.entity()));
    for (name, cell) in cells {
        if odd.missing_columns.iter().any(|missing| missing == name) {
            continue;
        }
        let value = match cell {
            _ if odd.wrong_types.iter().any(|wrong| wrong == name) => json!({ "Value": [] }),
            Cell::List(id, _) if odd.list_columns_are_ids => json!(id),
            Cell::Number(number) => json!(number),
            Cell::Flag(flag) => json!(flag),
            Cell::Date(date) => json!(date),
            Cell::Text(text) | Cell::List(_, text) => json!(language.resolve(&text)),
        };
        fields.insert(name.to_owned(), value);
    }
    if odd.extra_column {
        fields.insert("notAskedFor".to_owned(), json!([{ "deep": null }]));
    }
    Value::Object(fields)
}

fn full<'a>(
    provider: Provider,
    row: Row<'_>,
    cells: impl Iterator<Item = (&'a str, Cell<'a>)>,
    language: &Language,
) -> Value {
    let columns: Map<String, Value> = cells
        .map(|(name, cell)| {
            let (raw, shown) = match &cell {
                Cell::Number(number) => (json!(number), Cow::Owned(number.to_string())),
                Cell::Flag(flag) => (json!(flag), Cow::Owned(flag.to_string())),
                Cell::Date(date) => (json!(date), Cow::Borrowed(*date)),
                Cell::Text(text) => (json!(text), language.resolve(text)),
                Cell::List(id, text) => (json!(id), language.resolve(text)),
            };
            let cell = json!({
                "RawValue": raw, "DisplayValue": shown, "LinkHint": "", "TooltipHint": "",
            });
            (name.to_owned(), cell)
        })
        .collect();
    json!({
        "PrimaryKey": row.key(),
        "EntityName": provider.entity(),
        "StyleHint": "",
        "LinkHint": "",
        "TableRight": null,
        "Column": columns,
    })
}
