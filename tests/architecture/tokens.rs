//! A tokenizer that splits Rust source into words and punctuation, enough to find paths.

/// A word, `::`, or one punctuation character.
pub(super) struct Token {
    pub(super) text: String,
    pub(super) line: usize,
}

impl Token {
    pub(super) fn is_word(&self) -> bool {
        self.text.starts_with(|first: char| first.is_alphabetic() || first == '_')
    }
}

/// Returns the tokens without comments and literals.
pub(super) fn tokenize(source: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let skipped = comment_length(rest).or_else(|| literal_length(rest));
        let length = skipped.unwrap_or_else(|| match first {
            ':' if rest.starts_with("::") => 2,
            _ if is_part_of_word(first) => {
                rest.find(|found| !is_part_of_word(found)).unwrap_or(rest.len())
            }
            _ => first.len_utf8(),
        });
        let (text, after) = rest.split_at(length);
        if skipped.is_none() && !first.is_whitespace() {
            tokens.push(Token { text: text.to_owned(), line });
        }
        line += text.matches('\n').count();
        rest = after;
    }
    tokens
}

fn is_part_of_word(found: char) -> bool {
    found.is_alphanumeric() || found == '_'
}

fn comment_length(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    let mut inner = rest.strip_prefix("/*")?;
    let mut open = 1;
    while open > 0 {
        let next = inner.find(['/', '*'])?;
        inner = inner.get(next..)?;
        let step = match inner.get(..2) {
            Some("/*") => {
                open += 1;
                2
            }
            Some("*/") => {
                open -= 1;
                2
            }
            _ => 1,
        };
        inner = inner.get(step..)?;
    }
    Some(rest.len() - inner.len())
}

/// Returns the length of a string or character literal; of a lifetime only its quotation mark.
fn literal_length(rest: &str) -> Option<usize> {
    if let Some(inner) = rest.strip_prefix('\'') {
        let mut characters = inner.chars();
        let first = characters.next()?;
        if first == '\\' {
            let escaped = 1 + characters.next()?.len_utf8();
            return Some(1 + escaped + inner.get(escaped..)?.find('\'')? + 1);
        }
        let is_character = characters.next() == Some('\'');
        return Some(if is_character { 2 + first.len_utf8() } else { 1 });
    }
    let start = rest.find(|found| !matches!(found, 'b' | 'c' | 'r'))?;
    let (letters, after) = rest.split_at(start);
    let hashes = after.find(|found| found != '#')?;
    let inner = after.get(hashes..)?.strip_prefix('"')?;
    let opening = start + hashes + 1;
    match letters {
        "r" | "br" | "cr" => {
            let end = format!("\"{}", "#".repeat(hashes));
            Some(opening + inner.find(&end)? + end.len())
        }
        "" | "b" | "c" if hashes == 0 => {
            let mut escaped = false;
            let end = inner.find(|found| {
                let ends = found == '"' && !escaped;
                escaped = found == '\\' && !escaped;
                ends
            })?;
            Some(opening + end + 1)
        }
        _ => None,
    }
}

/// Removes the code that is compiled for tests only. Returns the rest, the modules declared in it, and its number of
/// lines.
pub(super) fn without_tests(tokens: Vec<Token>) -> (Vec<Token>, Vec<String>, usize) {
    let mut modules = Vec::new();
    let mut removed = vec![false; tokens.len()];
    let mut lines = 0;
    let text = |at: usize| tokens.get(at).map_or("", |token: &Token| token.text.as_str());
    let mut at = 0;
    while at < tokens.len() {
        let is_test = ["#", "[", "cfg", "(", "test", ")", "]"]
            .iter()
            .zip(at..)
            .all(|(wanted, at)| text(at) == *wanted);
        if !is_test {
            at += 1;
            continue;
        }
        let start = at;
        at = item_end(&text, at, tokens.len());
        let declared = (start..at).find(|at| text(*at) == "mod" && text(at + 2) == ";");
        modules.extend(declared.map(|at| text(at + 1).to_owned()));
        removed.iter_mut().take(at).skip(start).for_each(|removed| *removed = true);
        let line = |at: usize| tokens.get(at).map_or(0, |token| token.line);
        lines += 1 + line(at - 1) - line(start);
    }
    let kept = tokens.into_iter().zip(removed).filter(|(_, removed)| !removed);
    (kept.map(|(token, _)| token).collect(), modules, lines)
}

/// Returns the end of the item whose attributes start at a token: after its `;` or closing brace.
fn item_end<'a>(text: &impl Fn(usize) -> &'a str, start: usize, last: usize) -> usize {
    let mut depth = 0_usize;
    for at in start..last {
        match text(at) {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" => depth = depth.saturating_sub(1),
            "}" if depth <= 1 => return at + 1,
            "}" => depth -= 1,
            ";" if depth == 0 => return at + 1,
            _ => {}
        }
    }
    last
}
