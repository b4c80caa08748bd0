//! The configuration file as a tree with line numbers, from which the sections are deserialized.

use serde::de::DeserializeOwned;
use toml::{
    Spanned,
    de::{DeTable, DeValue, Deserializer},
};

use self::explain::explain;
use super::error::Problems;

mod explain;

pub(super) use self::explain::nearest;

type Span = std::ops::Range<usize>;

/// A parsed configuration file.
pub(super) struct Document<'t> {
    text: &'t str,
    tree: Spanned<DeTable<'t>>,
}

/// One step of the path from the root to a value.
#[derive(Debug, Clone)]
enum Step {
    Key(String),
    Index(usize),
}

impl<'t> Document<'t> {
    /// Parses the text. Returns `None` if it is not valid TOML.
    pub(super) fn parse(text: &'t str, problems: &mut Problems) -> Option<Self> {
        match DeTable::parse(text) {
            Ok(tree) => Some(Self { text, tree }),
            // Only message and line, because the error's `Display` quotes the text, which may contain a secret.
            Err(error) => {
                let line = error.span().map(|span| line(text, span.start));
                let message = format!("not TOML: {}", error.message());
                problems.add_unreadable(String::new(), line, message, None);
                None
            }
        }
    }

    /// Deserializes the file and reports every key that cannot be read. Returns `None` if the rest would be misleading.
    ///
    /// Serde stops at the first error, so each invalid key is removed from the tree and the rest is read again.
    pub(super) fn read<T: DeserializeOwned>(&self, problems: &mut Problems) -> Option<T> {
        let mut tree = self.tree.clone();
        loop {
            let error = match T::deserialize(Deserializer::from(tree.clone())) {
                Ok(read) => return Some(read),
                Err(error) => error,
            };
            let found = error
                .span()
                .and_then(|span| locate(self.tree.get_ref(), &span).map(|path| (span, path)));
            let Some((span, path)) = found else {
                let message = explain(error.message(), "").0;
                problems.add_unreadable(String::new(), None, message, None);
                return None;
            };
            let key = render(&path);
            let parent = render(path.split_last().map_or(&[], |(_, parent)| parent));
            let (message, meant) = explain(error.message(), &parent);
            let place = Some(line(self.text, span.start));
            problems.add_unreadable(key, place, message, meant);
            // Removing an element of a list would change the indexes of the others.
            let element = matches!(path.last(), Some(Step::Index(_)));
            if element || !remove(tree.get_mut(), &path) {
                return None;
            }
        }
    }

    /// Rejects lists at other keys than `known`, because serde would fill a section's keys from a list in order.
    pub(super) fn refuse_lists(&self, known: &[&str], problems: &mut Problems) {
        let mut lists = Vec::new();
        collect_lists(self.tree.get_ref(), "", &mut lists);
        for key in lists.iter().filter(|key| !known.contains(&key.as_str())) {
            problems.add(key, "must not be a list; a section is written [once]");
        }
    }

    /// Returns the line of a key or, if the file does not have it, of the nearest enclosing section.
    pub(super) fn line_of(&self, key: &str) -> Option<usize> {
        let mut key = key;
        while !key.is_empty() {
            if let Some(span) = find(self.tree.get_ref(), key) {
                return Some(line(self.text, span.start));
            }
            key = key.rfind(['.', '[']).and_then(|end| key.get(..end)).unwrap_or_default();
        }
        None
    }

    /// Returns whether the file sets `path` (`a.b`, also inside lists) or, with ` = value`, sets it to that value.
    pub(super) fn sets(&self, path: &str) -> bool {
        let (path, wanted) = match path.split_once(" = ") {
            Some((path, wanted)) => (path, Some(wanted)),
            None => (path, None),
        };
        let steps: Vec<_> = path.split('.').collect();
        is_set(self.tree.get_ref(), &steps, wanted)
    }
}

fn line(text: &str, offset: usize) -> usize {
    let before = text.bytes().take(offset);
    before.filter(|byte| *byte == b'\n').count() + 1
}

/// Returns the path to the key or value that has exactly this span. A section's span covers only its header, so all
/// branches are searched.
fn locate(table: &DeTable<'_>, span: &Span) -> Option<Vec<Step>> {
    table.iter().find_map(|(key, value)| {
        let step = Step::Key(key.get_ref().clone().into_owned());
        if key.span() == *span {
            return Some(vec![step]);
        }
        locate_in(value, span).map(|path| prepend(step, path))
    })
}

fn locate_in(value: &Spanned<DeValue<'_>>, span: &Span) -> Option<Vec<Step>> {
    let deeper = match value.get_ref() {
        DeValue::Table(table) => locate(table, span),
        DeValue::Array(array) => array.iter().enumerate().find_map(|(index, element)| {
            locate_in(element, span).map(|path| prepend(Step::Index(index), path))
        }),
        _ => None,
    };
    deeper.or_else(|| (value.span() == *span).then(Vec::new))
}

fn prepend(first: Step, mut path: Vec<Step>) -> Vec<Step> {
    path.insert(0, first);
    path
}

fn remove(table: &mut DeTable<'_>, path: &[Step]) -> bool {
    match path {
        [Step::Key(key)] => table.remove(key.as_str()).is_some(),
        [Step::Key(key), rest @ ..] => {
            table.get_mut(key.as_str()).is_some_and(|value| remove_in(value.get_mut(), rest))
        }
        _ => false,
    }
}

fn remove_in(value: &mut DeValue<'_>, path: &[Step]) -> bool {
    match (value, path) {
        (DeValue::Table(table), _) => remove(table, path),
        (DeValue::Array(array), [Step::Index(index), rest @ ..]) => {
            array.get_mut(*index).is_some_and(|element| remove_in(element.get_mut(), rest))
        }
        _ => false,
    }
}

/// Collects the keys of all lists, without list indexes.
fn collect_lists(table: &DeTable<'_>, parent: &str, found: &mut Vec<String>) {
    for (key, value) in table {
        let key = explain::full(parent, &key.get_ref().escape_debug().to_string());
        let elements = match value.get_ref() {
            DeValue::Table(table) => {
                collect_lists(table, &key, found);
                continue;
            }
            DeValue::Array(elements) => elements,
            _ => continue,
        };
        for table in elements.iter().filter_map(|element| element.get_ref().as_table()) {
            collect_lists(table, &key, found);
        }
        found.push(key);
    }
}

/// Returns the span of the key that renders as `wanted`.
fn find(table: &DeTable<'_>, wanted: &str) -> Option<Span> {
    table.iter().find_map(|(key, value)| {
        let rest = wanted.strip_prefix(key.get_ref().as_ref())?;
        if rest.is_empty() {
            return Some(key.span());
        }
        find_in(value, rest)
    })
}

fn find_in(value: &Spanned<DeValue<'_>>, wanted: &str) -> Option<Span> {
    match value.get_ref() {
        DeValue::Table(table) => find(table, wanted.strip_prefix('.')?),
        DeValue::Array(array) => {
            let (index, rest) = wanted.strip_prefix('[')?.split_once(']')?;
            let element = array.get(index.parse::<usize>().ok()?)?;
            if rest.is_empty() {
                return Some(element.span());
            }
            find_in(element, rest)
        }
        _ => None,
    }
}

fn is_set(table: &DeTable<'_>, steps: &[&str], wanted: Option<&str>) -> bool {
    let Some((first, rest)) = steps.split_first() else {
        return true;
    };
    table.get(*first).is_some_and(|value| is_set_in(value.get_ref(), rest, wanted))
}

fn is_set_in(value: &DeValue<'_>, steps: &[&str], wanted: Option<&str>) -> bool {
    match value {
        _ if steps.is_empty() => wanted.is_none_or(|wanted| value.as_str() == Some(wanted)),
        DeValue::Table(table) => is_set(table, steps, wanted),
        DeValue::Array(array) => {
            array.iter().any(|element| is_set_in(element.get_ref(), steps, wanted))
        }
        _ => false,
    }
}

/// Renders a path like `applications[0].client_id`.
fn render(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Index(index) => text.extend(["[", &index.to_string(), "]"]),
            Step::Key(key) => {
                if !text.is_empty() {
                    text.push('.');
                }
                // A quoted key may contain control characters, which must not reach a terminal.
                text.extend(key.escape_debug());
            }
        }
    }
    text
}
