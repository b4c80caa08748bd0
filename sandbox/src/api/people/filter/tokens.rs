//! The tokens of a filter.

use super::FilterError;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Word(String),
    Number(i64),
    Text(String),
    /// One of `( ) , = < >`.
    Sign(char),
}

pub(super) fn tokenize(text: &str) -> Result<Vec<Token>, FilterError> {
    let malformed = |what: &str| FilterError::Malformed(what.to_owned());
    let mut tokens = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(&next) = rest.peek() {
        match next {
            ' ' => {
                rest.next();
            }
            '(' | ')' | ',' | '=' | '<' | '>' => {
                rest.next();
                tokens.push(Token::Sign(next));
            }
            '\'' => {
                rest.next();
                let mut text = String::new();
                loop {
                    match rest.next() {
                        Some('\'') => break,
                        Some(other) if !other.is_control() => text.push(other),
                        Some(_) => return Err(malformed("A text contains a control character.")),
                        None => return Err(malformed("A text has no closing quote.")),
                    }
                }
                // Doubled quotes are not documented.
                if rest.peek() == Some(&'\'') {
                    return Err(malformed("A quote follows a text."));
                }
                tokens.push(Token::Text(text));
            }
            _ if next.is_ascii_alphanumeric() || next == '-' || next == '_' => {
                let mut word = String::new();
                while let Some(&letter) = rest.peek() {
                    if !(letter.is_ascii_alphanumeric() || "-_/.".contains(letter)) {
                        break;
                    }
                    word.push(letter);
                    rest.next();
                }
                tokens.push(word_or_number(word)?);
            }
            other => return Err(FilterError::Malformed(format!("{other:?} is not allowed."))),
        }
    }
    Ok(tokens)
}

fn word_or_number(word: String) -> Result<Token, FilterError> {
    let digits = word.strip_prefix('-').unwrap_or(&word);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(Token::Word(word));
    }
    // SuperOffice's numbers have 32 bits.
    let number = word.parse::<i32>().map(|number| Token::Number(number.into()));
    number.map_err(|_| FilterError::Malformed(format!("{word} is too large.")))
}
