//! Check of policy literals that are compared with normalized values.
//!
//! Policies see `context.path`, `context.method`, `context.credentialOperation` and `userPrincipalName` in one
//! spelling. A literal in another spelling never matches: a `forbid` with it would silently forbid nothing. Such a
//! literal is an error at load.

use std::thread;

use cedar_policy::Policy;
use serde_json::{Map, Value};

use crate::domain::{folded_name, folded_path};

/// A value that policies only see in normal form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NormalizedAttribute {
    Path,
    Method,
    CredentialOperation,
    UserPrincipalName,
}

/// A literal that never matches, and its correction.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NonNormalLiteral {
    /// The literal as the policy means it. In a pattern `*` is the wildcard and [`STAR`] the character.
    pub(super) literal: String,
    /// The problem and its correction, for people.
    pub(super) message: String,
}

/// Represents the character `*` in a pattern.
const STAR: char = '\u{10ffff}';

/// Stack size of the thread that checks literals. Cedar's JSON of the deepest legal policy has some thousand levels,
/// and creating, walking and dropping it need a stack frame for each level. Only the pages that are used take memory.
const STACK_BYTES: usize = 64 * 1024 * 1024;

impl NormalizedAttribute {
    const ALL: [Self; 4] =
        [Self::Path, Self::Method, Self::CredentialOperation, Self::UserPrincipalName];

    fn name(self) -> &'static str {
        match self {
            Self::Path => "context.path",
            Self::Method => "context.method",
            Self::CredentialOperation => "context.credentialOperation",
            Self::UserPrincipalName => "userPrincipalName",
        }
    }

    fn attribute(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Method => "method",
            Self::CredentialOperation => "credentialOperation",
            Self::UserPrincipalName => "userPrincipalName",
        }
    }

    fn rule(self) -> &'static str {
        match self {
            Self::Path => {
                "is percent-decoded, in lower case (Unicode NFKC and case folding), without a slash at its end, without \
                 dots and spaces at the end of a segment"
            }
            Self::Method => "is in upper case",
            Self::CredentialOperation => "is in lower case",
            Self::UserPrincipalName => "is in Unicode NFC and case folded (lower case)",
        }
    }

    /// Returns the normal form of a literal, or of the part of a pattern between two wildcards.
    fn normalize(self, text: &str, part: Part) -> String {
        match self {
            Self::Path => folded_path(text, part.begins, part.ends),
            Self::Method => text.to_ascii_uppercase(),
            Self::CredentialOperation => text.to_ascii_lowercase(),
            Self::UserPrincipalName => folded_name(text).into_owned(),
        }
    }
}

/// The position of a part of a pattern. A whole literal both begins and ends the value.
#[derive(Debug, Clone, Copy)]
struct Part {
    begins: bool,
    ends: bool,
}

/// Returns, for each policy, the literals that never match because they are not in normal form. Runs on its own thread,
/// with a stack that suffices for the deepest legal policy.
///
/// # Errors
/// Returns an error if a policy cannot be checked.
pub(super) fn find_non_normal_literals(
    policies: &[&Policy],
) -> Result<Vec<Vec<NonNormalLiteral>>, String> {
    let check = || -> Result<Vec<Vec<NonNormalLiteral>>, String> {
        policies.iter().map(|policy| non_normal_literals_in(policy)).collect()
    };
    let builder = thread::Builder::new().name("policies".to_owned()).stack_size(STACK_BYTES);
    let checked = thread::scope(|scope| {
        builder.spawn_scoped(scope, check).map(thread::ScopedJoinHandle::join)
    });
    match checked {
        Ok(Ok(found)) => found,
        Ok(Err(_)) => Err("the check panicked".to_owned()),
        Err(error) => Err(format!("a thread cannot be started: {error}")),
    }
}

/// Returns the literals of one policy that never match. Needs a large stack.
fn non_normal_literals_in(policy: &Policy) -> Result<Vec<NonNormalLiteral>, String> {
    let policy = policy.to_json().map_err(|error| error.to_string())?;
    let mut found = Vec::new();
    for condition in policy.get("conditions").and_then(Value::as_array).into_iter().flatten() {
        if let Some(body) = condition.get("body") {
            walk(body, &mut found);
        }
    }
    Ok(found)
}

/// Looks for comparisons in an expression of Cedar's JSON format.
fn walk(expression: &Value, found: &mut Vec<NonNormalLiteral>) {
    if let Some((operator, operands)) = operation(expression) {
        let (left, right) = (&operands["left"], &operands["right"]);
        match operator {
            "==" | "!=" | "containsAll" | "containsAny" => compare(left, right, found),
            "contains" => compare_elements(left, right, found),
            "like" => {
                for normal in
                    NormalizedAttribute::ALL.into_iter().filter(|normal| yields(left, *normal))
                {
                    found.extend(check_pattern(&operands["pattern"], normal));
                }
            }
            _ => {}
        }
    }
    match expression {
        Value::Object(fields) => fields.values().for_each(|field| walk(field, found)),
        Value::Array(elements) => elements.iter().for_each(|element| walk(element, found)),
        _ => {}
    }
}

/// Returns the operator and operands of an expression.
fn operation(expression: &Value) -> Option<(&str, &Value)> {
    let (operator, operands) = expression.as_object()?.iter().next()?;
    operands.is_object().then_some((operator, operands))
}

/// Returns the values of the fields of a record.
fn fields(record: &Value) -> impl Iterator<Item = &Value> {
    record.as_object().into_iter().flat_map(Map::values)
}

/// Compares the elements of a set with a value.
fn compare_elements(set: &Value, element: &Value, found: &mut Vec<NonNormalLiteral>) {
    match set["Set"].as_array() {
        Some(elements) => elements.iter().for_each(|one| compare(one, element, found)),
        None => compare(set, element, found),
    }
}

/// Checks the literals that one side is compared with on the other. Records are compared field by field.
fn compare(left: &Value, right: &Value, found: &mut Vec<NonNormalLiteral>) {
    if let (Some(ours), Some(theirs)) = (left["Record"].as_object(), right["Record"].as_object()) {
        for (name, field) in ours {
            if let Some(other) = theirs.get(name) {
                compare(field, other, found);
            }
        }
        return;
    }
    for (value, literals) in [(left, right), (right, left)] {
        for normal in NormalizedAttribute::ALL {
            if yields(value, normal) {
                check_literals(literals, normal, found);
            }
            if holds_context(value) {
                check_context(literals, normal, found);
            }
        }
    }
}

/// Checks the attribute of every record that an expression, which is compared with `context`, can have as its value.
fn check_context(
    expression: &Value,
    normal: NormalizedAttribute,
    found: &mut Vec<NonNormalLiteral>,
) {
    if let Some(elements) = expression["Set"].as_array() {
        for element in elements {
            check_context(element, normal, found);
        }
    }
    if let Some(field) = expression["Record"].get(normal.attribute()) {
        check_literals(field, normal, found);
    }
    if let Some(("if-then-else", operands)) = operation(expression) {
        check_context(&operands["then"], normal, found);
        check_context(&operands["else"], normal, found);
    }
}

/// Returns whether an expression can be `context`, or a set or record that contains it.
fn holds_context(expression: &Value) -> bool {
    if expression["Var"] == "context" {
        return true;
    }
    let Some((operator, operands)) = operation(expression) else {
        return expression["Set"].as_array().is_some_and(|set| set.iter().any(holds_context));
    };
    match operator {
        "." => holds_context(&operands["left"]),
        "if-then-else" => holds_context(&operands["then"]) || holds_context(&operands["else"]),
        "Record" => fields(operands).any(holds_context),
        _ => false,
    }
}

/// Returns whether an expression can have this value, alone or within a set or record.
fn yields(expression: &Value, normal: NormalizedAttribute) -> bool {
    let Some((operator, operands)) = operation(expression) else {
        return expression["Set"]
            .as_array()
            .is_some_and(|set| set.iter().any(|one| yields(one, normal)));
    };
    match operator {
        "." => {
            let is_attribute = operands["attr"] == normal.attribute()
                && (normal == NormalizedAttribute::UserPrincipalName
                    || holds_context(&operands["left"]));
            is_attribute || yields(&operands["left"], normal)
        }
        "if-then-else" => yields(&operands["then"], normal) || yields(&operands["else"], normal),
        "Record" => fields(operands).any(|field| yields(field, normal)),
        _ => false,
    }
}

/// Checks every literal that an expression can have as its value.
fn check_literals(
    expression: &Value,
    normal: NormalizedAttribute,
    found: &mut Vec<NonNormalLiteral>,
) {
    if let Some(literal) = expression["Value"].as_str() {
        let whole = Part { begins: true, ends: true };
        let form = normal.normalize(literal, whole);
        if form != literal {
            found.push(non_normal(literal.to_owned(), &form, literal, normal));
        }
    }
    if let Some(elements) = expression["Set"].as_array() {
        for element in elements {
            check_literals(element, normal, found);
        }
    }
    match operation(expression) {
        Some(("if-then-else", operands)) => {
            check_literals(&operands["then"], normal, found);
            check_literals(&operands["else"], normal, found);
        }
        Some(("Record", record)) => {
            fields(record).for_each(|field| check_literals(field, normal, found));
        }
        // A field of a record literal.
        Some((".", operands)) => check_literals(&operands["left"], normal, found),
        _ => {}
    }
}

/// Returns the parts of a pattern of Cedar's JSON format, `None` for a wildcard. Cedar writes a literal for each
/// character.
fn parts(pattern: &[Value]) -> Vec<Option<String>> {
    let mut parts: Vec<Option<String>> = Vec::new();
    for element in pattern {
        match (element["Literal"].as_str(), parts.last_mut()) {
            (Some(text), Some(Some(part))) => part.push_str(text),
            (text, _) => parts.push(text.map(str::to_owned)),
        }
    }
    parts
}

fn check_pattern(pattern: &Value, normal: NormalizedAttribute) -> Option<NonNormalLiteral> {
    let parts = parts(pattern.as_array()?);
    let (mut literal, mut shown, mut form) = (String::new(), String::new(), String::new());
    for (index, part) in parts.iter().enumerate() {
        match part {
            Some(text) => {
                let place = Part { begins: index == 0, ends: index + 1 == parts.len() };
                literal.push_str(&text.replace('*', &STAR.to_string()));
                shown.push_str(&text.replace('*', "\\*"));
                form.push_str(&normal.normalize(text, place).replace('*', "\\*"));
            }
            None => {
                for text in [&mut literal, &mut shown, &mut form] {
                    text.push('*');
                }
            }
        }
    }
    (form != shown).then(|| non_normal(literal, &form, &shown, normal))
}

fn non_normal(
    literal: String,
    form: &str,
    shown: &str,
    normal: NormalizedAttribute,
) -> NonNormalLiteral {
    let (name, rule) = (normal.name(), normal.rule());
    // A backslash before an asterisk belongs to Cedar's syntax and is not escaped again.
    let quoted = |text: &str| format!("{text:?}").replace("\\\\*", "\\*");
    let (shown, form) = (quoted(shown), quoted(form));
    let message = format!("{shown} never matches: {name} {rule}; write {form}");
    NonNormalLiteral { literal, message }
}

/// Returns where a literal begins in the text of a policy.
pub(super) fn find_literal(policy: &str, literal: &str) -> Option<usize> {
    let mut rest = policy.char_indices().peekable();
    while let Some((at, c)) = rest.next() {
        match c {
            '/' if rest.next_if(|(_, next)| *next == '/').is_some() => {
                while rest.next_if(|(_, next)| *next != '\n').is_some() {}
            }
            '"' if unescaped(&mut rest) == literal => return Some(at),
            _ => {}
        }
    }
    None
}

/// Reads a string to its closing quote.
fn unescaped(rest: &mut impl Iterator<Item = (usize, char)>) -> String {
    let mut text = String::new();
    while let Some((_, c)) = rest.next() {
        match c {
            '"' => break,
            '\\' => {
                let escaped = rest.next().map_or('\\', |(_, escaped)| escaped);
                text.push(match escaped {
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    '0' => '\0',
                    '*' => STAR,
                    'u' => {
                        let digits =
                            rest.by_ref().map(|(_, c)| c).skip(1).take_while(|c| *c != '}');
                        code(&digits.collect::<String>())
                    }
                    'x' => code(&rest.by_ref().map(|(_, c)| c).take(2).collect::<String>()),
                    other => other,
                });
            }
            c => text.push(c),
        }
    }
    text
}

fn code(digits: &str) -> char {
    u32::from_str_radix(digits, 16).ok().and_then(char::from_u32).unwrap_or('\u{fffd}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(condition: &str) -> Vec<String> {
        let text = format!("permit (principal, action, resource) when {{ {condition} }};");
        let policy: Policy = text.parse().unwrap();
        let found = find_non_normal_literals(&[&policy]).unwrap();
        found.into_iter().flatten().map(|wrong| wrong.message).collect()
    }

    #[test]
    fn reports_a_literal_that_is_not_in_normal_form_with_its_correction() {
        let path = |operator: &str, literal: &str| format!("context.path {operator} {literal:?}");
        for (condition, correction) in [
            (path("==", "/api/v1/Contact"), "\"/api/v1/contact\""),
            (path("!=", "/api/v1/Contact"), "\"/api/v1/contact\""),
            (path("==", "/api/v1/contact/"), "\"/api/v1/contact\""),
            (path("==", "/api/v1/a%20b"), "\"/api/v1/a b\""),
            (path("==", "/api/v1/acme inc."), "\"/api/v1/acme inc\""),
            (path("==", "/api//v1/x"), "\"/api/v1/x\""),
            (path("==", "/api/v1/stra\u{df}e"), "\"/api/v1/strasse\""),
            (path("==", "/api/v1/a\u{30a}s"), "\"/api/v1/\u{e5}s\""),
            (path("like", "*Foo*"), "\"*foo*\""),
            (path("like", "*/acme inc."), "\"*/acme inc\""),
            (path("like", "/api/v1/acme./*"), "\"/api/v1/acme/*\""),
            (path("like", "/api/v1/contact*/"), "\"/api/v1/contact*\""),
            (path("like", "/api/v1/contact/*/"), "\"/api/v1/contact/*\""),
            (path("like", "/api/v1/user/"), "\"/api/v1/user\""),
            (path("like", "*/acme%20inc*"), "\"*/acme inc*\""),
            (path("like", "/api//v1/*"), "\"/api/v1/*\""),
            (path("like", "*/a\u{30a}s/*"), "\"*/\u{e5}s/*\""),
            (path("==", "/"), "\"\""),
            (r#"context.path like "/API/\*/*""#.to_owned(), r#""/api/\*/*""#),
            (r#""/API" == context["path"]"#.to_owned(), "\"/api\""),
            (r#"["/api", "/API"].contains(context.path)"#.to_owned(), "\"/api\""),
            (r#"[context.path].contains("/API")"#.to_owned(), "\"/api\""),
            (r#"[context.path].containsAny(["/API"])"#.to_owned(), "\"/api\""),
            (r#"{a: context.path, b: 1} == {a: "/API", b: 1}"#.to_owned(), "\"/api\""),
            (r#"{a: context.path}.a == "/API""#.to_owned(), "\"/api\""),
            (r#"{a: context}.a.path == "/API""#.to_owned(), "\"/api\""),
            (r#"{a: {b: context}}.a.b.path like "/API*""#.to_owned(), "\"/api*\""),
            (r#"(if true then context else context).path == "/API""#.to_owned(), "\"/api\""),
            (r#"{a: context} == {a: {method: "GET", path: "/API"}}"#.to_owned(), "\"/api\""),
            (r#"[context].contains({method: "GET", path: "/API"})"#.to_owned(), "\"/api\""),
            (r#"[context].containsAny([{method: "GET", path: "/API"}])"#.to_owned(), "\"/api\""),
            (
                r#"context == (if true then {path: "/api"} else {path: "/API"})"#.to_owned(),
                "\"/api\"",
            ),
            (r#"context == {method: "GET", path: "/API"}"#.to_owned(), "\"/api\""),
            (r#"context.path == (if true then "/api" else "/API")"#.to_owned(), "\"/api\""),
            (r#"(if true then context.path else "") like "/API*""#.to_owned(), "\"/api*\""),
            (r#"!(false || context.path like "/API*")"#.to_owned(), "\"/api*\""),
            (r#"context.method == "get""#.to_owned(), "\"GET\""),
            (r#"["GET", "Post"].contains(context.method)"#.to_owned(), "\"POST\""),
            (r#"context.credentialOperation == "/Webhook/{ID}""#.to_owned(), "\"/webhook/{id}\""),
            (r#"["", "/User"].contains(context.credentialOperation)"#.to_owned(), "\"/user\""),
            (r#"context.credentialOperation like "*/getUser*""#.to_owned(), "\"*/getuser*\""),
            (
                r#"resource.userPrincipalName == "Admin@x.example""#.to_owned(),
                "\"admin@x.example\"",
            ),
            (r#"resource.userPrincipalName like "Admin@*""#.to_owned(), "\"admin@*\""),
            (
                r#"resource.userPrincipalName like "*@STRA\u{df}E.example""#.to_owned(),
                "\"*@strasse.example\"",
            ),
            (r#"resource.userPrincipalName like "a\u{30a}se@*""#.to_owned(), "\"\u{e5}se@*\""),
            (
                r#"["Admin@x.example"].contains(resource.userPrincipalName)"#.to_owned(),
                "\"admin@x.example\"",
            ),
        ] {
            let messages = messages(&condition);
            assert_eq!(messages.len(), 1, "{condition}: {messages:?}");
            assert!(
                messages[0].ends_with(&format!("write {correction}")),
                "{condition}: {messages:?}"
            );
        }
    }

    #[test]
    fn accepts_literals_in_normal_form_and_literals_of_other_values() {
        for condition in [
            r#"context.path == "/api/v1/contact/100% norsk""#,
            r#"context.path == """#,
            r#"context.path like "*""#,
            r#"context.path like "/api/v1/acme inc.*""#,
            r#"context.path like "/api/v1/contact/*""#,
            r#"context.path like "/api/v1/*""#,
            r#"context.path like "/api/*/user/currenttoken""#,
            r#"context.path like "*/contact/*""#,
            r#"context.path like "/*/*/*""#,
            r#"context.credentialOperation != """#,
            r#"context.credentialOperation == "/webhook/{id}""#,
            r#"{a: context}.a.path == "/api""#,
            r#"context.path like "*/\u{4e2d}\u{56fd}*""#,
            r#"context == {method: "GET", path: "/api"}"#,
            r#"principal.method == "jwt" && principal.issuer == "https://Issuer.example""#,
            r#"resource.userPrincipalName == """#,
            r#"resource.userPrincipalName like "admin@*" && principal == Caller::"Admin""#,
        ] {
            assert_eq!(messages(condition), [""; 0], "{condition}");
        }
    }

    #[test]
    fn checks_a_deep_policy_from_a_small_stack() {
        let condition = format!("{}context.path == \"/API\"", "1 + 1 == 2 && ".repeat(250));
        let check = move || assert_eq!(messages(&condition).len(), 1);
        let small = thread::Builder::new().stack_size(1024 * 1024);
        small.spawn(check).unwrap().join().unwrap();
    }

    #[test]
    fn finds_a_literal_in_the_text_of_its_policy() {
        let text =
            "// \"/API\"\n  context.path == \"x\" ||\n context.path like \"/\\u{41}PI/\\**\"";
        let at = find_literal(text, &format!("/API/{STAR}*")).unwrap();
        assert_eq!(text[at..].split('u').next(), Some("\"/\\"));
        assert_eq!(find_literal(text, "/API"), None);
    }
}
