//! A page of the reference, and the generated parts in it.

use std::{
    fs,
    path::{Path, PathBuf},
};

const END: &str = "<!-- end of the generated part -->";

/// The folder of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A page in `docs/reference/`.
pub(crate) struct Page {
    path: PathBuf,
    text: String,
}

impl Page {
    /// Reads the page of this file name.
    pub(crate) fn of(name: &str) -> Self {
        let path = root().join("docs/reference").join(name);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        Self { path, text }
    }

    /// Compares the part of this name with `rendered`, or writes it if `UPDATE_REFERENCE` is set.
    pub(crate) fn has(&self, part: &str, rendered: &str) {
        let name = self.path.display();
        let begin = format!("<!-- generated: {part} -->");
        let (before, rest) = self
            .text
            .split_once(&begin)
            .unwrap_or_else(|| panic!("{name} has no part \"{part}\": add {begin} and {END}"));
        let (_, after) =
            rest.split_once(END).unwrap_or_else(|| panic!("{name}: add {END} after \"{part}\""));
        let wanted = format!("{before}{begin}\n\n{}\n\n{END}{after}", rendered.trim());
        if wanted == self.text {
            return;
        }
        if std::env::var_os("UPDATE_REFERENCE").is_some() {
            // Other tests read the page at the same time.
            let new = self.path.with_extension("new");
            fs::write(&new, wanted).unwrap();
            fs::rename(&new, &self.path).unwrap();
            return;
        }
        let (line, now, expected) = first_difference(&self.text, &wanted);
        panic!(
            "{name} differs from the code in line {line}:\n  page  {now}\n  code  {expected}\n\
             run `UPDATE_REFERENCE=1 cargo test --test reference`"
        );
    }

    /// The text without the generated parts.
    pub(crate) fn written_by_hand(&self) -> String {
        let mut text = String::new();
        let mut rest = self.text.as_str();
        while let Some((before, generated)) = rest.split_once("<!-- generated: ") {
            text.push_str(before);
            rest = generated.split_once(END).map_or("", |(_, after)| after);
        }
        text.push_str(rest);
        text
    }
}

fn first_difference<'a>(page: &'a str, wanted: &'a str) -> (usize, &'a str, &'a str) {
    let mut page = page.lines();
    let mut wanted = wanted.lines();
    for line in 1.. {
        let pair = (page.next(), wanted.next());
        match pair {
            (Some(a), Some(b)) if a == b => {}
            (None, None) => break,
            (a, b) => return (line, a.unwrap_or("(end)"), b.unwrap_or("(end)")),
        }
    }
    (0, "white space", "white space")
}
