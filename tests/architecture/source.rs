//! One source file, and the checks on it.

use super::{
    EVERY_MODULE, MAX_LINES, MEANINGLESS_NAMES, MODULES, OS_APIS, PORTS_ONLY_MODULES,
    RESTRICTED_LIBRARIES,
    tokens::{Token, tokenize, without_tests},
};

/// One Rust file, reduced to what the checks need.
pub(super) struct Source {
    /// The path relative to the root of the repository.
    file: String,
    /// The module path; empty for `lib.rs` and `main.rs`.
    pub(super) module: Vec<String>,
    /// The tokens without comments, strings and test code.
    tokens: Vec<Token>,
    /// The names of the modules declared for tests only.
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

    pub(super) fn top_module(&self) -> &str {
        let file = if self.file.ends_with("src/main.rs") { "main" } else { "lib" };
        self.module.first().map_or(file, String::as_str)
    }

    pub(super) fn test_modules(&self) -> Vec<Vec<String>> {
        let inside = |name: &String| self.module.iter().chain([name]).cloned().collect();
        self.declared_for_tests.iter().map(inside).collect()
    }

    pub(super) fn forbidden_dependencies(&self) -> Vec<String> {
        let top_module = self.top_module();
        let Some((_, allowed)) = MODULES.iter().find(|(name, _)| *name == top_module) else {
            return Vec::new(); // the test of the module list reports it
        };
        let allowed_names = match *allowed {
            [] => "no other module".to_owned(),
            allowed => allowed.join(", "),
        };
        let mut found = Vec::new();
        for path in self.paths() {
            let Some(target) = path.module_in_crate() else { continue };
            if target == top_module || allowed.contains(&target) || *allowed == EVERY_MODULE {
                continue;
            }
            let (file, line) = (&self.file, path.line);
            found.push(if MODULES.iter().any(|(name, _)| *name == target) {
                format!("{file}:{line}: `{top_module}` uses `{target}`, but may use only: {allowed_names}")
            } else {
                format!(
                    "{file}:{line}: `crate::{target}` names no module: import it from its module"
                )
            });
        }
        found.dedup();
        found
    }

    pub(super) fn misplaced_libraries(&self) -> Vec<String> {
        let top_module = self.top_module();
        let mut found = Vec::new();
        for path in self.paths() {
            let mut report = |what: &str, why: &str| {
                found.push(format!(
                    "{}:{}: `{what}` in `{top_module}`: {why}",
                    self.file, path.line
                ));
            };
            for (library, modules, why) in RESTRICTED_LIBRARIES {
                if path.begins_with(library) && !modules.contains(&top_module) {
                    report(library, &format!("only in {}, because {why}", modules.join(", ")));
                }
            }
            let outside = OS_APIS.iter().find(|outside| path.begins_with(outside));
            if let (Some(outside), true) = (outside, PORTS_ONLY_MODULES.contains(&top_module)) {
                report(outside, "this module must use ports instead");
            }
            if path.segments.iter().any(|segment| segment == "pb") && top_module != "grpc" {
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
        MEANINGLESS_NAMES
            .contains(&name.as_str())
            .then(|| format!("{file}:1: `{name}` does not say what is inside"))
    }

    /// Returns every path in the file, with `use` groups expanded. Paths into this crate start at its root.
    fn paths(&self) -> Vec<CodePath> {
        let mut found = Vec::new();
        let mut module = self.module.clone();
        let mut inline: Vec<usize> = Vec::new(); // brace depths of open inline modules
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

    /// Reads the path that starts or continues at a token. Returns the index of its end.
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

/// A path as written, or from the crate root if it leads into this crate.
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

    fn module_in_crate(&self) -> Option<&str> {
        self.segments.first().filter(|_| self.in_crate).map(String::as_str)
    }

    /// Returns whether the path starts with `tonic` or `std::env`, or matches a wildcard such as `tonic_*`.
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
