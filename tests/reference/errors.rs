//! The reasons of errors: their codes from the program, their meanings from the contract.

use std::fmt::Write as _;

use tenant_gateway::domain::Reason;
use tonic::Code;

use crate::{api, markdown::cell};

pub(crate) fn reasons() -> impl Iterator<Item = &'static str> {
    Reason::ALL.iter().map(|reason| reason.as_str())
}

pub(crate) fn render() -> String {
    let mut page =
        String::from("| reason | gRPC code | HTTP status | meaning |\n|---|---|---|---|\n");
    let meanings = api::enum_values("ErrorReason");
    for reason in Reason::ALL {
        let name = reason.as_str();
        let wire = format!("ERROR_REASON_{name}");
        let meaning = meanings.iter().find(|(value, _)| *value == wire);
        let (_, meaning) = meaning.unwrap_or_else(|| panic!("the contract has no {wire}"));
        let code = code_name(Code::from_i32(reason.code()));
        let meaning = without_code(meaning, &code);
        let status = reason.http_status();
        writeln!(page, "| `{name}` | `{code}` | {status} | {} |", cell(&meaning)).unwrap();
    }
    page
}

/// `FAILED_PRECONDITION` for `FailedPrecondition`.
fn code_name(code: Code) -> String {
    let mut name = String::new();
    for c in format!("{code:?}").chars() {
        if c.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(c.to_ascii_uppercase());
    }
    name
}

/// The meaning without the code at its beginning, which has a column of its own.
fn without_code(meaning: &str, code: &str) -> String {
    let rest = meaning.strip_prefix(code).and_then(|rest| rest.strip_prefix(": "));
    let Some(rest) = rest else {
        return meaning.to_owned();
    };
    let mut letters = rest.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string());
    format!("{}{}", first.unwrap_or_default(), letters.as_str())
}

#[test]
fn codes_have_the_names_of_the_contract() {
    assert_eq!(code_name(Code::FailedPrecondition), "FAILED_PRECONDITION");
    assert_eq!(without_code("ABORTED: it changed.", "ABORTED"), "It changed.");
}
