//! Queries of archives.

use std::fmt::Write as _;

use crate::answer::Answer;
use crate::form::{encode, pairs};

/// The options of an archive query.
#[derive(Clone, Debug, Default)]
pub(super) struct ArchiveQuery {
    /// All parameters in order, as sent.
    pairs: Vec<(String, String)>,
    pub(super) select: Vec<String>,
    pub(super) filter: String,
    /// Columns, and whether their order is descending.
    pub(super) order_by: Vec<(String, bool)>,
    pub(super) entities: Vec<String>,
    pub(super) top: Option<usize>,
    pub(super) skip: usize,
    pub(super) full: bool,
}

impl ArchiveQuery {
    pub(super) fn read(text: &str) -> Result<Self, Answer> {
        let pairs = pairs(text).ok_or_else(|| Answer::bad_request("The query is malformed."))?;
        let mut query = Self::default();
        for (name, value) in &pairs {
            match name.to_lowercase().as_str() {
                "$select" => query.select = names(value),
                "$filter" => query.filter.clone_from(value),
                "$orderby" => query.order_by = order(value)?,
                "$entities" => query.entities = names(value),
                "$top" => query.top = Some(number("$top", value)?),
                "$skip" => query.skip = number("$skip", value)?,
                "$mode" => query.full = is_full(value)?,
                "$format" if !value.eq_ignore_ascii_case("json") => {
                    return Err(Answer::bad_request("Only JSON is supported."));
                }
                _ => {}
            }
        }
        query.pairs = pairs;
        Ok(query)
    }

    /// Returns a parameter that is not an option of archives.
    pub(super) fn value(&self, wanted: &str) -> Option<&str> {
        let found = self.pairs.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map(|(_, value)| value.as_str())
    }

    /// Returns the same query with another `$skip`.
    pub(super) fn with_skip(&self, rows: usize) -> String {
        let mut text = String::new();
        for (name, value) in &self.pairs {
            if !name.eq_ignore_ascii_case("$skip") {
                let _ = write!(text, "{}={}&", encode(name), encode(value));
            }
        }
        let _ = write!(text, "$skip={rows}");
        text
    }
}

fn names(value: &str) -> Vec<String> {
    value.split(',').map(str::trim).filter(|name| !name.is_empty()).map(ToOwned::to_owned).collect()
}

fn order(value: &str) -> Result<Vec<(String, bool)>, Answer> {
    let one = |part: String| {
        let (name, direction) = part.split_once(' ').unwrap_or((&part, "asc"));
        let descends = match direction.trim().to_lowercase().as_str() {
            "asc" => false,
            "desc" => true,
            _ => return Err(Answer::bad_request("A sort direction must be asc or desc.")),
        };
        Ok((name.to_owned(), descends))
    };
    names(value).into_iter().map(one).collect()
}

fn number(name: &str, value: &str) -> Result<usize, Answer> {
    // SuperOffice's numbers are signed with 32 bits.
    let number = value.parse::<i32>().ok().and_then(|number| usize::try_from(number).ok());
    number.ok_or_else(|| Answer::bad_request(&format!("{name} must be a number of rows.")))
}

fn is_full(value: &str) -> Result<bool, Answer> {
    match value.to_lowercase().as_str() {
        "slim" => Ok(false),
        "full" => Ok(true),
        _ => Err(Answer::bad_request("The $mode must be slim or full.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_has_the_same_query_with_another_skip() {
        let text = "$select=a,b&%24filter=name+begins+%27%C3%98%27&$skip=3&x=1%2B1";
        let query = ArchiveQuery::read(text).unwrap();
        assert_eq!((query.skip, query.filter.as_str()), (3, "name begins 'Ø'"));
        let next = "$select=a,b&$filter=name%20begins%20%27%C3%98%27&x=1%2B1&$skip=9";
        assert_eq!(query.with_skip(9), next);
        assert_eq!(ArchiveQuery::read(next).unwrap().filter, query.filter);
    }

    #[test]
    fn rejects_invalid_queries() {
        for text in [
            "$top=-1",
            "$top=x",
            "$top=",
            "$skip=99999999999",
            "$mode=thick",
            "$filter=%zz",
            "$filter=%ff",
            "$orderBy=a%20down",
            "$format=xml",
            "$filter=%2",
        ] {
            assert!(ArchiveQuery::read(text).is_err(), "{text}");
        }
    }
}
