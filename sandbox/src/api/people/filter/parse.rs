//! Reads a filter.

use super::tokens::{Token, tokenize};
use super::{Compare, Filter, FilterError, Match, Test};
use crate::api::SYSTEM_ASSOCIATE_ID;
use crate::api::people::columns::{Column, Kind};

/// Deeper is malformed: reading recurs.
const MAX_DEPTH: usize = 32;

type Result<T> = std::result::Result<T, FilterError>;

/// Reads a filter over these columns.
pub(in crate::api::people) fn parse(text: &str, columns: &[Column]) -> Result<Filter> {
    let mut reader = Reader { tokens: tokenize(text)?.into_iter().peekable(), columns };
    let filter = reader.any(0)?;
    match reader.tokens.next() {
        None => Ok(filter),
        Some(_) => Err(malformed("Something follows the filter.")),
    }
}

fn malformed(what: &str) -> FilterError {
    FilterError::Malformed(what.to_owned())
}

struct Reader<'a> {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
    columns: &'a [Column],
}

impl Reader<'_> {
    fn any(&mut self, depth: usize) -> Result<Filter> {
        let mut filters = vec![self.all(depth)?];
        while self.word("or") {
            filters.push(self.all(depth)?);
        }
        Ok(Filter::Any(filters))
    }

    fn all(&mut self, depth: usize) -> Result<Filter> {
        let mut filters = vec![self.one(depth)?];
        while self.word("and") {
            filters.push(self.one(depth)?);
        }
        Ok(Filter::All(filters))
    }

    fn word(&mut self, word: &str) -> bool {
        let is_it = |token: &Token| matches!(token, Token::Word(one) if one == word);
        self.tokens.next_if(is_it).is_some()
    }

    fn sign(&mut self, sign: char) -> Result<()> {
        match self.tokens.next() {
            Some(Token::Sign(found)) if found == sign => Ok(()),
            _ => Err(FilterError::Malformed(format!("{sign} is missing."))),
        }
    }

    fn one(&mut self, depth: usize) -> Result<Filter> {
        match self.tokens.next() {
            Some(Token::Sign('(')) if depth < MAX_DEPTH => {
                let filter = self.any(depth + 1)?;
                self.sign(')')?;
                Ok(filter)
            }
            Some(Token::Word(word)) => match word.as_str() {
                "startswith" => self.function(Match::Begin),
                "endswith" => self.function(Match::End),
                "substringof" => self.function(Match::Part),
                "getAllRows" => self.pseudo(true),
                "getNoRows" => self.pseudo(false),
                _ => self.column(&word),
            },
            _ => Err(malformed("The name of a column is missing.")),
        }
    }

    /// `startswith(column, 'text')`; in `OData` the text of `substringof` comes first.
    fn function(&mut self, how: Match) -> Result<Filter> {
        self.sign('(')?;
        let first = self.tokens.next();
        self.sign(',')?;
        let second = self.tokens.next();
        self.sign(')')?;
        let ((Some(Token::Word(column)), Some(Token::Text(text)))
        | (Some(Token::Text(text)), Some(Token::Word(column)))) = (first, second)
        else {
            return Err(malformed("A function takes a column and a text."));
        };
        match self.find(&column)? {
            (at, Kind::Text) => Ok(Filter::Column(at, Test::Text(how, text.to_lowercase(), true))),
            _ => Err(FilterError::Malformed(format!("{column} is no text."))),
        }
    }

    /// A restriction that is no column; the value it is held against is not looked at.
    fn pseudo(&mut self, rows: bool) -> Result<Filter> {
        match (self.tokens.next(), self.tokens.next()) {
            (
                Some(Token::Word(_) | Token::Sign('=')),
                Some(Token::Number(_) | Token::Text(_) | Token::Word(_)),
            ) => Ok(Filter::Always(rows)),
            _ => Err(malformed("A value is missing.")),
        }
    }

    fn find(&self, name: &str) -> Result<(usize, Kind)> {
        let found = self.columns.iter().enumerate().find(|(_, column)| column.name == name);
        match found {
            Some((at, column)) if column.kind != Kind::Unfiltered => Ok((at, column.kind)),
            Some(_) => Err(FilterError::Malformed(format!("{name} cannot be filtered."))),
            None => Err(FilterError::Malformed(format!("There is no column {name}."))),
        }
    }

    fn column(&mut self, name: &str) -> Result<Filter> {
        let (at, kind) = self.find(name)?;
        let operator = match self.tokens.next() {
            Some(Token::Word(word)) => word,
            Some(Token::Sign(sign @ ('=' | '<' | '>'))) => sign.to_string(),
            _ => return Err(malformed("An operator is missing.")),
        };
        if ["le", "ge", "notEnds"].contains(&operator.as_str()) {
            return Err(FilterError::Fails(operator));
        }
        let test = match kind {
            Kind::Associate => self.of_associate(&operator)?,
            Kind::Number => self.of_number(&operator)?,
            Kind::List => self.of_list(&operator)?,
            Kind::Text => self.of_text(&operator)?,
            Kind::Flag => self.of_flag(&operator)?,
            Kind::Date => self.of_date(&operator)?,
            Kind::Unfiltered => None,
        };
        let unfit = || FilterError::Malformed(format!("{operator} does not fit {name}."));
        Ok(Filter::Column(at, test.ok_or_else(unfit)?))
    }

    fn of_associate(&mut self, operator: &str) -> Result<Option<Test>> {
        match operator {
            "associateIsOneOf" => self.numbers(true).map(Some),
            "associateIsNotOneOf" => self.numbers(false).map(Some),
            "currentAssociate" => {
                Ok(Some(Test::Number(Compare::Equal, i64::from(SYSTEM_ASSOCIATE_ID))))
            }
            _ => self.of_number(operator),
        }
    }

    fn of_number(&mut self, operator: &str) -> Result<Option<Test>> {
        let compare = match operator {
            "eq" | "=" | "equals" => Compare::Equal,
            "ne" | "unequals" => Compare::Unequal,
            "lt" | "<" | "less" => Compare::Less,
            "gt" | ">" | "greater" => Compare::Greater,
            "between" => {
                self.sign('(')?;
                let from = self.number()?;
                self.sign(',')?;
                let to = self.number()?;
                self.sign(')')?;
                return Ok(Some(Test::Range(from, to)));
            }
            _ => return self.of_list(operator),
        };
        Ok(Some(Test::Number(compare, self.number()?)))
    }

    fn of_list(&mut self, operator: &str) -> Result<Option<Test>> {
        match operator {
            "oneOf" => self.numbers(true).map(Some),
            "notOneOf" | "NotOneOf" => self.numbers(false).map(Some),
            "eq" | "=" | "equals" => Ok(Some(Test::Number(Compare::Equal, self.number()?))),
            "ne" | "unequals" => Ok(Some(Test::Number(Compare::Unequal, self.number()?))),
            _ => Ok(None),
        }
    }

    fn of_text(&mut self, operator: &str) -> Result<Option<Test>> {
        let (how, expected) = match operator {
            "eq" | "=" | "equals" | "is" => (Match::Whole, true),
            "ne" | "unequals" | "isNot" => (Match::Whole, false),
            "begins" => (Match::Begin, true),
            "notBegins" => (Match::Begin, false),
            "contains" => (Match::Part, true),
            "notContains" => (Match::Part, false),
            "between" => {
                self.sign('(')?;
                let from = self.text()?.to_lowercase();
                self.sign(',')?;
                let to = self.text()?.to_lowercase();
                self.sign(')')?;
                return Ok(Some(Test::Texts(from, to)));
            }
            _ => return Ok(None),
        };
        Ok(Some(Test::Text(how, self.text()?.to_lowercase(), expected)))
    }

    fn of_flag(&mut self, operator: &str) -> Result<Option<Test>> {
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
            _ => return Err(malformed("A flag is true or false.")),
        };
        Ok(Some(Test::Flag(flag == expected)))
    }

    fn of_date(&mut self, operator: &str) -> Result<Option<Test>> {
        let compare = match operator {
            "before" => Compare::Less,
            "after" => Compare::Greater,
            "date" => Compare::Equal,
            _ => return Ok(None),
        };
        let text = self.text()?;
        if text.len() != "yyyy-MM-dd".len() || text.parse::<jiff::civil::Date>().is_err() {
            return Err(malformed("A date is written yyyy-MM-dd."));
        }
        Ok(Some(Test::Date(compare, text)))
    }

    fn number(&mut self) -> Result<i64> {
        match self.tokens.next() {
            Some(Token::Number(number)) => Ok(number),
            Some(Token::Text(text)) => {
                let number = text.parse::<i32>().map(i64::from);
                number.map_err(|_| malformed("A number is wanted."))
            }
            _ => Err(malformed("A number is wanted.")),
        }
    }

    fn text(&mut self) -> Result<String> {
        match self.tokens.next() {
            Some(Token::Text(text)) => Ok(text),
            _ => Err(malformed("A text in quotes is wanted.")),
        }
    }

    fn numbers(&mut self, among: bool) -> Result<Test> {
        self.sign('(')?;
        let mut numbers = vec![self.number()?];
        while self.tokens.next_if(|token| *token == Token::Sign(',')).is_some() {
            numbers.push(self.number()?);
        }
        self.sign(')')?;
        Ok(Test::Numbers(numbers, among))
    }
}
