//! List filters: an accepted filter prints as text that parses to the same filter; an error has a position in the text.
#![no_main]

use std::collections::BTreeMap;

use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use tenant_gateway::domain::{Field, FieldKind, Fields, Filter, Value};

const SCHEMA: &[Field] = &[
    Field { name: "caller", kind: FieldKind::Text },
    Field { name: "decision", kind: FieldKind::Enum(&["ALLOWED", "DENIED"]) },
    Field { name: "code", kind: FieldKind::Int },
    Field { name: "disabled", kind: FieldKind::Bool },
    Field { name: "time", kind: FieldKind::Time },
    Field { name: "roles", kind: FieldKind::TextList },
    Field { name: "labels", kind: FieldKind::Map },
];

struct Item(BTreeMap<String, String>);

impl Fields for Item {
    fn get(&self, field: &str) -> Value<'_> {
        match field {
            "caller" => Value::Text("spiffe://example.com/reports".into()),
            "decision" => Value::Text("DENIED".into()),
            "code" => Value::Int(7),
            "disabled" => Value::Bool(false),
            "time" => Value::Time(Timestamp::UNIX_EPOCH),
            "roles" => Value::List(vec!["admin"]),
            "labels" => Value::Map(&self.0),
            _ => Value::Absent,
        }
    }
}

fuzz_target!(|text: &str| {
    let item = Item([("team".to_owned(), "blue".to_owned())].into());
    match Filter::parse(text, SCHEMA) {
        Ok(filter) => {
            let matches = filter.matches(&item);
            let (from, to) = filter.time_bounds("time");
            assert!(!matches || (from <= Timestamp::UNIX_EPOCH && Timestamp::UNIX_EPOCH <= to));
            // Added quotes and spaces can make the text too long.
            let printed = filter.to_string();
            if printed.len() <= 2048 {
                assert_eq!(Filter::parse(&printed, SCHEMA), Ok(filter));
            }
        }
        Err(error) => assert!(text.is_char_boundary(error.position)),
    }
});
