//! Parser of filters.

use super::{
    Comparison, Field, FieldKind, FilterError, MAX_DEPTH, MAX_LENGTH, MAX_TERMS, Node, Operand,
    Operator, Pattern,
};

/// Parses a whole filter.
pub(super) fn parse(text: &str, schema: &'static [Field]) -> Result<Node, FilterError> {
    if text.len() > MAX_LENGTH {
        let problem = format!("the filter is longer than {MAX_LENGTH} bytes");
        return Err(FilterError { position: MAX_LENGTH, problem });
    }
    let mut parser = Parser { text, position: 0, schema, depth: 0, terms: 0 };
    parser.skip_space();
    if parser.rest().is_empty() {
        return Ok(Node::All(Vec::new()));
    }
    let root = parser.expression()?;
    if parser.rest().is_empty() {
        Ok(root)
    } else {
        Err(parser.expected("AND, OR or the end of the filter"))
    }
}

struct Parser<'t> {
    text: &'t str,
    position: usize,
    schema: &'static [Field],
    depth: usize,
    terms: usize,
}

/// A bare or quoted text of the filter.
struct Literal {
    position: usize,
    quoted: bool,
    pattern: Pattern,
    /// The text including stars.
    plain: String,
    /// Whether a star is neither at the start nor at the end.
    inner_star: bool,
}

impl<'t> Parser<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.position..).unwrap_or_default()
    }

    fn next(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.position += rest.len() - rest.trim_start().len();
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.position += token.len();
        }
        found
    }

    fn at_keyword(&self, keyword: &str) -> bool {
        let rest = self.rest().strip_prefix(keyword);
        rest.is_some_and(|rest| {
            rest.chars().next().is_none_or(|next| next.is_whitespace() || matches!(next, '(' | ')'))
        })
    }

    fn take_keyword(&mut self, keyword: &str) -> bool {
        let found = self.at_keyword(keyword);
        if found {
            self.position += keyword.len();
            self.skip_space();
        }
        found
    }

    fn expected(&self, what: &str) -> FilterError {
        let found = match self.next() {
            None => "the end of the filter".to_owned(),
            Some(next) => format!("`{}`", next.escape_default()),
        };
        self.error(self.position, format!("expected {what}, found {found}"))
    }

    fn error(&self, position: usize, problem: impl Into<String>) -> FilterError {
        FilterError { position: position.min(self.text.len()), problem: problem.into() }
    }

    /// Parses terms joined by `AND`, or adjacent terms, which means the same.
    fn expression(&mut self) -> Result<Node, FilterError> {
        let mut nodes = vec![self.factor()?];
        while !self.rest().is_empty() && self.next() != Some(')') {
            self.take_keyword("AND");
            nodes.push(self.factor()?);
        }
        Ok(single_or(nodes, Node::All))
    }

    fn factor(&mut self) -> Result<Node, FilterError> {
        let mut nodes = vec![self.term()?];
        while self.take_keyword("OR") {
            nodes.push(self.term()?);
        }
        Ok(single_or(nodes, Node::Any))
    }

    fn term(&mut self) -> Result<Node, FilterError> {
        if self.take_keyword("NOT") || self.take("-") {
            return Ok(Node::Not(Box::new(self.simple()?)));
        }
        self.simple()
    }

    fn simple(&mut self) -> Result<Node, FilterError> {
        if ["AND", "OR", "NOT"].iter().any(|keyword| self.at_keyword(keyword)) {
            return Err(self.expected("a comparison or a text"));
        }
        if self.next() != Some('(') {
            return self.restriction();
        }
        if self.depth >= MAX_DEPTH {
            let problem = format!("parentheses are nested more than {MAX_DEPTH} levels deep");
            return Err(self.error(self.position, problem));
        }
        self.depth += 1;
        self.position += 1;
        self.skip_space();
        let inner = self.expression()?;
        if !self.take(")") {
            return Err(self.expected("`)`"));
        }
        self.depth -= 1;
        self.skip_space();
        Ok(inner)
    }

    fn restriction(&mut self) -> Result<Node, FilterError> {
        let begin = self.position;
        self.terms += 1;
        if self.terms > MAX_TERMS {
            return Err(self.error(begin, format!("more than {MAX_TERMS} comparisons")));
        }
        let first = self.written("a comparison or a text", is_name_character)?;
        let mut parts = Vec::new();
        while self.take(".") {
            parts.push(self.written("a key", is_name_character)?);
        }
        let end = self.position;
        if self.next() == Some('(') {
            return Err(self.error(begin, "functions are not supported"));
        }
        self.skip_space();
        let at_operator = self.position;
        let Some(operator) = self.operator() else {
            // Without an operator it is a bare text, which may contain dots.
            let raw = self.text.get(begin..end).unwrap_or_default();
            let text = if parts.is_empty() { first } else { Literal::new(begin, false, raw) };
            return Ok(Node::Bare(text.reject_inner_star(self)?.pattern));
        };
        let mut parts = parts.into_iter();
        let key = parts.next();
        if let Some(more) = parts.next() {
            let problem = "a key with `.` in it must be quoted: labels.\"a.b\"";
            return Err(self.error(more.position, problem));
        }
        self.skip_space();
        let field = self.field(&first)?;
        let comparison = self.comparison(field, key, operator, at_operator)?;
        self.skip_space();
        Ok(Node::Compare(comparison))
    }

    fn operator(&mut self) -> Option<Operator> {
        // Longer operators come first.
        [
            Operator::LessOrEqual,
            Operator::GreaterOrEqual,
            Operator::NotEqual,
            Operator::Equal,
            Operator::Less,
            Operator::Greater,
            Operator::Has,
        ]
        .into_iter()
        .find(|operator| self.take(operator.as_str()))
    }

    fn field(&self, name: &Literal) -> Result<Field, FilterError> {
        let known = self.schema.iter().find(|field| !name.quoted && field.name == name.plain);
        known.copied().ok_or_else(|| {
            let names = self.schema.iter().map(|field| field.name);
            let problem = if name.quoted {
                "expected a field on the left of a comparison, found a quoted text".to_owned()
            } else {
                format!(
                    "there is no field `{}`; {}",
                    shortened(&name.plain),
                    nearest(&name.plain, names)
                )
            };
            self.error(name.position, problem)
        })
    }

    fn comparison(
        &mut self,
        field: Field,
        key: Option<Literal>,
        operator: Operator,
        at_operator: usize,
    ) -> Result<Comparison, FilterError> {
        if let Some(key) = &key
            && field.kind != FieldKind::Map
        {
            let problem = format!("`{}` has no keys", field.name);
            return Err(self.error(key.position, problem));
        }
        let keyed = key.is_some();
        let allowed: &[Operator] = match field.kind {
            FieldKind::Text | FieldKind::Int | FieldKind::Time => &[],
            FieldKind::Map if keyed => &[],
            FieldKind::Enum(_) | FieldKind::Bool => {
                &[Operator::Equal, Operator::NotEqual, Operator::Has]
            }
            FieldKind::TextList | FieldKind::Map => &[Operator::Has],
        };
        if !allowed.is_empty() && !allowed.contains(&operator) {
            let allowed: Vec<_> = allowed.iter().map(|operator| operator.as_str()).collect();
            let (name, allowed) = (field.name, allowed.join(" or "));
            let problem = format!("`{name}` does not support this operator; expected {allowed}");
            return Err(self.error(at_operator, problem));
        }
        if ["AND", "OR", "NOT"].iter().any(|keyword| self.at_keyword(keyword)) {
            return Err(self.expected("a value"));
        }
        let value = self.written("a value", is_value_character)?;
        let operand = self.operand(field, operator, value)?;
        Ok(Comparison { field, key: key.map(|key| key.plain), operator, operand })
    }

    fn operand(
        &self,
        field: Field,
        operator: Operator,
        value: Literal,
    ) -> Result<Operand, FilterError> {
        if operator == Operator::Has && !value.quoted && value.plain == "*" {
            return Ok(Operand::Present);
        }
        let wrong = |expected: &str| {
            let (name, found) = (field.name, shortened(&value.plain));
            self.error(value.position, format!("`{name}` expects {expected}, found `{found}`"))
        };
        match field.kind {
            FieldKind::Int => {
                let number = value.plain.parse();
                number.map(Operand::Int).map_err(|_| wrong("a whole number"))
            }
            FieldKind::Bool => {
                let flag = value.plain.parse();
                flag.map(Operand::Bool).map_err(|_| wrong("true or false"))
            }
            FieldKind::Time => {
                let time = value.plain.parse();
                let example = "a time such as \"2026-11-22T10:00:00Z\"";
                time.map(Operand::Time).map_err(|_| wrong(example))
            }
            FieldKind::Enum(names) => {
                let known = names.iter().find(|name| **name == value.plain);
                known.map(|name| Operand::Name(name)).ok_or_else(|| {
                    wrong(&format!("a name; {}", nearest(&value.plain, names.iter().copied())))
                })
            }
            FieldKind::Text | FieldKind::TextList | FieldKind::Map => {
                let value = value.reject_inner_star(self)?;
                if value.pattern.is_open() && operator.is_ordering() {
                    let problem = "`*` can only be compared with =, != and :; write \"\\*\" for the character";
                    return Err(self.error(value.position, problem));
                }
                Ok(Operand::Text(value.pattern))
            }
        }
    }

    /// Parses a quoted text, or a word of characters that `belongs` accepts.
    fn written(
        &mut self,
        expected: &str,
        belongs: fn(char) -> bool,
    ) -> Result<Literal, FilterError> {
        let position = self.position;
        if let Some(quote @ ('"' | '\'')) = self.next() {
            return self.quoted(quote);
        }
        let rest = self.rest();
        let length = rest.find(|character| !belongs(character)).unwrap_or(rest.len());
        let word = rest.get(..length).unwrap_or_default();
        if word.is_empty() {
            return Err(self.expected(expected));
        }
        self.position += length;
        Ok(Literal::new(position, false, word))
    }

    fn quoted(&mut self, quote: char) -> Result<Literal, FilterError> {
        let begin = self.position;
        let mut characters = self.rest().char_indices().skip(1);
        while let Some((offset, character)) = characters.next() {
            if character == quote {
                let inside = self.text.get(begin + 1..begin + offset).unwrap_or_default();
                self.position = begin + offset + 1;
                return Ok(Literal::new(begin, true, inside));
            }
            if character.is_control() {
                let problem = "expected a text without control characters";
                return Err(self.error(begin + offset, problem));
            }
            if character == '\\'
                && !characters
                    .next()
                    .is_some_and(|(_, next)| matches!(next, '"' | '\'' | '\\' | '*'))
            {
                let problem = "expected \\\", \\', \\\\ or \\* for an escaped character";
                return Err(self.error(begin + offset, problem));
            }
        }
        Err(self.error(self.text.len(), format!("expected {quote} to end the text")))
    }
}

impl Literal {
    /// Finds stars and, in a quoted text, removes the escapes.
    fn new(position: usize, quoted: bool, raw: &str) -> Self {
        let mut plain = String::with_capacity(raw.len());
        // The positions of unescaped stars in `plain`.
        let mut stars = Vec::new();
        let mut escaped = false;
        for character in raw.chars() {
            if quoted && !escaped && character == '\\' {
                escaped = true;
                continue;
            }
            if character == '*' && !escaped {
                stars.push(plain.len());
            }
            plain.push(character);
            escaped = false;
        }
        let open_start = stars.first() == Some(&0);
        let alone = plain.len() == 1 && open_start;
        let open_end = !alone && stars.last().is_some_and(|star| star + 1 == plain.len());
        let ends = usize::from(open_start) + usize::from(open_end);
        let inner = plain.get(usize::from(open_start)..plain.len() - usize::from(open_end));
        let text = inner.unwrap_or_default().to_owned();
        let pattern = Pattern { open_start, text, open_end };
        Self { position, quoted, pattern, plain, inner_star: stars.len() > ends }
    }
}

impl Literal {
    /// Rejects a star that is neither at the start nor at the end.
    fn reject_inner_star(self, parser: &Parser<'_>) -> Result<Self, FilterError> {
        if self.inner_star {
            let problem = "`*` may only be at the start or the end of a text; write \"\\*\" for the character";
            return Err(parser.error(self.position, problem));
        }
        Ok(self)
    }
}

fn single_or(mut nodes: Vec<Node>, several: fn(Vec<Node>) -> Node) -> Node {
    match (nodes.pop(), nodes.is_empty()) {
        (Some(only), true) => only,
        (last, _) => {
            nodes.extend(last);
            several(nodes)
        }
    }
}

/// Returns whether a character may be part of a name or bare text.
fn is_name_character(character: char) -> bool {
    is_value_character(character) && !matches!(character, ':' | '.')
}

/// Returns whether a character may be part of a value: a time contains `:`, and a number may contain `.`.
fn is_value_character(character: char) -> bool {
    !character.is_whitespace()
        && !character.is_control()
        && !matches!(character, '(' | ')' | '<' | '>' | '=' | '!' | ',' | '"' | '\'' | '\\')
}

fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

fn nearest<'n>(text: &str, names: impl Iterator<Item = &'n str> + Clone) -> String {
    let near = names
        .clone()
        .map(|name| (strsim::damerau_levenshtein(text, name), name))
        .min()
        .filter(|(distance, name)| *distance <= 1 + name.len() / 3);
    match near {
        Some((_, name)) => format!("did you mean `{name}`?"),
        None => format!("there are {}", names.collect::<Vec<_>>().join(", ")),
    }
}
