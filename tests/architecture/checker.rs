//! Tests of the checker, with code that breaks a rule and code that only looks so.

use super::{MAX_LINES, source::Source};

fn dependencies(file: &str, text: &str) -> Vec<String> {
    Source::new(file, text).forbidden_dependencies()
}

fn libraries(file: &str, text: &str) -> Vec<String> {
    Source::new(file, text).misplaced_libraries()
}

#[test]
fn finds_a_forbidden_dependency_with_its_line() {
    let found =
        dependencies("src/domain/tenant.rs", "use std::fmt;\nuse crate::broker::Tickets;\n");
    assert_eq!(
        found,
        ["src/domain/tenant.rs:2: `domain` uses `broker`, but may use only: no other module"]
    );
}

#[test]
fn allows_the_dependencies_of_the_design() {
    let text = "use crate::{access::Access, broker::{Tickets, Tenants}, domain, ports::Clock};";
    assert!(dependencies("src/grpc/token.rs", text).is_empty());
    assert!(dependencies("src/app.rs", "use crate::{grpc, store, superoffice};").is_empty());
}

#[test]
fn finds_dependencies_in_nested_groups_and_in_expressions() {
    let text =
        "use crate::{\n  domain::{Tenant,\n    name::*},\n  store::{self, SqliteStore as S},\n};";
    let found = dependencies("src/broker/tenants.rs", text);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found.iter().all(|found| found.contains("tenants.rs:4: `broker` uses `store`")));
    let text = "fn f() -> u8 { g::<T>(); crate::grpc::code(1) }";
    assert_eq!(dependencies("src/store/sqlite.rs", text).len(), 1);
}

#[test]
fn follows_super_out_of_the_module() {
    let text = "use super::super::grpc::Failure;\nuse super::{super::http, error};";
    assert_eq!(dependencies("src/broker/error.rs", text).len(), 2);
    assert!(dependencies("src/broker/tickets/cache.rs", text).is_empty()); // broker::grpc, broker::http
    let text = "mod inner { use super::super::store::X; } use super::ports::Clock;";
    assert_eq!(dependencies("src/domain.rs", text).len(), 2);
}

#[test]
fn rejects_imports_that_hide_the_module() {
    assert_eq!(dependencies("src/broker.rs", "use crate::*;").len(), 1);
    assert_eq!(dependencies("src/broker.rs", "use crate::{self as all};").len(), 1);
    assert!(dependencies("src/broker.rs", "pub(crate) mod x; pub(super) fn f() {}").is_empty());
}

#[test]
fn ignores_comments_strings_and_test_code() {
    let text = r##"
        //! [`grpc`](crate::grpc)
        /// use crate::grpc::X;
        /* use crate::store::X; /* nested */ use crate::store::Y; */
        const A: &str = "use crate::grpc; \" crate::grpc";
        const B: &str = r#"crate::grpc " tonic::Status"#;
        const C: [char; 3] = ['"', '\'', '\u{22}'];
        fn f<'a>(x: &'a str) -> &'a str { x }
        #[cfg(test)]
        use crate::store::{SqliteStore, contract};
        #[cfg(test)]
        #[expect(dead_code, reason = "x")]
        mod tests { use crate::grpc::X; fn f() { tonic::Status::ok(";") } }
    "##;
    assert!(dependencies("src/domain/name.rs", text).is_empty());
    assert!(libraries("src/domain/name.rs", text).is_empty());
    let text = format!("{text}\nuse crate::http::X; use tonic::Status;");
    assert_eq!(dependencies("src/domain/name.rs", &text).len(), 1);
    assert_eq!(libraries("src/domain/name.rs", &text).len(), 1);
}

#[test]
fn knows_modules_declared_for_tests() {
    let source = Source::new("src/store.rs", "#[cfg(test)]\nmod contract;\nmod sqlite;\n");
    assert_eq!(source.test_modules(), [["store".to_owned(), "contract".to_owned()]]);
}

#[test]
fn finds_libraries_outside_their_modules() {
    for (text, file) in [
        ("use tonic::{Code, Status};", "src/broker/error.rs"),
        ("use tonic;", "src/http.rs"),
        ("#[tonic::async_trait] impl X for Y {}", "src/ports/store.rs"),
        ("fn f(e: ::tonic_types::ErrorDetails) {}", "src/app.rs"),
        ("fn f(e: sqlx::Error) {}", "src/superoffice/client.rs"),
        ("use std::{env, fmt};", "src/telemetry.rs"),
        ("use std::{collections::BTreeMap, fs};", "src/domain.rs"),
        ("use superoffice_sandbox::Sandbox;", "src/app.rs"),
        ("use crate::grpc::pb;", "src/cli/tenant.rs"),
        ("use hyper_util::{client::legacy::Client, rt::TokioIo};", "src/http/http_server.rs"),
        ("fn f() { tonic::transport::Channel::from_static(X); }", "src/grpc/server.rs"),
        ("fn f() { reqwest::Client::new(); }", "src/superoffice/client.rs"),
    ] {
        assert_eq!(libraries(file, text).len(), 1, "{text} in {file}");
    }
}

#[test]
fn allows_libraries_in_their_modules() {
    assert!(libraries("src/grpc/token.rs", "use tonic::Status; use super::pb::X;").is_empty());
    assert!(libraries("src/store/sqlite.rs", "use sqlx::SqlitePool;").is_empty());
    assert!(libraries("src/config/secret.rs", "std::env::var(name)").is_empty());
    assert!(
        libraries("src/broker.rs", "fn f(tonic: u8) { x.sqlx::<u8>(); env!(\"X\") }").is_empty()
    );
}

#[test]
fn counts_lines_without_tests() {
    let product = "fn f() {}\n".repeat(MAX_LINES);
    let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "fn t() {}\n".repeat(MAX_LINES));
    let source = |text: &str| Source::new("src/store/sqlite.rs", text);
    assert_eq!(source(&format!("{tests}{product}")).too_long(), None);
    assert!(source(&format!("{tests}{product}fn g() {{}}\n")).too_long().is_some());
}

#[test]
fn rejects_meaningless_names() {
    assert!(Source::new("src/store/mod.rs", "").badly_named().is_some());
    assert!(Source::new("src/grpc/utils.rs", "").badly_named().is_some());
    assert!(Source::new("src/grpc/token.rs", "").badly_named().is_none());
}

#[test]
fn finds_the_gateway_in_the_sandbox() {
    let text = "// tenant_gateway\nuse tenant_gateway::domain::TenantName;";
    let found = Source::new("sandbox/src/world.rs", text).gateway_in_sandbox();
    assert_eq!(found, ["sandbox/src/world.rs:2: the sandbox may not use the gateway's code"]);
}
