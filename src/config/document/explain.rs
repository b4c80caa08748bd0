//! Converts serde's messages into messages for administrators. They never contain the value, which may be a secret.

/// The minimum Jaro-Winkler similarity of a suggestion; less similar ones confuse more than they help.
const MIN_SIMILARITY: f64 = 0.8;

/// Serde's names of expected types, and the messages for them.
const EXPECTED: [(&str, &str); 6] = [
    ("a boolean", "must be true or false, without quotes"),
    ("a string", "must be text in quotes"),
    ("path string", "must be a path in quotes"),
    ("a sequence", "must be a list; a list of sections is written [[…]]"),
    ("struct", "must be a section or { … }"),
    ("u", "must be a whole number, 0 or more, without quotes"),
];

/// Returns the message, and the full name of the probably intended key, if there is a similar one.
pub(super) fn explain(message: &str, parent: &str) -> (String, Option<String>) {
    let unknown = message.strip_prefix("unknown field `").map(|rest| ("unknown key", rest));
    let unknown = unknown.or_else(|| {
        let rest = message.strip_prefix("unknown variant `")?;
        Some(("unknown value", rest))
    });
    if let Some((what, (given, expected))) =
        unknown.and_then(|(what, rest)| Some((what, rest.split_once("`, expected ")?)))
    {
        let known: Vec<_> = expected.split('`').skip(1).step_by(2).collect();
        // A key that exists with `_file` and `_env` is a secret that was written into this file.
        let [file, env] = ["_file", "_env"].map(|end| format!("{given}{end}"));
        let place = known.iter().copied().find(|known| *known == file);
        let inline = place.filter(|_| known.contains(&env.as_str()));
        let meant = place.or_else(|| nearest(given, &known));
        let text = match (inline, meant) {
            (Some(place), _) => format!(
                "{what}; did you mean `{place}`? This file must not contain secrets: name a file or an environment variable"
            ),
            (None, Some(meant)) => format!("{what}; did you mean `{meant}`?"),
            (None, None) => format!("{what}; valid here: {}", known.join(", ")),
        };
        let meant = meant.filter(|_| what == "unknown key");
        return (text, meant.map(|meant| full(parent, meant)));
    }
    // Serde's own messages begin so. The other ones are this program's.
    let invalid = message.strip_prefix("invalid ");
    if let Some((_, expected)) = invalid.and_then(|rest| rest.rsplit_once("expected ")) {
        let known = EXPECTED.iter().find(|(start, _)| expected.starts_with(start));
        return (
            known.map_or_else(|| format!("must be {expected}"), |(_, text)| (*text).to_owned()),
            None,
        );
    }
    (message.to_owned(), None)
}

/// Returns the key with its section.
pub(super) fn full(parent: &str, key: &str) -> String {
    if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") }
}

/// Returns the candidate that is most similar to `given`, if one is similar enough.
pub(in crate::config) fn nearest<'c>(given: &str, candidates: &[&'c str]) -> Option<&'c str> {
    let given = given.to_lowercase().replace('-', "_");
    let likeness = |candidate: &str| strsim::jaro_winkler(&given, candidate);
    candidates
        .iter()
        .copied()
        .filter(|candidate| likeness(candidate) >= MIN_SIMILARITY)
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_the_most_similar_key() {
        let message = "unknown field `lisen`, expected one of `listen`, `tls`, `public_uri`";
        let (text, meant) = explain(message, "grpc");
        assert_eq!(text, "unknown key; did you mean `listen`?");
        assert_eq!(meant.as_deref(), Some("grpc.listen"));

        let (text, meant) = explain("unknown field `lstn`, expected `listen`", "admin");
        assert_eq!(text, "unknown key; did you mean `listen`?");
        assert_eq!(meant.as_deref(), Some("admin.listen"));

        let (text, meant) = explain("unknown field `colour`, expected `listen` or `tls`", "http");
        assert_eq!(text, "unknown key; valid here: listen, tls");
        assert_eq!(meant, None);
    }

    #[test]
    fn keeps_the_messages_of_this_program() {
        let message = "entry 2 of the list: expected a network";
        assert_eq!(explain(message, ""), (message.to_owned(), None));
    }

    #[test]
    fn messages_do_not_repeat_the_value() {
        for message in [
            "invalid type: string \"hunter2\", expected a boolean",
            "invalid value: string \"hunter2\", expected u32",
            "invalid type: string \"expected hunter2\", expected struct Grpc",
            "unknown variant `hunter2`, expected `json` or `pretty`",
        ] {
            let (text, _) = explain(message, "");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }
}
