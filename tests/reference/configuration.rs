//! The options of `gateway.toml`, from the text that `tenant-gateway config` prints.
//!
//! `src/config/tests/defaults.rs` compares that text with the options that the program reads.

use std::{fmt::Write as _, path::Path};

use tenant_gateway::config::DEFAULT_CONFIG;

use crate::markdown::{cell, code_cell, prose};

/// One section with its options.
#[derive(Default)]
struct Section {
    header: String,
    description: String,
    options: Vec<Setting>,
}

/// One option. Without a default the value is an example.
struct Setting {
    key: String,
    value: String,
    has_default: bool,
    description: String,
}

/// A line of the text.
enum Line<'t> {
    Header(&'t str),
    Assignment { key: &'t str, value: &'t str, has_default: bool },
    Comment(&'t str),
    Blank,
}

pub(crate) fn render() -> String {
    let mut page = String::new();
    for section in sections() {
        let Section { header, description, options } = section;
        write!(page, "## `{header}`\n\n{}\n\n", prose(&marked(&description))).unwrap();
        page.push_str("| option | default | description |\n|---|---|---|\n");
        for Setting { key, value, has_default, description } in options {
            let value = code_cell(&value);
            let value = if has_default { value } else { format!("none; example: {value}") };
            writeln!(page, "| `{key}` | {value} | {} |", cell(&marked(&description))).unwrap();
        }
        page.push('\n');
    }
    page
}

fn sections() -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut comment: Vec<&str> = Vec::new();
    // The last option with a comment of its own: options below it without one share that comment.
    let mut described: Option<&str> = None;
    for line in DEFAULT_CONFIG.lines().map(read) {
        match line {
            Line::Comment(text) => comment.push(text),
            Line::Blank => comment.clear(),
            Line::Header(header) => {
                let description = std::mem::take(&mut comment).join(" ");
                let (header, options) = (header.to_owned(), Vec::new());
                sections.push(Section { header, description, options });
                described = None;
            }
            Line::Assignment { key, value, has_default } => {
                let text = std::mem::take(&mut comment).join(" ");
                let description = match described {
                    Some(above) if text.is_empty() => format!("See `{above}`."),
                    None if text.is_empty() => "See the text above.".to_owned(),
                    _ => {
                        described = Some(key);
                        text
                    }
                };
                let section = sections.last_mut().expect("an option before the first section");
                let (key, value) = (key.to_owned(), value.to_owned());
                section.options.push(Setting { key, value, has_default, description });
            }
        }
    }
    sections
}

/// Writes names of sections as code, and paths of pages as links. The comments have both as plain text.
fn marked(text: &str) -> String {
    let mut marked = String::new();
    for word in text.split_inclusive(' ') {
        let name = word.trim_matches(|c: char| !"[]_./".contains(c) && !c.is_alphanumeric());
        let name = name.trim_end_matches('.');
        let inner = name.trim_start_matches('[').trim_end_matches(']');
        let is_page = |page: &&str| Path::new(page).extension().is_some_and(|end| end == "md");
        let plain = |b: u8| b.is_ascii_lowercase() || b == b'_' || b == b'.';
        if name.starts_with('[') && name.ends_with(']') && inner.bytes().all(plain) {
            marked.push_str(&word.replace(name, &format!("`{name}`")));
        } else if let Some(page) = name.strip_prefix("docs/").filter(is_page) {
            marked.push_str(&word.replace(name, &format!("[{name}](../{page})")));
        } else {
            marked.push_str(word);
        }
    }
    marked
}

fn read(line: &str) -> Line<'_> {
    let (text, commented) = match line.strip_prefix('#') {
        Some(text) => (text.trim_start(), true),
        None => (line, false),
    };
    let is_key = |key: &str| {
        !key.is_empty()
            && key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    match text.split_once(" = ") {
        _ if text.is_empty() => Line::Blank,
        _ if text.starts_with('[') && text.ends_with(']') => Line::Header(text),
        Some((key, value)) if is_key(key) => {
            Line::Assignment { key, value, has_default: !commented }
        }
        _ => Line::Comment(text),
    }
}

#[test]
fn commented_options_are_read_as_examples() {
    assert!(matches!(read("# [http]"), Line::Header("[http]")));
    assert!(matches!(read("listen = 1"), Line::Assignment { has_default: true, .. }));
    assert!(matches!(read("# listen = 1"), Line::Assignment { has_default: false, .. }));
    assert!(matches!(read("# A sentence = with a sign."), Line::Comment(_)));
}

#[test]
fn names_of_sections_are_code_and_pages_are_links() {
    let text = "Needs [grpc.tls] or, with [[callers.jwt]], public_uri: docs/guides/proxies.md.";
    let expected = "Needs `[grpc.tls]` or, with `[[callers.jwt]]`, public_uri: \
                    [docs/guides/proxies.md](../guides/proxies.md).";
    assert_eq!(marked(text), expected);
    assert_eq!(marked("\"[::]:50051\" takes IPv6."), "\"[::]:50051\" takes IPv6.");
}
