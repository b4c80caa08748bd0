//! Formatting of filters: the text parses back to the same filter.

use std::fmt::{self, Display as _, Write as _};

use super::{Comparison, Filter, Node, Operand, Pattern};

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.root.fmt(f)
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All(nodes) => join(f, nodes, " AND ", |node| matches!(node, Self::All(_))),
            Self::Any(nodes) => {
                join(f, nodes, " OR ", |node| matches!(node, Self::All(_) | Self::Any(_)))
            }
            Self::Not(node) => {
                f.write_str("NOT ")?;
                put(f, node, !matches!(**node, Self::Compare(_) | Self::Bare(_)))
            }
            Self::Compare(comparison) => comparison.fmt(f),
            Self::Bare(pattern) => pattern.fmt(f),
        }
    }
}

fn join(
    f: &mut fmt::Formatter<'_>,
    nodes: &[Node],
    word: &str,
    in_parentheses: impl Fn(&Node) -> bool,
) -> fmt::Result {
    let mut first = true;
    for node in nodes {
        if !first {
            f.write_str(word)?;
        }
        first = false;
        put(f, node, in_parentheses(node))?;
    }
    Ok(())
}

fn put(f: &mut fmt::Formatter<'_>, node: &Node, in_parentheses: bool) -> fmt::Result {
    if in_parentheses { write!(f, "({node})") } else { node.fmt(f) }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.field.name)?;
        if let Some(key) = &self.key {
            f.write_str(".\"")?;
            put_escaped(f, key)?;
            f.write_char('"')?;
        }
        write!(f, " {} {}", self.operator.as_str(), self.operand)
    }
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(pattern) => pattern.fmt(f),
            Self::Name(name) => f.write_str(name),
            Self::Int(number) => number.fmt(f),
            Self::Bool(flag) => flag.fmt(f),
            Self::Time(time) => write!(f, "\"{time}\""),
            Self::Present => f.write_char('*'),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = |open| if open { "*" } else { "" };
        write!(f, "\"{}", star(self.open_start))?;
        put_escaped(f, &self.text)?;
        write!(f, "{}\"", star(self.open_end))
    }
}

fn put_escaped(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    for character in text.chars() {
        if matches!(character, '"' | '\\' | '*') {
            f.write_char('\\')?;
        }
        f.write_char(character)?;
    }
    Ok(())
}
