//! Web API operations whose responses can hold passwords, keys, tokens or secrets.
//!
//! `credential_operations.txt` lists them. `tools/derive-credential-operations` generates that file from the response
//! schemas in SuperOffice's API descriptions. A path that can be read in two ways is listed if either reading is.

use std::{collections::HashMap, sync::LazyLock};

const LIST: &str = include_str!("credential_operations.txt");

/// The path segment before an agent and its operation.
const AGENTS: &str = "agents";

/// Maximum number of readings of a path: each of the first five segments with brackets can be read in two ways. No
/// listed template has more than four segments after the version.
const MAX_READINGS: usize = 32;

/// Maximum number of segments that are compared: more than any listed template has.
const MAX_SEGMENTS: usize = 12;

/// The listed operations by their first path segment, or by their agent.
static OPERATIONS: LazyLock<HashMap<&'static str, Vec<Operation>>> = LazyLock::new(|| {
    let mut areas: HashMap<_, Vec<_>> = HashMap::new();
    for operation in LIST.lines().filter_map(Operation::read) {
        areas.entry(operation.area()).or_default().push(operation);
    }
    // The first match is used, so templates with literals come before those with parameters.
    for operations in areas.values_mut() {
        operations.sort_by_key(|operation: &Operation| {
            operation.segments.iter().map(Option::is_none).collect::<Vec<_>>()
        });
    }
    areas
});

/// A listed path template.
struct Operation {
    /// The text in the list.
    template: &'static str,
    /// Whether its responses can hold credentials. Others are listed because a listed template matches them too.
    secret: bool,
    /// The literal segments; `None` for a parameter.
    segments: Vec<Option<&'static str>>,
    /// Whether more segments may follow.
    open: bool,
    /// The methods whose responses hold no credential.
    plain_methods: Vec<&'static str>,
}

/// Returns the operation that a call invokes, if its response can hold credentials: the path template without the
/// version, such as `/webhook/{id}`.
///
/// `path` is in the form of [`ApiPath::normal_form`](super::ApiPath::normal_form). A method that the API does not
/// describe for the path counts as one whose response holds credentials, because its response is unknown.
#[must_use]
pub fn credential_operation(method: &str, path: &str) -> Option<&'static str> {
    let mut segments: Vec<&str> = path.split('/').skip(2).collect();
    // Suffixes such as `$value` and `$count` return another form of the resource before them.
    while segments.last().is_some_and(|last| last.starts_with('$')) {
        segments.pop();
    }
    segments.truncate(MAX_SEGMENTS);
    let method = if method == "HEAD" { "GET" } else { method };
    readings(&segments).iter().find_map(|segments| {
        // A server may also accept a path without a version.
        let first = name(segments.first()?);
        let versioned = first != AGENTS && !OPERATIONS.contains_key(first);
        find(method, segments.get(usize::from(versioned)..)?)
    })
}

/// Returns the ways in which servers can read the segments of a path. `OData` writes `user(5)` for `user/5`; other
/// servers read it as one segment. Readings that split segments at their brackets come first.
fn readings<'a>(segments: &[&'a str]) -> Vec<Vec<&'a str>> {
    let mut readings: Vec<Vec<&'a str>> = vec![Vec::with_capacity(segments.len() + 1)];
    for segment in segments {
        let brackets = segment.split_once('(').filter(|(name, _)| is_name(name));
        let mut split = Vec::new();
        if let Some((name, key)) = brackets
            && readings.len() < MAX_READINGS
        {
            let key = key.trim_end_matches(')');
            split.clone_from(&readings);
            for reading in &mut split {
                reading.extend([name, key].iter().filter(|part| !part.is_empty()));
            }
        }
        for reading in &mut readings {
            reading.push(*segment);
        }
        split.append(&mut readings);
        readings = split;
    }
    readings
}

fn find(method: &str, segments: &[&str]) -> Option<&'static str> {
    let first = name(segments.first()?);
    let area = if first == AGENTS { name(segments.get(1)?) } else { first };
    let found = OPERATIONS.get(area)?.iter().find_map(|operation| {
        let plain = operation.plain_methods.contains(&method);
        // For its other methods, a `plain` entry does not apply and another match is used.
        (operation.matches(segments) && (operation.secret || plain))
            .then(|| (!plain).then_some(operation.template))
    });
    found.flatten()
}

/// Returns the name at the start of a segment. Servers may accept suffixes such as `.json`.
fn name(segment: &str) -> &str {
    let end = segment.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(segment.len());
    segment.get(..end).unwrap_or(segment)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && name(text).len() == text.len()
}

impl Operation {
    /// Parses a line: `secret` or `plain`, the template, and methods.
    fn read(line: &'static str) -> Option<Self> {
        let mut words = line.split(' ');
        let secret = match words.next()? {
            "secret" => true,
            "plain" => false,
            _ => return None,
        };
        let template = words.next()?;
        let (template, open) = match template.strip_suffix("/*") {
            Some(template) => (template, true),
            None => (template, false),
        };
        let literal = |segment: &'static str| (!segment.starts_with('{')).then_some(segment);
        let segments = template.split('/').skip(1).map(literal).collect();
        Some(Self { template, secret, segments, open, plain_methods: words.collect() })
    }

    fn area(&self) -> &'static str {
        let first = self.segments.first().copied().flatten().unwrap_or_default();
        let second = || self.segments.get(1).copied().flatten().unwrap_or_default();
        if first == AGENTS { second() } else { first }
    }

    fn matches(&self, segments: &[&str]) -> bool {
        let enough = segments.len() == self.segments.len()
            || self.open && segments.len() > self.segments.len();
        enough
            && self.segments.iter().zip(segments).all(|(wanted, segment)| match wanted {
                None => true,
                Some(literal) if self.secret => *literal == name(segment),
                Some(literal) => literal == segment,
            })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::domain::ApiPath;

    fn of(method: &str, path: &str) -> Option<&'static str> {
        credential_operation(method, ApiPath::parse(path).unwrap().normal_form())
    }

    fn filled(template: &str) -> String {
        template
            .split('/')
            .map(|s| if s.starts_with('{') { "12" } else { s })
            .collect::<Vec<_>>()
            .join("/")
    }

    #[test]
    fn every_line_of_the_list_is_valid_and_unique() {
        let lines: Vec<_> = LIST.lines().filter(|line| !line.starts_with('#')).collect();
        let read: Vec<_> = lines.iter().filter_map(|line| Operation::read(line)).collect();
        assert_eq!(read.len(), lines.len());
        assert!(read.iter().filter(|one| one.secret).count() > 100);
        let templates: HashSet<_> = read.iter().map(|one| one.template).collect();
        assert_eq!(templates.len(), read.len());
        for one in &read {
            assert_eq!(one.template, one.template.to_lowercase());
            assert!(one.segments.first().unwrap().is_some(), "{}", one.template);
        }
    }

    #[test]
    fn finds_every_listed_operation_in_every_spelling() {
        let all = LIST.lines().filter_map(Operation::read).collect::<Vec<_>>();
        for one in all.iter().filter(|one| one.secret) {
            let path = filled(one.template);
            let spellings = [
                format!("/api/v1{path}"),
                format!("/api/v1{path}/"),
                format!("/api/v2{}", path.to_uppercase()),
                format!("/api{path}"),
                format!("/api/v1{path}?$select=Name"),
                format!("/api/v1{path}/$value"),
                format!("/api/v1{path}.json"),
                format!("/api/v1{}", path.replacen('s', "%73", 1)),
            ];
            for method in ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "X"] {
                let described = if method == "HEAD" { "GET" } else { method };
                let wanted = (!one.plain_methods.contains(&described)).then_some(one.template);
                for spelling in &spellings {
                    assert_eq!(of(method, spelling), wanted, "{method} {spelling}");
                }
            }
        }
    }

    #[test]
    fn finds_operations_in_spellings_that_lenient_servers_accept() {
        for path in [
            "/api/v1/user/CURRENTTOKEN/",
            "/api/v1/User/%63urrentToken?x",
            "/api/v2/User/currentToken.json",
            "/api/v1/User./currentToken%20.",
            "/api/v1/%20User/\u{200b}currentToken",
            "/api/v1/u\u{17f}er/currentTo\u{212a}en",
            "/api/v1/User/\u{ff23}urrentToken",
        ] {
            assert!(of("GET", path).is_some(), "{path}");
        }
        let path = "/api/v1/Agents/Associate/GetEncrypt\u{131}onKey";
        assert!(of("POST", path).is_some(), "{path}");
    }

    #[test]
    fn lists_known_operations_that_return_credentials() {
        for (method, path) in [
            ("GET", "/api/v1/User/currentToken"),
            ("GET", "/api/v1/User/currentToken/x"),
            ("GET", "/api/v1/User(5)"),
            ("GET", "/api/v1/User/5"),
            ("GET", "/api/v1/User/current"),
            ("GET", "/api/v1/Webhook"),
            ("GET", "/api/v1/Webhook/5"),
            ("PUT", "/api/v1/Webhook/5"),
            ("POST", "/api/v1/Webhook"),
            ("GET", "/api/v1/CRMScript/5"),
            ("GET", "/api/v1/ChatSession/5"),
            ("POST", "/api/v1/Agents/Webhook/GetAllWebhooks"),
            ("POST", "/api/v1/Agents/EMail/GetEMailAccount"),
            ("POST", "/api/v1/Agents/EMail/GetCurrentAccount()"),
            ("POST", "/api/v1/Agents/User/GetServiceAuth"),
            ("POST", "/api/v1/Agents/User/GetAccessToken"),
            ("POST", "/api/v1/Agents/User/GetExternalTokens"),
            ("POST", "/api/v1/Agents/User/GetUntrustedCredentials"),
            ("POST", "/api/v1/Agents/User/SetGeneratedPassword"),
            ("POST", "/api/v1/Agents/Person/GetUserCandidateByPerson"),
            ("POST", "/api/v1/Agents/Person/CreateTemporaryKey"),
            ("POST", "/api/v1/Agents/CustomerService/CreateSession"),
            ("POST", "/api/v1/Agents/CustomerService/GetSmsConfig"),
            ("POST", "/api/v1/Agents/CRMScript/GetCRMScriptEntity"),
            ("POST", "/api/v1/Agents/Associate/GetEncryptionKey"),
            ("POST", "/api/v1/Agents/Authentication/Whatever"),
            ("POST", "/api/v1/Agents/Quote/GetConnection"),
            ("POST", "/api/v1/Agents/Quote/SaveConnectionConfigFields"),
            ("POST", "/api/v1/Agents/Configuration/GetCSRegistryValue"),
        ] {
            assert!(of(method, path).is_some(), "{method} {path}");
        }
    }

    #[test]
    fn reads_brackets_as_a_key_and_as_part_of_the_name() {
        for (method, path, wanted) in [
            ("GET", "/api/v1/User(5)", "/user/{id}"),
            ("POST", "/api/v1/User(5)", "/user/{id}"),
            ("GET", "/api/v1/User/anna(test)", "/user/{id}"),
            ("GET", "/api/v1/User/anna(test)/$value", "/user/{id}"),
            ("GET", "/api/v1/Webhook/5(x)", "/webhook/{id}"),
            ("GET", "/api/v1(x)/User/currentToken", "/user/currenttoken"),
            ("GET", "/api/v1(x)/User(currentToken)", "/user/currenttoken"),
            ("GET", "/api/v1()/User()/currentToken()", "/user/currenttoken"),
            (
                "GET",
                "/api/Attachment(CopyFromCrmDocument)/5(x)",
                "/attachment/copyfromcrmdocument/{documentid}",
            ),
            ("POST", "/api/v1/Agents(User)/GetAccessToken(x)", "/agents/user/getaccesstoken"),
            (
                "POST",
                "/api/v1/Agents/Authentication/Authenticate",
                "/agents/authentication/{operation}",
            ),
            (
                "POST",
                "/api/v1/Agents/Authentication/Authenticate/x",
                "/agents/authentication/{operation}",
            ),
            (
                "POST",
                "/api/v1/Agents/Authentication/Authenticate(x)",
                "/agents/authentication/{operation}",
            ),
        ] {
            assert_eq!(of(method, path), Some(wanted), "{method} {path}");
        }
        for path in ["/api/v1/User(", "/api/v1/Contact(5)", "/api/v1/Contact/anna(test)"] {
            assert_eq!(of("GET", path), None, "{path}");
        }
        let many = format!("/api/v1{}", "/User(5)".repeat(1000));
        assert_eq!(of("GET", &many), None);
    }

    #[test]
    fn ordinary_operations_are_not_listed() {
        for (method, path) in [
            ("GET", "/api"),
            ("GET", "/api/v1"),
            ("GET", "/api/v1/User"),
            ("GET", "/api/v1/User?$select=userName,password"),
            ("GET", "/api/v1/User/currentPrincipal"),
            ("HEAD", "/api/v1/User/currentPrincipal"),
            ("DELETE", "/api/v1/User/5"),
            ("GET", "/api/v1/Contact/12"),
            ("PATCH", "/api/v1/Contact/12"),
            ("GET", "/api/v1/Contact/Duplicates/Secret Token (Norge)"),
            ("GET", "/api/v1/Person/12"),
            ("POST", "/api/v1/Appointment"),
            ("GET", "/api/v1/Document/12/Content"),
            ("GET", "/api/v1/Project/12"),
            ("GET", "/api/v1/Ticket/12"),
            ("GET", "/api/v1/Sale/12"),
            ("GET", "/api/v1/ERPSync"),
            ("POST", "/api/v1/Webhook/Test"),
            ("DELETE", "/api/v1/Webhook/5"),
            ("GET", "/api/v1/Webhook/5/LastError"),
            ("GET", "/api/v1/MDOList/usergroup"),
            ("POST", "/api/v1/Archive/AllUsers"),
            ("POST", "/api/v1/Agents/Contact/GetContactEntity"),
            ("POST", "/api/v1/Agents/Quote/GetQuoteEntity"),
            ("POST", "/api/v1/Agents/User/CanChangePassword"),
            ("POST", "/api/v1/Agents/User/ChangePassword"),
            ("POST", "/api/Agents/User/ChangePassword"),
            ("POST", "/api/v1/Agents/Archive/GetArchiveListByColumns"),
        ] {
            assert_eq!(of(method, path), None, "{method} {path}");
        }
    }

    #[test]
    fn prefers_a_literal_template_over_one_with_a_parameter() {
        assert_eq!(of("POST", "/api/v1/Webhook/Test"), None);
        // The API describes no such operation, so the template with the parameter matches.
        assert_eq!(of("GET", "/api/v1/Webhook/Test"), Some("/webhook/{id}"));
        assert_eq!(of("GET", "/api/v1/User/someone"), Some("/user/{id}"));
        assert_eq!(of("GET", "/api/v1/User/currentPrincipal.json"), Some("/user/{id}"));
    }
}
