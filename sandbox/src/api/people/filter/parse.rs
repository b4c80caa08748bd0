//! The parser of filters.

use super::tokens::{Token, tokenize};
use super::{Compare, Condition, Filter, FilterError, TextMatch};
use crate::api::people::columns::{Column, Kind};
use crate::people::SYSTEM_ASSOCIATE_ID;

/// The maximum nesting, because the parser is recursive.
const MAX_DEPTH: usize = 32;

type Result<T> = std::result::Result<T, FilterError>;

/// Parses a filter over these columns.
pub(in crate::api::people) fn parse(text: &str, columns: &[Column]) -> Result<Filter> {
    let mut reader = Parser { tokens: tokenize(text)?.into_iter().peekable(), columns };
    let filter = reader.parse_or(0)?;
    match reader.tokens.next() {
        None => Ok(filter),
        Some(_) => Err(malformed("Unexpected text after the filter.")),
    }
}

fn malformed(what: &str) -> FilterError {
    FilterError::Malformed(what.to_owned())
}

struct Parser<'a> {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
    columns: &'a [Column],
}

impl Parser<'_> {
    fn parse_or(&mut self, depth: usize) -> Result<Filter> {
        let mut filters = vec![self.parse_and(depth)?];
        while self.accept_word("or") {
            filters.push(self.parse_and(depth)?);
        }
        Ok(Filter::Or(filters))
    }

    fn parse_and(&mut self, depth: usize) -> Result<Filter> {
        let mut filters = vec![self.parse_term(depth)?];
        while self.accept_word("and") {
            filters.push(self.parse_term(depth)?);
        }
        Ok(Filter::And(filters))
    }

    fn accept_word(&mut self, word: &str) -> bool {
        let is_it = |token: &Token| matches!(token, Token::Word(one) if one == word);
        self.tokens.next_if(is_it).is_some()
    }

    fn expect_sign(&mut self, sign: char) -> Result<()> {
        match self.tokens.next() {
            Some(Token::Sign(found)) if found == sign => Ok(()),
            _ => Err(FilterError::Malformed(format!("{sign} is missing."))),
        }
    }

    fn parse_term(&mut self, depth: usize) -> Result<Filter> {
        match self.tokens.next() {
            Some(Token::Sign('(')) if depth < MAX_DEPTH => {
                let filter = self.parse_or(depth + 1)?;
                self.expect_sign(')')?;
                Ok(filter)
            }
            Some(Token::Word(word)) => match word.as_str() {
                "startswith" => self.parse_function(TextMatch::Begin),
                "endswith" => self.parse_function(TextMatch::End),
                "substringof" => self.parse_function(TextMatch::Part),
                "getAllRows" => self.parse_pseudo_column(true),
                "getNoRows" => self.parse_pseudo_column(false),
                _ => self.parse_condition(&word),
            },
            _ => Err(malformed("The name of a column is missing.")),
        }
    }

    /// Parses `startswith(column, 'text')`. In `OData`, the text of `substringof` comes first.
    fn parse_function(&mut self, how: TextMatch) -> Result<Filter> {
        self.expect_sign('(')?;
        let first = self.tokens.next();
        self.expect_sign(',')?;
        let second = self.tokens.next();
        self.expect_sign(')')?;
        let ((Some(Token::Word(column)), Some(Token::Text(text)))
        | (Some(Token::Text(text)), Some(Token::Word(column)))) = (first, second)
        else {
            return Err(malformed("A function takes a column and a text."));
        };
        match self.find_column(&column)? {
            (at, Kind::Text) => {
                Ok(Filter::Column(at, Condition::Text(how, text.to_lowercase(), true)))
            }
            _ => Err(FilterError::Malformed(format!("{column} is not a text column."))),
        }
    }

    /// Parses a restriction without a column; ignores its value.
    fn parse_pseudo_column(&mut self, rows: bool) -> Result<Filter> {
        match (self.tokens.next(), self.tokens.next()) {
            (
                Some(Token::Word(_) | Token::Sign('=')),
                Some(Token::Number(_) | Token::Text(_) | Token::Word(_)),
            ) => Ok(Filter::Always(rows)),
            _ => Err(malformed("A value is missing.")),
        }
    }

    fn find_column(&self, name: &str) -> Result<(usize, Kind)> {
        let found = self.columns.iter().enumerate().find(|(_, column)| column.name == name);
        match found {
            Some((at, column)) if column.kind != Kind::Unfiltered => Ok((at, column.kind)),
            Some(_) => Err(FilterError::Malformed(format!("{name} cannot be filtered."))),
            None => Err(FilterError::Malformed(format!("There is no column {name}."))),
        }
    }

    fn parse_condition(&mut self, name: &str) -> Result<Filter> {
        let (at, kind) = self.find_column(name)?;
        let operator = match self.tokens.next() {
            Some(Token::Word(word)) => word,
            Some(Token::Sign(sign @ ('=' | '<' | '>'))) => sign.to_string(),
            _ => return Err(malformed("An operator is missing.")),
        };
        if ["le", "ge", "notEnds"].contains(&operator.as_str()) {
            return Err(FilterError::Unsupported(operator));
        }
        let test = match kind {
            Kind::Associate => self.associate_condition(&operator)?,
            Kind::Number => self.number_condition(&operator)?,
            Kind::List => self.list_condition(&operator)?,
            Kind::Text => self.text_condition(&operator)?,
            Kind::Flag => self.flag_condition(&operator)?,
            Kind::Date => self.date_condition(&operator)?,
            Kind::Unfiltered => None,
        };
        let unfit = || FilterError::Malformed(format!("{operator} cannot be applied to {name}."));
        Ok(Filter::Column(at, test.ok_or_else(unfit)?))
    }

    fn associate_condition(&mut self, operator: &str) -> Result<Option<Condition>> {
        match operator {
            "associateIsOneOf" => self.expect_number_list(true).map(Some),
            "associateIsNotOneOf" => self.expect_number_list(false).map(Some),
            "currentAssociate" => {
                Ok(Some(Condition::Number(Compare::Equal, i64::from(SYSTEM_ASSOCIATE_ID))))
            }
            _ => self.number_condition(operator),
        }
    }

    fn number_condition(&mut self, operator: &str) -> Result<Option<Condition>> {
        let compare = match operator {
            "eq" | "=" | "equals" => Compare::Equal,
            "ne" | "unequals" => Compare::Unequal,
            "lt" | "<" | "less" => Compare::Less,
            "gt" | ">" | "greater" => Compare::Greater,
            "between" => {
                self.expect_sign('(')?;
                let from = self.expect_number()?;
                self.expect_sign(',')?;
                let to = self.expect_number()?;
                self.expect_sign(')')?;
                return Ok(Some(Condition::Range(from, to)));
            }
            _ => return self.list_condition(operator),
        };
        Ok(Some(Condition::Number(compare, self.expect_number()?)))
    }

    fn list_condition(&mut self, operator: &str) -> Result<Option<Condition>> {
        match operator {
            "oneOf" => self.expect_number_list(true).map(Some),
            "notOneOf" | "NotOneOf" => self.expect_number_list(false).map(Some),
            "eq" | "=" | "equals" => {
                Ok(Some(Condition::Number(Compare::Equal, self.expect_number()?)))
            }
            "ne" | "unequals" => {
                Ok(Some(Condition::Number(Compare::Unequal, self.expect_number()?)))
            }
            _ => Ok(None),
        }
    }

    fn text_condition(&mut self, operator: &str) -> Result<Option<Condition>> {
        let (how, expected) = match operator {
            "eq" | "=" | "equals" | "is" => (TextMatch::Whole, true),
            "ne" | "unequals" | "isNot" => (TextMatch::Whole, false),
            "begins" => (TextMatch::Begin, true),
            "notBegins" => (TextMatch::Begin, false),
            "contains" => (TextMatch::Part, true),
            "notContains" => (TextMatch::Part, false),
            "between" => {
                self.expect_sign('(')?;
                let from = self.expect_text()?.to_lowercase();
                self.expect_sign(',')?;
                let to = self.expect_text()?.to_lowercase();
                self.expect_sign(')')?;
                return Ok(Some(Condition::Texts(from, to)));
            }
            _ => return Ok(None),
        };
        Ok(Some(Condition::Text(how, self.expect_text()?.to_lowercase(), expected)))
    }

    fn flag_condition(&mut self, operator: &str) -> Result<Option<Condition>> {
        let expected = match operator {
            "eq" | "=" | "equals" | "is" => true,
            "ne" | "unequals" | "isNot" => false,
            _ => return Ok(None),
        };
        let flag = match self.tokens.next() {
            Some(Token::Number(1)) => true,
            Some(Token::Number(0)) => false,
            Some(Token::Word(word) | Token::Text(word)) if word == "true" || word == "1" => true,
            Some(Token::Word(word) | Token::Text(word)) if word == "false" || word == "0" => false,
            _ => return Err(malformed("A flag must be true or false.")),
        };
        Ok(Some(Condition::Flag(flag == expected)))
    }

    fn date_condition(&mut self, operator: &str) -> Result<Option<Condition>> {
        let compare = match operator {
            "before" => Compare::Less,
            "after" => Compare::Greater,
            "date" => Compare::Equal,
            _ => return Ok(None),
        };
        let text = self.expect_text()?;
        if text.len() != "yyyy-MM-dd".len() || text.parse::<jiff::civil::Date>().is_err() {
            return Err(malformed("A date must be written yyyy-MM-dd."));
        }
        Ok(Some(Condition::Date(compare, text)))
    }

    fn expect_number(&mut self) -> Result<i64> {
        match self.tokens.next() {
            Some(Token::Number(number)) => Ok(number),
            Some(Token::Text(text)) => {
                let number = text.parse::<i32>().map(i64::from);
                number.map_err(|_| malformed("A number is expected."))
            }
            _ => Err(malformed("A number is expected.")),
        }
    }

    fn expect_text(&mut self) -> Result<String> {
        match self.tokens.next() {
            Some(Token::Text(text)) => Ok(text),
            _ => Err(malformed("A text in quotes is expected.")),
        }
    }

    fn expect_number_list(&mut self, among: bool) -> Result<Condition> {
        self.expect_sign('(')?;
        let mut numbers = vec![self.expect_number()?];
        while self.tokens.next_if(|token| *token == Token::Sign(',')).is_some() {
            numbers.push(self.expect_number()?);
        }
        self.expect_sign(')')?;
        Ok(Condition::Numbers(numbers, among))
    }
}
