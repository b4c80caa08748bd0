//! The names of the fields of log lines, from the calls of tracing's macros in the sources.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use crate::page::root;

const MACROS: [&str; 4] =
    ["tracing::error!(", "tracing::warn!(", "tracing::info!(", "tracing::event!("];

/// Sources whose log lines no operator sees.
const NOT_LOGGED: [&str; 2] = ["fakes.rs", "tests.rs"];

pub(crate) fn of_sources() -> BTreeSet<String> {
    let mut fields = BTreeSet::new();
    for file in sources(&root().join("src")) {
        let text = fs::read_to_string(&file).unwrap();
        let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        for start in MACROS {
            let calls = text.match_indices(start);
            let arguments = calls.filter_map(|(at, start)| inside(&text[at + start.len()..]));
            fields.extend(arguments.flat_map(|arguments| names(&arguments)));
        }
    }
    assert!(fields.contains("request_id"), "no calls of tracing's macros were found");
    fields
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let name = entry.file_name().into_string().unwrap();
        if path.is_dir() && name != "tests" {
            found.extend(sources(&path));
        } else if is_rust(&path) && !NOT_LOGGED.contains(&name.as_str()) {
            found.push(path);
        }
    }
    found
}

fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

/// The arguments of a macro call, split at its commas; `text` begins after the opening parenthesis.
fn inside(text: &str) -> Option<Vec<String>> {
    let (mut depth, mut in_text, mut escaped) = (0_u32, false, false);
    let mut arguments = vec![String::new()];
    for c in text.chars() {
        let argument = arguments.last_mut()?;
        if in_text {
            in_text = escaped || c != '"';
            escaped = !escaped && c == '\\';
            argument.push(c);
            continue;
        }
        match c {
            ')' if depth == 0 => return Some(arguments),
            ',' if depth == 0 => {
                arguments.push(String::new());
                continue;
            }
            '"' => in_text = true,
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        argument.push(c);
    }
    None
}

/// The fields among the arguments. The message and its parameters come last and are none.
fn names(arguments: &[String]) -> Vec<String> {
    let mut names = Vec::new();
    for argument in arguments.iter().map(|argument| argument.trim()) {
        if argument.starts_with('"') {
            break;
        }
        if argument.starts_with("target:") || argument.starts_with("tracing::Level") {
            continue;
        }
        let name = argument.split_once(" = ").map_or(argument, |(name, _)| name);
        let name = name.trim_start_matches(['%', '?']).trim_matches('"');
        let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'.');
        if is_name && !name.is_empty() {
            names.push(name.to_owned());
        }
    }
    names
}

#[test]
fn fields_are_found_in_every_form() {
    let call = r#"rpc.method = a(b, "c)"), %tenant, target: "x", cause = ?d, "message {}", e)"#;
    assert_eq!(names(&inside(call).unwrap()), ["rpc.method", "tenant", "cause"]);
}
