//! The documentation agrees with the code: generated parts of the reference, links, paths, and examples.
//!
//! A page of the reference has generated parts between two comments. Each test renders a part and compares it with the
//! page. `UPDATE_REFERENCE=1 cargo test --test reference` writes the parts instead.
#![cfg(test)]

#[path = "reference/api.rs"]
mod api;
#[path = "reference/commands.rs"]
mod commands;
#[path = "reference/configuration.rs"]
mod configuration;
#[path = "reference/errors.rs"]
mod errors;
#[path = "reference/examples.rs"]
mod examples;
#[path = "reference/links.rs"]
mod links;
#[path = "reference/log_fields.rs"]
mod log_fields;
#[path = "reference/markdown.rs"]
mod markdown;
#[path = "reference/metrics.rs"]
mod metrics;
#[path = "reference/page.rs"]
mod page;

use std::{collections::BTreeSet, fs};

use self::page::Page;

#[test]
fn configuration_md_has_every_option() {
    Page::of("configuration.md").has("options", &configuration::render());
}

#[test]
fn commands_md_has_the_help_of_every_command() {
    Page::of("commands.md").has("commands", &commands::render());
}

#[test]
fn api_md_has_every_service_message_and_enum() {
    Page::of("api.md").has("api", &api::render());
}

#[test]
fn errors_md_has_every_reason() {
    Page::of("errors.md").has("reasons", &errors::render());
}

#[test]
fn errors_md_says_what_to_do_for_every_reason() {
    let page = Page::of("errors.md").written_by_hand();
    let missing: Vec<_> =
        errors::reasons().filter(|reason| !page.contains(&format!("`{reason}`"))).collect();
    assert_eq!(missing, [""; 0], "errors.md does not say what to do");
}

#[tokio::test]
async fn metrics_md_has_every_metric() {
    Page::of("metrics.md").has("metrics", &metrics::render().await);
}

#[test]
fn metrics_md_explains_every_log_field() {
    let page = Page::of("metrics.md").written_by_hand();
    let missing: BTreeSet<_> = log_fields::of_sources()
        .into_iter()
        .filter(|field| !page.contains(&format!("`{field}`")))
        .collect();
    assert_eq!(missing, BTreeSet::new(), "metrics.md does not explain these log fields");
}

#[test]
fn every_link_and_every_path_leads_to_something() {
    let broken = links::broken();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_module_in_the_documentation_exists() {
    assert_eq!(links::unknown_modules(), [""; 0]);
}

#[test]
fn the_summary_has_every_page_of_the_book() {
    let missing = links::pages_outside_the_summary();
    assert!(missing.is_empty(), "docs/SUMMARY.md lacks {}", missing.join(", "));
}

#[test]
fn the_readme_is_short() {
    let lines = fs::read_to_string(page::root().join("README.md")).unwrap().lines().count();
    assert!(lines <= 150, "README.md has {lines} lines; move something into the book");
}

#[test]
fn the_example_configurations_are_accepted_without_a_warning() {
    examples::configurations_are_accepted();
}

#[test]
fn the_example_policies_pass_the_policy_check() {
    examples::policies_pass();
}
