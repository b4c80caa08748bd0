//! Archives: pages of rows.

use std::borrow::Cow;
use std::cmp::Ordering;

use hyper::StatusCode;
use serde_json::{Map, Value, json};

use super::columns::{self, Cell, Column, Row};
use super::filter::{self, Filter, KeyComparison};
use super::language::Language;
use super::query::ArchiveQuery;
use crate::answer::Answer;
use crate::people::{AssociateType, Oddities, People, PrimaryKeyForm};
use crate::world::Tenant;

/// The archives that the sandbox serves.
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
            Self::Role => columns::role_columns(),
            _ => columns::user_columns(people, self != Self::OtherUsers),
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

/// Returns a page of an archive. `address` is that of the tenant, `path` that of the call below
/// `api/v1`.
pub(super) fn page(
    tenant: &Tenant,
    provider: Provider,
    query: &ArchiveQuery,
    language: &Language,
    (address, path): (&str, &str),
) -> Result<Answer, Answer> {
    let (people, oddities) = (&*tenant.people, &*tenant.oddities);
    let columns = provider.columns(people);
    let shown = selected_columns(&columns, &query.select)?;
    let order = order(&columns, query)?;
    let filter = match query.filter.as_str() {
        "" => Filter::Always(true),
        text => filter::parse(text, &columns).map_err(|error| error.answer())?,
    };
    let keys = match (oddities.repeat_first_page, oddities.duplicate_rows) {
        (true, _) => KeyComparison::Ignored,
        (_, true) => KeyComparison::Inclusive,
        _ => KeyComparison::Exact,
    };

    let limit = query.top.unwrap_or(oddities.page_limit).min(oddities.page_limit);
    let skip = if oddities.repeat_first_page { 0 } else { query.skip };
    let repeated_rows = usize::from(oddities.duplicate_rows && skip > 0);
    let retired = query.entities.iter().any(|entity| entity == "retired");
    let matching =
        provider.rows(people, retired).filter(|row| filter.matches(&columns, *row, keys));
    let mut page: Vec<Row<'_>> = if order.is_empty() {
        matching.skip(skip - repeated_rows).take(limit + repeated_rows + 1).collect()
    } else {
        let mut all: Vec<_> = matching.collect();
        all.sort_by(|left, right| compare(&order, *left, *right));
        all.into_iter().skip(skip - repeated_rows).take(limit + repeated_rows + 1).collect()
    };
    let more = page.len() > limit + repeated_rows;
    page.truncate(limit + repeated_rows);

    let rows = (0..).zip(page).map(|(at, row)| {
        let cells = shown.iter().map(|column| (&*column.name, column.read_cell(row)));
        if query.full {
            full_row(provider, row, cells, language)
        } else {
            slim_row(provider, row, at, cells, language, oddities)
        }
    });
    let rows: Vec<Value> = rows.collect();
    let next = (more && limit > 0 && !oddities.no_next_link)
        .then(|| format!("{address}/api/v1/{path}?{}", query.with_skip(query.skip + limit)));
    Ok(Answer::json(
        StatusCode::OK,
        &json!({
            // Two slashes, as observed.
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

/// Returns the columns of `$select`; without it, all columns.
fn selected_columns<'a>(
    columns: &'a [Column],
    select: &[String],
) -> Result<Vec<&'a Column>, Answer> {
    if select.is_empty() {
        return Ok(columns.iter().collect());
    }
    select.iter().map(|name| find(columns, name)).collect()
}

/// Returns the sort order; empty if it is by ascending key, because rows already have that order.
fn order<'a>(
    columns: &'a [Column],
    query: &ArchiveQuery,
) -> Result<Vec<(&'a Column, bool)>, Answer> {
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
        let ordering = column.read_cell(left).cmp(&column.read_cell(right));
        if *descends { ordering.reverse() } else { ordering }
    });
    by_column.fold(Ordering::Equal, Ordering::then).then(left.key().cmp(&right.key()))
}

fn slim_row<'a>(
    provider: Provider,
    row: Row<'_>,
    at: usize,
    cells: impl Iterator<Item = (&'a str, Cell<'a>)>,
    language: &Language,
    oddities: &Oddities,
) -> Value {
    let mut fields = Map::new();
    let number = match oddities.primary_key {
        PrimaryKeyForm::Text => false,
        PrimaryKeyForm::Number => true,
        PrimaryKeyForm::Mixed => at % 2 == 1,
    };
    let key = if number { json!(row.key()) } else { json!(row.key().to_string()) };
    fields.insert("PrimaryKey".to_owned(), key);
    fields.insert("EntityName".to_owned(), json!(provider.entity()));
    for (name, cell) in cells {
        if oddities.missing_columns.iter().any(|missing| missing == name) {
            continue;
        }
        let value = match cell {
            _ if oddities.wrong_types.iter().any(|wrong| wrong == name) => json!({ "Value": [] }),
            Cell::List(id, _) if oddities.list_columns_are_ids => json!(id),
            Cell::Number(number) => json!(number),
            Cell::Flag(flag) => json!(flag),
            Cell::Date(date) => json!(date),
            Cell::Text(text) | Cell::List(_, text) => json!(language.resolve(&text)),
        };
        fields.insert(name.to_owned(), value);
    }
    if oddities.extra_column {
        fields.insert("notAskedFor".to_owned(), json!([{ "deep": null }]));
    }
    Value::Object(fields)
}

fn full_row<'a>(
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
