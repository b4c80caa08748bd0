//! One source file, and the rules it may break.

use super::{
    EMPTY_NAMES, EVERY_ROOM, MAX_LINES, OUTSIDE, PURE_ROOMS, RESERVED, ROOMS,
    tokens::{Token, tokenize, without_tests},
};

/// One Rust file, as far as the rules look at it.
pub(super) struct Source {
    /// From the root of the repository.
    file: String,
    /// The module path, empty for `lib.rs` and `main.rs`.
    pub(super) module: Vec<String>,
    /// Without comments, strings and test code.
    tokens: Vec<Token>,
    /// Names of the modules declared for tests only.
    declared_for_tests: Vec<String>,
    lines: usize,
    test_lines: usize,
}

impl Source {
    pub(super) fn new(file: &str, text: &str) -> Self {
        let inner = file.rsplit_once("src/").map_or(file, |(_, inner)| inner);
        let inner = inner.trim_end_matches(".rs");
        let module = match inner {
            "lib" | "main" => Vec::new(),
            _ => inner.split('/').map(str::to_owned).collect(),
        };
        let (tokens, declared_for_tests, test_lines) = without_tests(tokenize(text));
        let lines = text.lines().count();
        Self { file: file.to_owned(), module, tokens, declared_for_tests, lines, test_lines }
    }

    pub(super) fn room(&self) -> &str {
        let file = if self.file.ends_with("src/main.rs") { "main" } else { "lib" };
        self.module.first().map_or(file, String::as_str)
    }

    pub(super) fn test_modules(&self) -> Vec<Vec<String>> {
        let inside = |name: &String| self.module.iter().chain([name]).cloned().collect();
        self.declared_for_tests.iter().map(inside).collect()
    }

    pub(super) fn forbidden_arrows(&self) -> Vec<String> {
        let room = self.room();
        let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
            return Vec::new(); // the test of the rooms says so
        };
        let knows = match *allowed {
            [] => "no other room".to_owned(),
            allowed => allowed.join(", "),
        };
        let mut found = Vec::new();
        for path in self.paths() {
            let Some(target) = path.room_in_crate() else { continue };
            if target == room || allowed.contains(&target) || *allowed == EVERY_ROOM {
                continue;
            }
            let (file, line) = (&self.file, path.line);
            found.push(if ROOMS.iter().any(|(name, _)| *name == target) {
                format!("{file}:{line}: `{room}` uses `{target}`, but may know only: {knows}")
            } else {
                format!("{file}:{line}: `crate::{target}` names no room: say which room it is from")
            });
        }
        found.dedup();
        found
    }

    pub(super) fn misplaced_libraries(&self) -> Vec<String> {
        let room = self.room();
        let mut found = Vec::new();
        for path in self.paths() {
            let mut report = |what: &str, why: &str| {
                found.push(format!("{}:{}: `{what}` in `{room}`: {why}", self.file, path.line));
            };
            for (library, rooms, why) in RESERVED {
                if path.begins_with(library) && !rooms.contains(&room) {
                    report(library, &format!("only in {}, because {why}", rooms.join(", ")));
                }
            }
            let outside = OUTSIDE.iter().find(|outside| path.begins_with(outside));
            if let (Some(outside), true) = (outside, PURE_ROOMS.contains(&room)) {
                report(outside, "this room reaches the outside through ports only");
            }
            if path.segments.iter().any(|segment| segment == "pb") && room != "grpc" {
                report("pb", "generated protobuf types do not leave `grpc`");
            }
        }
        found.dedup();
        found
    }

    pub(super) fn gateway_in_sandbox(&self) -> Vec<String> {
        let named = self.tokens.iter().filter(|token| token.text == "tenant_gateway");
        let report = |token: &Token| {
            format!("{}:{}: the sandbox may not use the gateway's code", self.file, token.line)
        };
        named.map(report).collect()
    }

    pub(super) fn too_long(&self) -> Option<String> {
        let lines = self.lines - self.test_lines;
        let file = &self.file;
        (lines > MAX_LINES)
            .then(|| format!("{file}:{lines}: more than {MAX_LINES} lines without tests: split it"))
    }

    pub(super) fn badly_named(&self) -> Option<String> {
        let name = self.module.last()?;
        let file = &self.file;
        if name == "mod" {
            return Some(format!("{file}:1: use `foo.rs` beside `foo/`, not `mod.rs`"));
        }
        EMPTY_NAMES
            .contains(&name.as_str())
            .then(|| format!("{file}:1: `{name}` does not say what is inside"))
    }

    /// Every path in the file, `use` groups taken apart, those into this crate as seen from its root.
    fn paths(&self) -> Vec<CodePath> {
        let mut found = Vec::new();
        let mut module = self.module.clone();
        let mut inline: Vec<usize> = Vec::new(); // depths at which modules were opened
        let mut depth = 0_usize;
        let mut at = 0;
        while let Some(token) = self.tokens.get(at) {
            match token.text.as_str() {
                "mod" if self.text(at + 2) == "{" => {
                    module.push(self.text(at + 1).to_owned());
                    depth += 1;
                    inline.push(depth);
                    at += 3;
                }
                "{" => {
                    depth += 1;
                    at += 1;
                }
                "}" => {
                    if inline.last() == Some(&depth) {
                        inline.pop();
                        module.pop();
                    }
                    depth = depth.saturating_sub(1);
                    at += 1;
                }
                _ if token.is_word() => {
                    let imported =
                        at.checked_sub(1).is_some_and(|before| self.text(before) == "use");
                    let mut paths = Vec::new();
                    at = self.path_tree(at, &[], &mut paths);
                    paths.retain(|path| imported || path.segments.len() > 1);
                    found.extend(paths.into_iter().map(|path| path.seen_from_root(&module)));
                }
                _ => at += 1,
            }
        }
        found
    }

    /// Reads the path that begins or goes on at a token; returns where it ends.
    fn path_tree(&self, mut at: usize, before: &[String], found: &mut Vec<CodePath>) -> usize {
        let mut segments = before.to_vec();
        let mut line = 0;
        while let Some(token) = self.tokens.get(at) {
            if token.text == "{" && !segments.is_empty() {
                return self.path_group(at + 1, &segments, found);
            }
            if !(token.is_word() || token.text == "*" && !segments.is_empty()) {
                break;
            }
            line = token.line;
            segments.push(token.text.clone());
            at += 1;
            if self.text(at) != "::" {
                break;
            }
            at += 1;
        }
        found.push(CodePath { segments, line, in_crate: false });
        at
    }

    fn path_group(&self, mut at: usize, before: &[String], found: &mut Vec<CodePath>) -> usize {
        while let Some(token) = self.tokens.get(at) {
            at = match token.text.as_str() {
                "}" => return at + 1,
                "as" => at + 2,
                "*" => self.path_tree(at, before, found),
                _ if token.is_word() => self.path_tree(at, before, found),
                _ => at + 1,
            };
        }
        at
    }

    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| token.text.as_str())
    }
}

/// A path as written, or, when it leads into this crate, from the root of the crate.
struct CodePath {
    segments: Vec<String>,
    line: usize,
    in_crate: bool,
}

impl CodePath {
    fn seen_from_root(self, module: &[String]) -> Self {
        let first = self.segments.first().map_or("", String::as_str);
        let supers = self.segments.iter().take_while(|segment| *segment == "super").count();
        let (base, skip) = match first {
            "crate" | "tenant_gateway" => (0, 1),
            "self" => (module.len(), 1),
            "super" => (module.len().saturating_sub(supers), supers),
            _ => return self,
        };
        let segments = module.iter().take(base).chain(self.segments.iter().skip(skip));
        Self { segments: segments.cloned().collect(), line: self.line, in_crate: true }
    }

    fn room_in_crate(&self) -> Option<&str> {
        self.segments.first().filter(|_| self.in_crate).map(String::as_str)
    }

    /// `tonic`, `std::env`, or with any end of the name: `tonic_*`.
    fn begins_with(&self, path: &str) -> bool {
        let matches = |(wanted, found): (&str, &String)| {
            wanted.strip_suffix('*').map_or(found == wanted, |start| found.starts_with(start))
        };
        let wanted = path.split("::");
        !self.in_crate
            && self.segments.len() >= wanted.clone().count()
            && wanted.zip(&self.segments).all(matches)
    }
}
