use proptest::prelude::*;

use super::*;

const SCHEMA: &[Field] = &[
    Field { name: "name", kind: FieldKind::Text },
    Field { name: "state", kind: FieldKind::Enum(&["RUNNING", "DELETED"]) },
    Field { name: "size", kind: FieldKind::Int },
    Field { name: "disabled", kind: FieldKind::Bool },
    Field { name: "time", kind: FieldKind::Time },
    Field { name: "roles", kind: FieldKind::TextList },
    Field { name: "labels", kind: FieldKind::Map },
    Field { name: "nothing", kind: FieldKind::Text },
];

struct Item(BTreeMap<String, String>);

impl Fields for Item {
    fn get(&self, field: &str) -> Value<'_> {
        match field {
            "name" => Value::Text("Contoso * Ltd".into()),
            "state" => Value::Text("RUNNING".into()),
            "size" => Value::Int(-5),
            "disabled" => Value::Bool(false),
            "time" => Value::Time("2026-11-22T10:00:00Z".parse().unwrap()),
            "roles" => Value::List(vec!["admin", "reader"]),
            "labels" => Value::Map(&self.0),
            _ => Value::Absent,
        }
    }
}

fn item() -> Item {
    let labels = [("team", "blue"), ("a.b", "dotted"), ("empty", "")];
    Item(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into())
}

fn read(text: &str) -> Filter {
    Filter::parse(text, SCHEMA).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn filters_match_the_expected_items() {
    for text in [
        "",
        "  ",
        "name = \"Contoso \\* Ltd\"",
        "name=\"Contoso*\"",
        "name = '* Ltd'",
        "name = \"*nto*\"",
        "name = *",
        "name != Contoso",
        "name > Alpha",
        "name:Ltd",
        "name:*",
        "state = RUNNING",
        "state != DELETED",
        "size = -5",
        "size<0 size>=-5 AND size <= -5",
        "size != 4",
        "disabled = false",
        "time = 2026-11-22T11:00:00+01:00",
        "time > \"2026-11-22T09:59:59.999Z\"",
        "roles:admin",
        "roles:read*",
        "roles:*",
        "labels.team = blue",
        "labels.team:*",
        "labels:team",
        "labels.\"a.b\" = dotted",
        "contoso",
        "\"CONTOSO \\*\"",
        "blue",
        "NOT state = DELETED",
        "-state = DELETED",
        "-(state = DELETED OR size > 0)",
        "NOT nothing = x",
        "NOT nothing != x",
        // OR binds tighter than AND.
        "size = 1 OR size = -5 AND state = RUNNING",
        "size = -5 OR size = 1 AND (state = RUNNING)",
        "size = -5 disabled = true OR disabled = false",
    ] {
        assert!(read(text).matches(&item()), "{text}");
    }
    for text in [
        "name = contoso",
        "name = \"Ltd*\"",
        "name:ltd",
        "state = DELETED",
        "size > -5",
        "disabled = true",
        "time < 2026-11-22T10:00:00Z",
        "roles:writer",
        "labels.team != blue",
        "labels.other != blue",
        "labels.empty:*",
        "labels:other",
        "fabrikam",
        "nothing = x",
        "nothing != x",
        "nothing:*",
        "NOT state = RUNNING",
        "state = RUNNING AND size = 1 OR size = 2",
        "size = -5 AND state = DELETED OR state = UNKNOWN_IS_REFUSED_BELOW",
    ] {
        let filter = Filter::parse(text, SCHEMA);
        assert!(!filter.is_ok_and(|filter| filter.matches(&item())), "{text}");
    }
}

#[test]
fn rejects_malformed_filters_with_position() {
    for (text, position, words) in [
        ("nam = x", 0, "did you mean `name`?"),
        ("zzzzzz = x", 0, "there are name, state"),
        ("name = ", 7, "expected a value, found the end"),
        ("name = AND", 7, "expected a value"),
        ("name = (a OR b)", 7, "expected a value, found `(`"),
        ("(name = x", 9, "expected `)`"),
        ("name = x)", 8, "expected AND, OR or the end of the filter, found `)`"),
        ("()", 1, "expected a comparison or a text"),
        ("AND name = x", 0, "expected a comparison or a text"),
        ("name = x OR", 11, "expected a comparison or a text, found the end"),
        ("name = x AND AND size = 1", 13, "expected a comparison"),
        ("NOT", 3, "expected a comparison"),
        ("- name = x", 1, "expected a comparison"),
        ("name = \"abc", 11, "expected \" to end the text"),
        ("name = \"a\\n\"", 9, "escaped character"),
        ("name = \"a*b\"", 7, "start or the end"),
        ("name < \"a*\"", 7, "can only be compared"),
        ("name ! x", 5, "expected"),
        ("name == x", 6, "expected a value"),
        ("name.key = x", 5, "`name` has no keys"),
        ("labels.a.b = x", 9, "must be quoted"),
        ("labels. = x", 7, "expected a key"),
        ("labels = x", 7, "expected :"),
        ("roles = x", 6, "expected :"),
        ("state < RUNNING", 6, "expected = or != or :"),
        ("state = RUNING", 8, "did you mean `RUNNING`?"),
        ("size = many", 7, "a whole number"),
        ("size = 99999999999999999999", 7, "a whole number"),
        ("disabled = maybe", 11, "true or false"),
        ("time > yesterday", 7, "a time such as"),
        ("\"name\" = x", 0, "found a quoted text"),
        ("startsWith(name)", 0, "functions are not supported"),
        ("name = a, size = 1", 8, "expected"),
        ("ä = x", 0, "there is no field `ä`"),
    ] {
        let error = Filter::parse(text, SCHEMA).unwrap_err();
        assert!(error.problem.contains(words), "{text}: {error}");
        assert_eq!(error.position, position, "{text}: {error}");
    }
}

#[test]
fn filters_have_limits() {
    let long = format!("name = \"{}\"", "x".repeat(MAX_LENGTH));
    assert_eq!(Filter::parse(&long, SCHEMA).unwrap_err().position, MAX_LENGTH);
    let deep = |depth| format!("{}x{}", "(".repeat(depth), ")".repeat(depth));
    assert!(Filter::parse(&deep(MAX_DEPTH), SCHEMA).is_ok());
    assert_eq!(Filter::parse(&deep(MAX_DEPTH + 1), SCHEMA).unwrap_err().position, MAX_DEPTH);
    assert!(Filter::parse(&"x ".repeat(MAX_TERMS), SCHEMA).is_ok());
    let error = Filter::parse(&"x ".repeat(MAX_TERMS + 1), SCHEMA).unwrap_err();
    assert_eq!(error.position, 2 * MAX_TERMS);
    // Parentheses side by side are not nested.
    assert!(Filter::parse(&"(x) ".repeat(MAX_TERMS), SCHEMA).is_ok());
}

#[test]
fn time_bounds_include_all_matches() {
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let (from, to) = (at("2026-01-01T00:00:00Z"), at("2026-02-01T00:00:00Z"));
    let all = (Timestamp::MIN, Timestamp::MAX);
    for (text, wanted) in [
        ("time >= 2026-01-01T00:00:00Z AND time < 2026-02-01T00:00:00Z size = 1", (from, to)),
        ("time = 2026-01-01T00:00:00Z", (from, from)),
        ("time > 2026-01-01T00:00:00Z OR size = 1", all),
        ("NOT time > 2026-01-01T00:00:00Z", all),
        ("time != 2026-01-01T00:00:00Z", all),
        ("", all),
    ] {
        assert_eq!(read(text).time_bounds("time"), wanted, "{text}");
    }
}

/// Texts that look like filters.
fn likely() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("name"),
        Just("labels.team"),
        Just("state"),
        Just("time"),
        Just("size"),
        Just("="),
        Just(":"),
        Just("<="),
        Just("!="),
        Just("AND"),
        Just("OR"),
        Just("NOT "),
        Just("-"),
        Just("("),
        Just(")"),
        Just("*"),
        Just("\""),
        Just("\\"),
        Just("'"),
        Just("RUNNING"),
        Just("-7"),
        Just("2026-01-01T00:00:00Z"),
        Just("ä"),
        Just("."),
        Just(" "),
        Just(" "),
    ];
    proptest::collection::vec(word, 0..20).prop_map(|words| words.concat())
}

fn filter() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        "name (=|!=|:|<) [a-z]{1,3}",
        "name = \"[*]?[a-zä \\\\]{0,2}\"".prop_filter("an escape", |text| !text.contains('\\')),
        Just("name = \"a\\\\\\\"\\*\"".to_owned()),
        "size (=|>) -?[0-9]{1,4}",
        Just("labels.\"a.b\":*".to_owned()),
        Just("labels.team = x*".to_owned()),
        Just("time < 2026-01-01T00:00:00+01:00".to_owned()),
        Just("state != DELETED".to_owned()),
        Just("disabled:true".to_owned()),
        Just("roles:*x".to_owned()),
        "[a-z]{4,5}|192\\.0\\.2\\.1|\"[a-z]\"",
    ];
    leaf.prop_recursive(5, 30, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(one, other)| format!("{one} AND {other}")),
            (inner.clone(), inner.clone()).prop_map(|(one, other)| format!("{one} OR {other}")),
            (inner.clone(), inner.clone()).prop_map(|(one, other)| format!("{one} {other}")),
            inner.clone().prop_map(|inner| format!("({inner})")),
            inner.clone().prop_map(|inner| format!("NOT ({inner})")),
            inner.prop_map(|inner| format!("-({inner})")),
        ]
    })
}

proptest! {
    #[test]
    fn errors_have_a_position_in_the_text(text in prop_oneof![likely(), "\\PC{0,60}"]) {
        match Filter::parse(&text, SCHEMA) {
            Ok(filter) => {
                let _ = filter.matches(&item());
                prop_assert_eq!(read(&filter.to_string()), filter);
            }
            Err(error) => {
                prop_assert!(error.position <= text.len());
                prop_assert!(text.is_char_boundary(error.position));
                prop_assert!(!error.problem.is_empty());
            }
        }
    }

    #[test]
    fn a_formatted_filter_parses_back_to_itself(text in filter()) {
        if let Ok(filter) = Filter::parse(&text, SCHEMA) {
            let printed = filter.to_string();
            prop_assert_eq!(read(&printed), filter, "{}", printed);
        } else {
            prop_assert!(text.len() > MAX_LENGTH || text.matches([' ']).count() > MAX_TERMS);
        }
    }
}
