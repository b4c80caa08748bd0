//! Holds the house together: which room may know which, where a library may appear, how long a file may be.
//!
//! In one crate the compiler lets every module use every other. This test reads the sources instead and names the
//! file, the line and the rule. Comments, strings and test code (`#[cfg(test)]`) are not looked at. The rooms and
//! the reasons stand in `docs/ARCHITECTURE.md`; a change of the tables below is a change of the design.

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

/// A room, and the rooms it may know.
const ROOMS: [(&str, &[&str]); 20] = [
    ("domain", &[]),
    ("ports", &["domain"]),
    ("access", &["domain", "ports"]),
    ("broker", &["domain", "ports", "access"]),
    ("crypto", &["domain", "ports"]),
    ("outbound", &["domain", "ports"]),
    ("superoffice", &["domain", "ports", "outbound"]),
    ("issuers", &["domain", "ports", "outbound"]),
    ("store", &["domain", "ports"]),
    ("telemetry", &["domain", "ports"]),
    ("listen", &["domain", "ports"]),
    ("grpc", &["domain", "ports", "access", "broker", "listen"]),
    ("http", &["domain", "ports", "access", "broker", "listen"]),
    ("config", &["domain"]),
    ("lifecycle", &["ports"]),
    ("app", EVERY_ROOM),
    ("cli", EVERY_ROOM),
    ("fuzzing", EVERY_ROOM), // compiled for fuzz/ only
    ("lib", EVERY_ROOM),
    ("main", EVERY_ROOM),
];

/// May know all others.
const EVERY_ROOM: &[&str] = &["*"];

/// Rooms of the design that need not stand yet. Strike a room from this list when it does.
const STILL_TO_COME: [&str; 0] = [];

/// What may be used in some rooms only, and why.
const RESERVED: [(&str, &[&str], &str); 31] = [
    ("tonic", &["grpc"], "gRPC is spoken in one room"),
    ("tonic_*", &["grpc"], "gRPC is spoken in one room"),
    ("prost", &["grpc"], "protobuf types do not leave the room that speaks gRPC"),
    ("prost_types", &["grpc"], "protobuf types do not leave the room that speaks gRPC"),
    ("axum", &["http"], "inbound HTTP is served in one room"),
    ("hyper", HTTP_ROOMS, "inbound HTTP is served in one room, and clients are built in one"),
    ("hyper_util", HTTP_ROOMS, "inbound HTTP is served in one room, and clients are built in one"),
    (
        "proxy_header",
        &["listen"],
        "headers of the PROXY protocol are read where connections come in",
    ),
    ("httparse", HTTP_ROOMS, "inbound HTTP is served in one room; proxies answer in another"),
    ("hyper_util::client", &["outbound"], CLIENTS),
    ("hyper::client", &["outbound"], CLIENTS),
    ("tonic::transport::Channel", &["outbound"], CLIENTS),
    ("tonic::transport::Endpoint", &["outbound"], CLIENTS),
    ("hyper_rustls", &[], CLIENTS),
    ("reqwest", &[], "clients are built in `outbound`, on one that keeps the bytes of a target"),
    ("icu_*", &["domain"], "texts of people have one normal form"),
    ("h2", &["outbound"], "errors of HTTP/2 are told apart where calls go out"),
    ("sqlx", &["store"], "SQL stays behind the ports of the store"),
    ("aws_lc_rs", &["crypto"], "cryptography is done in one room"),
    ("jsonwebtoken", &["superoffice"], "tokens are validated where they arrive"),
    ("cedar_policy", &["access"], "decisions are made in one room"),
    ("miette", &["access"], "policies are read, and their mistakes told, in one room"),
    ("x509_parser", &["access", "listen"], "certificates are read where they arrive"),
    ("rustls", TLS_ROOMS, "TLS is set up at the edges"),
    ("rustls_*", TLS_ROOMS, "TLS is set up at the edges"),
    ("tokio_rustls", TLS_ROOMS, "TLS is set up at the edges"),
    ("clap", &["cli", "main"], "the command line is read in one room"),
    ("indicatif", &["cli"], "only a person at a terminal watches progress"),
    ("anyhow", &["cli", "main"], "everywhere else errors have kinds that callers can branch on"),
    ("superoffice_sandbox", &["cli"], "the product must build and run without the sandbox"),
    ("std::env", &["config", "cli", "main"], "the configuration names what it reads"),
];

/// The rooms that speak HTTP below its libraries.
const HTTP_ROOMS: &[&str] = &["http", "outbound"];

/// The way out has one door: time-outs, proxy, certificate authorities, and the rules for addresses.
const CLIENTS: &str = "clients are built in one room, and others receive them";

/// The rooms that open or accept connections, and those that install the provider.
const TLS_ROOMS: &[&str] = &["listen", "outbound", "crypto", "app", "cli", "main"];

/// Types, rules and use cases touch the outside through ports only.
const PURE_ROOMS: [&str; 3] = ["domain", "ports", "broker"];
const OUTSIDE: [&str; 6] =
    ["std::fs", "std::process", "std::os", "tokio::fs", "tokio::net", "tokio::process"];

/// Lines of a Rust file, without its test code.
const MAX_LINES: usize = 450;
/// Lines of a proto file, comments included.
const MAX_PROTO_LINES: usize = 300;
/// Holds the messages that all services share, each with its comments.
const LONG_PROTOS: [&str; 1] = ["resources.proto"];

/// Module names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 8] =
    ["common", "data", "helper", "helpers", "info", "manager", "util", "utils"];

#[test]
fn arrows_between_rooms_run_one_way() -> io::Result<()> {
    let house = House::read("src")?;
    assert_none(house.product().flat_map(Source::forbidden_arrows));
    Ok(())
}

#[test]
fn libraries_stay_in_their_rooms() -> io::Result<()> {
    let house = House::read("src")?;
    assert_none(house.product().flat_map(Source::misplaced_libraries));
    Ok(())
}

#[test]
fn every_room_of_the_design_stands_or_is_still_to_come() -> io::Result<()> {
    let house = House::read("src")?;
    let standing: BTreeSet<&str> = house.sources.iter().map(Source::room).collect();
    let known: BTreeSet<&str> = ROOMS.iter().map(|(room, _)| *room).collect();
    let missing = known
        .difference(&standing)
        .filter(|room| !STILL_TO_COME.contains(room))
        .map(|room| format!("src/{room}.rs: a room of the design that does not stand"));
    let unknown = standing
        .difference(&known)
        .map(|room| format!("src/{room}.rs: not a room of the design: give it a place in ROOMS"));
    assert_none(missing.chain(unknown));
    Ok(())
}

#[test]
fn sandbox_and_gateway_share_no_code() -> io::Result<()> {
    let sandbox = House::read("sandbox")?;
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
fn files_are_short_and_named_for_what_they_hold() -> io::Result<()> {
    let mut found = Vec::new();
    for folder in ["src", "sandbox/src"] {
        let house = House::read(folder)?;
        found.extend(house.product().filter_map(Source::too_long));
        found.extend(house.sources.iter().filter_map(Source::badly_named));
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
        "{} against the rules of the house:\n{}",
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

/// All Rust files under a folder.
struct House {
    sources: Vec<Source>,
    /// Modules that are compiled for tests only.
    test_modules: Vec<Vec<String>>,
}

impl House {
    fn read(folder: &str) -> io::Result<Self> {
        let mut files = Vec::new();
        collect(&root().join(folder), "rs", &mut files)?;
        assert!(files.len() > 10, "{folder}: only {} files were found", files.len());
        let read = |file: &PathBuf| Ok(Source::new(&relative(file), &fs::read_to_string(file)?));
        let sources = files.iter().map(read).collect::<io::Result<Vec<_>>>()?;
        let test_modules = sources.iter().flat_map(Source::test_modules).collect();
        Ok(Self { sources, test_modules })
    }

    /// The files that are not test code as a whole.
    fn product(&self) -> impl Iterator<Item = &Source> {
        self.sources.iter().filter(|source| {
            !self.test_modules.iter().any(|module| source.module.starts_with(module))
        })
    }
}
