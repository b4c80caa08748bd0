//! Links between the pages, and paths of files in them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use crate::{markdown::anchor, page::root};

/// Pages beside the book.
const BESIDE_THE_BOOK: [&str; 6] = [
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "examples/README.md",
    "sandbox/README.md",
];

/// Folders of the repository. Code in a text that begins with one of them is the path of a file.
const FOLDERS: [&str; 12] = [
    "benches",
    "docs",
    "examples",
    "fuzz",
    "helm",
    "migrations",
    "proto",
    "sandbox",
    "src",
    "tests",
    "tools",
    "vendor",
];

/// One page, without the code between fences.
struct Text {
    lines: Vec<(usize, String)>,
}

impl Text {
    fn of(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut fenced = false;
        let mut lines = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
            } else if !fenced {
                lines.push((index + 1, line.to_owned()));
            }
        }
        Self { lines }
    }

    /// The anchors of the headings. A repeated heading has a number behind its anchor.
    fn anchors(&self) -> Vec<String> {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let headings = self.lines.iter().filter_map(|(_, line)| {
            let text = line.trim_start_matches('#');
            (text.len() < line.len()).then(|| text.strip_prefix(' ')).flatten()
        });
        headings
            .map(|heading| {
                let anchor = anchor(heading);
                let times = seen.entry(anchor.clone()).or_default();
                *times += 1;
                if *times == 1 { anchor } else { format!("{anchor}-{}", *times - 1) }
            })
            .collect()
    }
}

/// All links and paths that lead to nothing, each with its place.
pub(crate) fn broken() -> Vec<String> {
    let mut broken = Vec::new();
    let beside = BESIDE_THE_BOOK.iter().map(|name| root().join(name));
    for page in beside.chain(pages()) {
        for (line, text) in Text::of(&page).lines {
            let name = page.strip_prefix(root()).unwrap().display();
            let links = links(&text).into_iter().map(|link| check(&page, &link));
            let paths = paths(&text).into_iter().map(|path| check_path(&page, path));
            let problems = links.chain(paths).filter_map(Result::err);
            broken.extend(problems.map(|problem| format!("{name}:{line}: {problem}")));
        }
    }
    broken
}

/// Pages below `docs/` that `SUMMARY.md` does not link to.
pub(crate) fn pages_outside_the_summary() -> Vec<String> {
    let docs = root().join("docs");
    let summary = fs::read_to_string(docs.join("SUMMARY.md")).unwrap();
    let names = pages().into_iter().map(|page| {
        let name = page.strip_prefix(&docs).unwrap().to_str().unwrap();
        name.to_owned()
    });
    let is_linked = |name: &String| summary.contains(&format!("]({name})"));
    names.filter(|name| name != "SUMMARY.md" && !is_linked(name)).collect()
}

/// Modules of the program that a page names, for example as the target of a log line, and that do not exist.
pub(crate) fn unknown_modules() -> Vec<String> {
    const CRATE: &str = "tenant_gateway::";
    let mut unknown = Vec::new();
    for page in pages() {
        for rest in fs::read_to_string(&page).unwrap().split(CRATE).skip(1) {
            let is_path = |letter: char| letter.is_ascii_lowercase() || "_:".contains(letter);
            let module = rest.split_once(|letter| !is_path(letter)).map_or(rest, |(path, _)| path);
            if !root().join("src").join(module.replace("::", "/")).with_extension("rs").exists() {
                let name = page.strip_prefix(root()).unwrap().display();
                unknown.push(format!("{name}: {CRATE}{module}"));
            }
        }
    }
    unknown
}

fn pages() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The targets of links in a line, and of reference definitions.
fn links(line: &str) -> Vec<String> {
    let text = without_code(line);
    let mut targets: Vec<_> = text
        .match_indices("](")
        .filter_map(|(at, _)| text[at + 2..].split_once(')'))
        .map(|(target, _)| target.to_owned())
        .collect();
    let definition = text.strip_prefix('[').and_then(|rest| rest.split_once("]: "));
    targets.extend(definition.map(|(_, target)| target.to_owned()));
    targets
}

/// Paths of this repository in code of a line.
fn paths(line: &str) -> Vec<&str> {
    let code = line.split('`').skip(1).step_by(2);
    let is_path = |code: &&str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_./-".contains(&b);
        let folder = code.split_once('/').map(|(folder, _)| folder);
        code.bytes().all(plain) && folder.is_some_and(|folder| FOLDERS.contains(&folder))
    };
    code.filter(is_path).collect()
}

fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("``")
}

fn check(page: &Path, link: &str) -> Result<(), String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return Ok(());
    }
    let (file, wanted) = link.split_once('#').unwrap_or((link, ""));
    let target = match file {
        "" => page.to_owned(),
        file => page.parent().unwrap().join(file),
    };
    let target = target.canonicalize().map_err(|_| format!("{link} does not exist"))?;
    let docs = root().join("docs").canonicalize().unwrap();
    if page.starts_with(root().join("docs")) && !target.starts_with(&docs) {
        return Err(format!("{link} leads out of the book; write the path as code"));
    }
    if wanted.is_empty() || Text::of(&target).anchors().iter().any(|anchor| anchor == wanted) {
        return Ok(());
    }
    Err(format!("{link}: the page has no such heading"))
}

/// The path begins at the folder of the repository, or at that of the page.
fn check_path(page: &Path, path: &str) -> Result<(), String> {
    let exists = root().join(path).exists() || page.with_file_name(path).exists();
    if exists { Ok(()) } else { Err(format!("`{path}` is not in the repository")) }
}

#[test]
fn links_and_paths_are_found() {
    let line = "See [a](b.md#c), `[not](this)`, `src/lib.rs` and `sealed/thing`.";
    assert_eq!((links(line), paths(line)), (vec!["b.md#c".to_owned()], vec!["src/lib.rs"]));
    assert_eq!(links("[name]: https://example.com"), ["https://example.com"]);
}
