//! Checks the architecture: dependencies between top-level modules, the modules that may use a library, and file
//! lengths.
//!
//! In one crate the compiler lets every module use every other. This test reads the sources and reports the file, the
//! line and the rule. It ignores comments, strings and test code (`#[cfg(test)]`). `docs/development/architecture.md`
//! lists the modules and the reasons; a change of the tables below is a design change.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

#[path = "architecture/checker.rs"]
mod checker;
#[path = "architecture/source.rs"]
mod source;
#[path = "architecture/tokens.rs"]
mod tokens;

use self::source::Source;

/// Each top-level module, and the modules that it may use.
const MODULES: [(&str, &[&str]); 22] = [
    ("domain", &[]),
    ("ports", &["domain"]),
    ("access", &["domain", "ports"]),
    ("audit", &["domain", "ports"]),
    ("broker", &["domain", "ports", "access", "audit"]),
    ("crypto", &["domain", "ports"]),
    ("outbound", &["domain", "ports"]),
    ("superoffice", &["domain", "ports", "outbound"]),
    ("issuers", &["domain", "ports", "outbound"]),
    ("store", &["domain", "ports"]),
    ("journal", &["domain", "ports"]),
    ("telemetry", &["domain", "ports"]),
    ("listen", &["domain", "ports"]),
    ("grpc", &["domain", "ports", "access", "audit", "broker", "listen"]),
    ("http", &["domain", "ports", "access", "audit", "broker", "listen"]),
    ("config", &["domain"]),
    ("lifecycle", &["ports"]),
    ("app", EVERY_MODULE),
    ("cli", EVERY_MODULE),
    ("fuzzing", EVERY_MODULE), // compiled for fuzz/ only
    ("lib", EVERY_MODULE),
    ("main", EVERY_MODULE),
];

/// Allows every other module.
const EVERY_MODULE: &[&str] = &["*"];

/// Modules that are planned but do not exist yet. Remove a module from this list when it exists.
const PLANNED_MODULES: [&str; 0] = [];

/// Libraries that only some modules may use, and the reason.
const RESTRICTED_LIBRARIES: [(&str, &[&str], &str); 34] = [
    ("tonic", &["grpc"], "gRPC is handled in one module"),
    ("tonic_*", &["grpc"], "gRPC is handled in one module"),
    ("prost", &["grpc"], "protobuf types stay in the gRPC module"),
    ("prost_types", &["grpc"], "protobuf types stay in the gRPC module"),
    ("http", HTTP_TYPES_MODULES, "methods, headers and status codes concern calls only"),
    ("axum", &["http"], "inbound HTTP is served in one module"),
    ("hyper", HTTP_MODULES, "one module serves inbound HTTP, one builds clients"),
    ("hyper_util", HTTP_MODULES, "one module serves inbound HTTP, one builds clients"),
    ("proxy_header", &["listen"], "PROXY protocol headers are read where connections are accepted"),
    ("httparse", HTTP_MODULES, "one module serves inbound HTTP, one talks to proxies"),
    ("hyper_util::client", &["outbound"], CLIENTS),
    ("hyper::client", &["outbound"], CLIENTS),
    ("tonic::transport::Channel", &["outbound"], CLIENTS),
    ("tonic::transport::Endpoint", &["outbound"], CLIENTS),
    ("hyper_rustls", &[], CLIENTS),
    (
        "reqwest",
        &[],
        "clients are built in `outbound`, on hyper, which keeps the bytes of a target",
    ),
    ("icu_*", &["domain"], "user-supplied text has one normal form"),
    ("h2", &["outbound"], "HTTP/2 errors are distinguished where requests are sent"),
    ("zstd", &["journal"], "segments are compressed in one module"),
    ("crc32c", &["journal"], "checksums of segments are computed in one module"),
    ("sqlx", &["store"], "SQL stays behind the ports of the store"),
    ("aws_lc_rs", &["crypto"], "cryptography is done in one module"),
    ("jsonwebtoken", &["superoffice"], "tokens are validated where they arrive"),
    ("cedar_policy", &["access"], "authorization decisions are made in one module"),
    ("miette", &["access"], "policies are parsed, and their errors reported, in one module"),
    ("x509_parser", &["access", "listen"], "certificates are parsed where they arrive"),
    ("rustls", TLS_MODULES, "TLS is configured where connections start"),
    ("rustls_*", TLS_MODULES, "TLS is configured where connections start"),
    ("tokio_rustls", TLS_MODULES, "TLS is configured where connections start"),
    ("clap", &["cli", "main"], "the command line is parsed in one module"),
    ("indicatif", &["cli"], "only commands show progress"),
    ("anyhow", &["cli", "main"], "all other modules use typed errors"),
    ("superoffice_sandbox", &["cli"], "the product must build and run without the sandbox"),
    ("std::env", &["config", "cli", "main"], "only the configuration reads environment variables"),
];

/// The modules that may use the vocabulary types of HTTP: methods, headers and status codes.
const HTTP_TYPES_MODULES: &[&str] = &[
    "domain",
    "ports",
    "access",
    "broker",
    "grpc",
    "http",
    "listen",
    "outbound",
    "superoffice",
    "issuers",
    "fuzzing",
];

/// The modules that may use the low-level HTTP libraries.
const HTTP_MODULES: &[&str] = &["http", "outbound"];

/// The reason why one module builds all clients: it applies time-outs, proxy, certificate authorities and address
/// rules.
const CLIENTS: &str = "clients are built in one module, and others receive them";

/// The modules that open or accept TLS connections, and those that install the crypto provider.
const TLS_MODULES: &[&str] = &["listen", "outbound", "crypto", "app", "cli", "main"];

/// The modules that use ports instead of the operating system.
const PORTS_ONLY_MODULES: [&str; 4] = ["domain", "ports", "audit", "broker"];
const OS_APIS: [&str; 6] =
    ["std::fs", "std::process", "std::os", "tokio::fs", "tokio::net", "tokio::process"];

/// The maximum lines of a Rust file, without its test code.
const MAX_LINES: usize = 450;
/// The maximum lines of a proto file, comments included.
const MAX_PROTO_LINES: usize = 300;
/// Exempt from the maximum, because it contains the messages that all services share.
const LONG_PROTOS: [&str; 1] = ["resources.proto"];

/// Module names that do not describe the content.
const MEANINGLESS_NAMES: [&str; 8] =
    ["common", "data", "helper", "helpers", "info", "manager", "util", "utils"];

#[test]
fn modules_use_only_the_allowed_modules() -> io::Result<()> {
    let crate_sources = CrateSources::read("src")?;
    assert_none(crate_sources.product_sources().flat_map(Source::forbidden_dependencies));
    Ok(())
}

#[test]
fn libraries_are_used_only_in_the_allowed_modules() -> io::Result<()> {
    let crate_sources = CrateSources::read("src")?;
    assert_none(crate_sources.product_sources().flat_map(Source::misplaced_libraries));
    Ok(())
}

#[test]
fn every_module_of_the_design_exists_or_is_planned() -> io::Result<()> {
    let crate_sources = CrateSources::read("src")?;
    let existing: BTreeSet<&str> = crate_sources.sources.iter().map(Source::top_module).collect();
    let known: BTreeSet<&str> = MODULES.iter().map(|(name, _)| *name).collect();
    let missing = known
        .difference(&existing)
        .filter(|name| !PLANNED_MODULES.contains(name))
        .map(|name| format!("src/{name}.rs: a module of the design that does not exist"));
    let unknown = existing
        .difference(&known)
        .map(|name| format!("src/{name}.rs: not a module of the design: add it to MODULES"));
    assert_none(missing.chain(unknown));
    Ok(())
}

#[test]
fn the_documentation_has_the_same_modules_and_dependencies() -> io::Result<()> {
    let page = fs::read_to_string(root().join("docs/development/architecture.md"))?;
    let (_, table) = page.split_once("| module | content | may use |\n").unwrap_or_default();
    let rows = table.lines().skip(1).take_while(|row| row.starts_with("| `"));
    let documented: BTreeSet<(String, String)> = rows
        .filter_map(|row| {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            let [module, _, uses] = cells.as_slice() else { return None };
            Some((module.replace('`', ""), uses.replace('`', "")))
        })
        .collect();
    let uses = |used: &[&str]| if used == EVERY_MODULE { "all".into() } else { used.join(", ") };
    let checked: BTreeSet<(String, String)> =
        MODULES.iter().map(|(name, used)| ((*name).to_owned(), uses(used))).collect();
    assert_eq!(documented, checked, "docs/development/architecture.md");
    Ok(())
}

#[test]
fn sandbox_and_gateway_share_no_code() -> io::Result<()> {
    let sandbox = CrateSources::read("sandbox")?;
    let mut found: Vec<String> =
        sandbox.sources.iter().flat_map(Source::gateway_in_sandbox).collect();
    let manifest = fs::read_to_string(root().join("sandbox/Cargo.toml"))?;
    for (number, line) in (1..).zip(manifest.lines()) {
        if line.contains("tenant-gateway") {
            found.push(format!(
                "sandbox/Cargo.toml:{number}: the sandbox may not depend on the gateway"
            ));
        }
    }
    assert_none(found);
    Ok(())
}

#[test]
fn files_are_short_and_well_named() -> io::Result<()> {
    let mut found = Vec::new();
    for folder in ["src", "sandbox/src"] {
        let crate_sources = CrateSources::read(folder)?;
        found.extend(crate_sources.product_sources().filter_map(Source::too_long));
        found.extend(crate_sources.sources.iter().filter_map(Source::badly_named));
    }
    let mut protos = Vec::new();
    collect(&root().join("proto"), "proto", &mut protos)?;
    assert!(!protos.is_empty(), "no proto files were found");
    for file in protos {
        let lines = fs::read_to_string(&file)?.lines().count();
        if lines > MAX_PROTO_LINES && !LONG_PROTOS.iter().any(|name| file.ends_with(name)) {
            let file = relative(&file);
            found.push(format!("{file}:{lines}: more than {MAX_PROTO_LINES} lines"));
        }
    }
    assert_none(found);
    Ok(())
}

#[track_caller]
fn assert_none(found: impl IntoIterator<Item = String>) {
    let found: Vec<String> = found.into_iter().collect();
    assert!(
        found.is_empty(),
        "{} violations of the architecture:\n{}",
        found.len(),
        found.join("\n")
    );
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn relative(file: &Path) -> String {
    file.strip_prefix(root()).unwrap_or(file).display().to_string().replace('\\', "/")
}

fn collect(folder: &Path, extension: &str, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, extension, files)?;
        } else if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    files.sort();
    Ok(())
}

/// All Rust files of a folder.
struct CrateSources {
    sources: Vec<Source>,
    /// Modules that are compiled for tests only.
    test_modules: Vec<Vec<String>>,
}

impl CrateSources {
    fn read(folder: &str) -> io::Result<Self> {
        let mut files = Vec::new();
        collect(&root().join(folder), "rs", &mut files)?;
        assert!(files.len() > 10, "{folder}: only {} files were found", files.len());
        let read = |file: &PathBuf| Ok(Source::new(&relative(file), &fs::read_to_string(file)?));
        let sources = files.iter().map(read).collect::<io::Result<Vec<_>>>()?;
        let test_modules = sources.iter().flat_map(Source::test_modules).collect();
        Ok(Self { sources, test_modules })
    }

    /// Returns the files that are not test code as a whole.
    fn product_sources(&self) -> impl Iterator<Item = &Source> {
        self.sources.iter().filter(|source| {
            !self.test_modules.iter().any(|module| source.module.starts_with(module))
        })
    }
}
