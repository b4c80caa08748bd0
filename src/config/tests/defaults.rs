//! Checks that `config.default.toml` and the code have the same options and defaults.

use std::collections::BTreeSet;

use super::*;

/// Returns the file with its commented-out options enabled.
pub(super) fn everything() -> String {
    let option = |line: &str| {
        let text = line.strip_prefix("# ")?;
        let key = text.split_once(" = ").map(|(key, _)| key);
        let letters = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        let key = key.is_some_and(|key| key.bytes().all(letters));
        (key || text.starts_with('[')).then(|| text.to_owned())
    };
    let lines = DEFAULT_CONFIG.lines();
    let lines = lines.map(|line| option(line).unwrap_or_else(|| line.to_owned()));
    lines.collect::<Vec<_>>().join("\n")
}

fn read(text: &str) -> Sections {
    let mut problems = Problems::default();
    let document = Document::parse(text, &mut problems);
    let sections = document.and_then(|document| document.read(&mut problems));
    assert_eq!(problems.errors, []);
    sections.unwrap()
}

/// Returns the valid keys of a section, from serde's message about an unknown key.
fn known(section: &str) -> Vec<String> {
    let text = format!("{section}\nzzz = 1");
    let message = toml::from_str::<Sections>(&text).unwrap_err().message().to_owned();
    let Some(rest) = message.strip_prefix("unknown field `zzz`, expected ") else {
        return Vec::new();
    };
    rest.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn file_has_the_built_in_defaults() {
    assert_eq!(read(DEFAULT_CONFIG), Sections::default());
    let documented = &read(&everything()).applications[0];
    let built_in = ApplicationEntry::default();
    assert_eq!(documented.options_with_defaults(), built_in.options_with_defaults());
}

#[test]
fn documents_exactly_the_existing_options() {
    let text = everything();
    read(&text);
    let tree: toml::Table = text.parse().unwrap();
    let mut missing = BTreeSet::new();
    compare("", &toml::Value::Table(tree), "", &mut missing);
    assert_eq!(missing, BTreeSet::new());
}

/// Adds the keys that the section has and the file does not document to `missing`, also of nested sections.
fn compare(path: &str, documented: &toml::Value, header: &str, missing: &mut BTreeSet<String>) {
    let keys = known(header);
    assert!(!keys.is_empty(), "{header} is not a section");
    for key in keys {
        let full = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match documented.get(&key) {
            None => {
                missing.insert(full);
            }
            Some(toml::Value::Array(list)) if list.first().is_some_and(toml::Value::is_table) => {
                compare(&full, &list[0], &format!("[[{full}]]"), missing);
            }
            Some(table @ toml::Value::Table(_)) => {
                compare(&full, table, &format!("[{full}]"), missing);
            }
            Some(_) => {}
        }
    }
}

#[test]
fn each_option_has_a_comment() {
    let mut last = "";
    let mut uncommented = Vec::new();
    for line in DEFAULT_CONFIG.lines() {
        let option = line.starts_with(|c: char| c.is_ascii_lowercase());
        if option && !last.starts_with("# ") {
            uncommented.push(line);
        }
        last = line;
    }
    assert_eq!(uncommented, [""; 0]);
}
