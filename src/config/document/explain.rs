//! Serde's messages, made into what a person can act on. The value itself is left out: it may be a secret.

/// Below this likeness (Jaro-Winkler) a suggestion confuses more than it helps.
const LIKENESS: f64 = 0.8;

/// What serde says it expected, and what that is called in a configuration file.
const EXPECTED: [(&str, &str); 6] = [
    ("a boolean", "must be true or false, without quotes"),
    ("a string", "must be text in quotes"),
    ("path string", "must be a path in quotes"),
    ("a sequence", "must be a list; a list of sections is written [[…]]"),
    ("struct", "must be a section or { … }"),
    ("u", "must be a whole number, 0 or more, without quotes"),
];

/// The message for people, and the full name of the key that was probably meant, if that can be guessed.
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
        // What can be had from a file or the environment is a secret that somebody wrote down here.
        let [file, env] = ["_file", "_env"].map(|end| format!("{given}{end}"));
        let place = known.iter().copied().find(|known| *known == file);
        let inline = place.filter(|_| known.contains(&env.as_str()));
        let meant = place.or_else(|| nearest(given, &known));
        let text = match (inline, meant) {
            (Some(place), _) => format!(
                "{what}; did you mean `{place}`? A secret never stands in this file: name a file or an environment variable"
            ),
            (None, Some(meant)) => format!("{what}; did you mean `{meant}`?"),
            (None, None) => format!("{what}; known here: {}", known.join(", ")),
        };
        let meant = meant.filter(|_| what == "unknown key");
        return (text, meant.map(|meant| full(parent, meant)));
    }
    if let Some((_, expected)) = message.rsplit_once("expected ") {
        let known = EXPECTED.iter().find(|(start, _)| expected.starts_with(start));
        return (
            known.map_or_else(|| format!("must be {expected}"), |(_, text)| (*text).to_owned()),
            None,
        );
    }
    (message.to_owned(), None)
}

/// The key with the section it stands in.
pub(super) fn full(parent: &str, key: &str) -> String {
    if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") }
}

/// The candidate that is most like `given`, if any is like it at all.
pub(in crate::config) fn nearest<'c>(given: &str, candidates: &[&'c str]) -> Option<&'c str> {
    let given = given.to_lowercase().replace('-', "_");
    let likeness = |candidate: &str| strsim::jaro_winkler(&given, candidate);
    candidates
        .iter()
        .copied()
        .filter(|candidate| likeness(candidate) >= LIKENESS)
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_known_key_is_offered() {
        let message = "unknown field `lisen`, expected one of `listen`, `tls`, `public_uri`";
        let (text, meant) = explain(message, "grpc");
        assert_eq!(text, "unknown key; did you mean `listen`?");
        assert_eq!(meant.as_deref(), Some("grpc.listen"));

        let (text, meant) = explain("unknown field `lstn`, expected `listen`", "admin");
        assert_eq!(text, "unknown key; did you mean `listen`?");
        assert_eq!(meant.as_deref(), Some("admin.listen"));

        let (text, meant) = explain("unknown field `colour`, expected `listen` or `tls`", "http");
        assert_eq!(text, "unknown key; known here: listen, tls");
        assert_eq!(meant, None);
    }

    #[test]
    fn the_value_is_not_repeated() {
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
