//! Pieces of Markdown.

/// Text of a paragraph: characters that Markdown or HTML would interpret outside of code are escaped.
pub(crate) fn prose(text: &str) -> String {
    let mut escaped = String::new();
    for (index, part) in text.split('`').enumerate() {
        if index > 0 {
            escaped.push('`');
        }
        let code = index % 2 == 1;
        if code {
            escaped.push_str(part);
        } else {
            escaped.push_str(&part.replace('<', "&lt;").replace('*', "\\*"));
        }
    }
    escaped
}

/// Text of a cell of a table.
pub(crate) fn cell(text: &str) -> String {
    prose(text).replace('|', "\\|")
}

/// Code of a cell of a table.
pub(crate) fn code_cell(text: &str) -> String {
    format!("`{}`", text.replace('|', "\\|"))
}

/// The anchor of a heading, as mdBook and GitHub derive it.
pub(crate) fn anchor(heading: &str) -> String {
    heading
        .trim()
        .chars()
        .filter_map(|c| match c {
            c if c.is_alphanumeric() || c == '_' || c == '-' => Some(c.to_ascii_lowercase()),
            c if c.is_whitespace() => Some('-'),
            _ => None,
        })
        .collect()
}

#[test]
fn only_text_outside_of_code_is_escaped() {
    assert_eq!(prose("a <b> `<c>` *d*"), "a &lt;b> `<c>` \\*d\\*");
    assert_eq!(cell("a|b"), "a\\|b");
    assert_eq!(anchor("The path: `[grpc.tls]`"), "the-path-grpctls");
}
