//! Parses a query into its tree, by operator precedence. Accepts exactly what az's parser accepts.

use super::function::Function;
use super::lexer::{Placed, SyntaxError, Token, tokens};
use super::tree::{Comparison, Tree};
use std::sync::Arc;

type Read<T> = Result<T, SyntaxError>;

/// Tokens with a lower binding power end the right-hand side of a projection.
const STOPS: u8 = 10;
const COMPARISON: u8 = 5;
const FLATTEN: u8 = 9;
const STAR: u8 = 20;
const FILTER: u8 = 21;
const DOT: u8 = 40;
const NOT: u8 = 45;

impl Token {
    /// How strongly the token binds the expression on its left.
    fn power(&self) -> u8 {
        match self {
            Self::Pipe => 1,
            Self::Or => 2,
            Self::And => 3,
            Self::Equal
            | Self::NotEqual
            | Self::Less
            | Self::LessOrEqual
            | Self::Greater
            | Self::GreaterOrEqual => COMPARISON,
            Self::Flatten => FLATTEN,
            Self::Star => STAR,
            Self::Filter => FILTER,
            Self::Dot => DOT,
            Self::Not => NOT,
            Self::LeftBrace => 50,
            Self::LeftBracket => 55,
            Self::LeftParen => 60,
            _ => 0,
        }
    }

    /// The error message for the token in a wrong position.
    fn shown(&self) -> String {
        match self {
            Self::End => "the query ends too early".to_owned(),
            Self::Number(number) => format!(
                "{number} is not valid here: write a number that is compared in backticks, `{number}`"
            ),
            Self::Name(name) => format!("'{name}' is not valid here"),
            Self::Quoted(name) => {
                format!("\"{name}\" is not valid here: write a string in single quotes, '{name}'")
            }
            Self::Star => "'*' is not valid here".to_owned(),
            Self::RightBracket => "']' is not valid here".to_owned(),
            Self::RightParen => "')' is not valid here".to_owned(),
            Self::RightBrace => "'}' is not valid here".to_owned(),
            _ => "this is not valid here".to_owned(),
        }
    }
}

/// The maximum nesting of expressions, because the parser recurses for each.
const DEEPEST: usize = 64;

struct Parser {
    tokens: Vec<Placed>,
    at: usize,
    depth: usize,
}

/// Parses a query.
pub(super) fn parse(text: &str) -> Read<Tree> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0 };
    let tree = parser.expression(0)?;
    if *parser.peek(0) == Token::End { Ok(tree) } else { Err(parser.refused()) }
}

impl Parser {
    /// The token `ahead` of the current one, or the last token.
    fn peek(&self, ahead: usize) -> &Token {
        let last = self.tokens.len() - 1;
        &self.tokens[(self.at + ahead).min(last)].1
    }

    fn position(&self) -> usize {
        self.tokens[self.at.min(self.tokens.len() - 1)].0
    }

    fn refused(&self) -> SyntaxError {
        SyntaxError::new(self.position(), self.peek(0).shown())
    }

    /// Consumes a token if it is the next one.
    fn takes(&mut self, token: &Token) -> bool {
        let fits = self.peek(0) == token;
        self.at += usize::from(fits);
        fits
    }

    fn expect(&mut self, token: &Token) -> Read<()> {
        if self.takes(token) { Ok(()) } else { Err(self.refused()) }
    }

    fn expression(&mut self, power: u8) -> Read<Tree> {
        if self.depth == DEEPEST {
            return Err(SyntaxError::new(
                self.position(),
                format!("it is nested too deeply: the limit is {DEEPEST} levels"),
            ));
        }
        self.depth += 1;
        let mut left = self.beginning()?;
        while power < self.peek(0).power() {
            left = self.continued(left)?;
        }
        self.depth -= 1;
        Ok(left)
    }

    /// Parses the beginning of an expression.
    fn beginning(&mut self) -> Read<Tree> {
        let refused = self.refused();
        let token = self.peek(0).clone();
        self.at += 1;
        Ok(match token {
            Token::Literal(value) => Tree::Literal(value),
            Token::Name(name) => Tree::Field(name),
            Token::Quoted(name) => {
                if *self.peek(0) == Token::LeftParen {
                    let why = format!("a function's name is written without quotes: {name}(…)");
                    return Err(SyntaxError::new(refused.at, why));
                }
                Tree::Field(name)
            }
            Token::Current => Tree::Current,
            Token::Star => Tree::Values(Box::new([Tree::Current, self.each(STAR)?])),
            Token::Filter => self.filter(Tree::Current)?,
            Token::Flatten => {
                let flat = Tree::Flatten(Box::new(Tree::Current));
                Tree::Projection(Box::new([flat, self.each(FLATTEN)?]))
            }
            Token::LeftBrace => self.object()?,
            Token::LeftBracket => self.bracket()?,
            Token::LeftParen => {
                let inner = self.expression(0)?;
                self.expect(&Token::RightParen)?;
                inner
            }
            Token::Not => Tree::Not(Box::new(self.expression(NOT)?)),
            Token::Reference => Tree::Reference(Box::new(self.expression(0)?)),
            _ => return Err(refused),
        })
    }

    /// Parses the continuation of an expression.
    fn continued(&mut self, left: Tree) -> Read<Tree> {
        let refused = self.refused();
        let token = self.peek(0).clone();
        self.at += 1;
        let two = |left, right| Box::new([left, right]);
        Ok(match token {
            Token::Dot if self.takes(&Token::Star) => Tree::Values(two(left, self.each(DOT)?)),
            Token::Dot => {
                let right = self.behind_dot(DOT)?;
                match left {
                    Tree::Chain(mut parts) => {
                        parts.push(right);
                        Tree::Chain(parts)
                    }
                    left => Tree::Chain(vec![left, right]),
                }
            }
            Token::Pipe => Tree::Pipe(two(left, self.expression(1)?)),
            Token::Or => Tree::Or(two(left, self.expression(2)?)),
            Token::And => Tree::And(two(left, self.expression(3)?)),
            Token::Flatten => {
                Tree::Projection(two(Tree::Flatten(Box::new(left)), self.each(FLATTEN)?))
            }
            Token::Filter => self.filter(left)?,
            Token::LeftBracket => self.bracket_behind(left)?,
            Token::LeftParen => match left {
                Tree::Field(name) => self.call(&name, refused.at)?,
                _ => {
                    return Err(SyntaxError::new(
                        refused.at,
                        "the text before '(' is not a function",
                    ));
                }
            },
            token => {
                let Some(comparison) = comparison(&token) else { return Err(refused) };
                Tree::Compare(comparison, two(left, self.expression(COMPARISON)?))
            }
        })
    }

    /// Parses the right-hand side of a projection.
    fn each(&mut self, power: u8) -> Read<Tree> {
        match self.peek(0) {
            token if token.power() < STOPS => Ok(Tree::Current),
            Token::LeftBracket | Token::Filter => self.expression(power),
            Token::Dot => {
                self.at += 1;
                self.behind_dot(power)
            }
            _ => Err(self.refused()),
        }
    }

    fn behind_dot(&mut self, power: u8) -> Read<Tree> {
        match self.peek(0) {
            Token::Name(_) | Token::Quoted(_) | Token::Star => self.expression(power),
            Token::LeftBracket => {
                self.at += 1;
                self.list()
            }
            Token::LeftBrace => {
                self.at += 1;
                self.object()
            }
            _ => Err(self.refused()),
        }
    }

    fn filter(&mut self, left: Tree) -> Read<Tree> {
        let condition = self.expression(0)?;
        self.expect(&Token::RightBracket)?;
        let each = self.each(FILTER)?;
        Ok(Tree::Filter(Box::new([left, each, condition])))
    }

    /// Parses a bracket at the beginning of an expression.
    fn bracket(&mut self) -> Read<Tree> {
        match (self.peek(0), self.peek(1)) {
            (Token::Number(_) | Token::Colon, _) => {
                let place = self.index_or_slice()?;
                self.project_if_slice(Tree::Current, place)
            }
            (Token::Star, Token::RightBracket) => {
                self.at += 2;
                Ok(Tree::Projection(Box::new([Tree::Current, self.each(STAR)?])))
            }
            _ => self.list(),
        }
    }

    /// Parses a bracket after an expression.
    fn bracket_behind(&mut self, left: Tree) -> Read<Tree> {
        if !matches!(self.peek(0), Token::Number(_) | Token::Colon) {
            self.expect(&Token::Star)?;
            self.expect(&Token::RightBracket)?;
            return Ok(Tree::Projection(Box::new([left, self.each(STAR)?])));
        }
        let place = self.index_or_slice()?;
        match left {
            Tree::Places(mut parts) => {
                parts.push(place);
                Ok(Tree::Places(parts))
            }
            left => self.project_if_slice(left, place),
        }
    }

    fn project_if_slice(&mut self, left: Tree, place: Tree) -> Read<Tree> {
        let is_slice = matches!(place, Tree::Slice(_));
        let places = Tree::Places(vec![left, place]);
        if is_slice {
            return Ok(Tree::Projection(Box::new([places, self.each(STAR)?])));
        }
        Ok(places)
    }

    fn index_or_slice(&mut self) -> Read<Tree> {
        if let (Token::Number(number), false) = (self.peek(0), *self.peek(1) == Token::Colon) {
            let index = Tree::Index(*number);
            self.at += 1;
            self.expect(&Token::RightBracket)?;
            return Ok(index);
        }
        let begins = self.position();
        let (mut parts, mut part) = ([None; 3], 0);
        while *self.peek(0) != Token::RightBracket {
            match self.peek(0) {
                Token::Colon if part < 2 => part += 1,
                Token::Number(number) => parts[part] = Some(*number),
                _ => return Err(self.refused()),
            }
            self.at += 1;
        }
        self.at += 1;
        if parts[2] == Some(0) {
            return Err(SyntaxError::new(begins, "the step of a slice must not be 0"));
        }
        Ok(Tree::Slice(parts))
    }

    fn list(&mut self) -> Read<Tree> {
        let mut items = Vec::new();
        loop {
            items.push(self.expression(0)?);
            if self.takes(&Token::RightBracket) {
                return Ok(Tree::List(items));
            }
            self.expect(&Token::Comma)?;
        }
    }

    fn object(&mut self) -> Read<Tree> {
        let mut members: Vec<(Arc<str>, Tree)> = Vec::new();
        loop {
            let (Token::Name(name) | Token::Quoted(name)) = self.peek(0).clone() else {
                return Err(self.refused());
            };
            self.at += 1;
            self.expect(&Token::Colon)?;
            let value = self.expression(0)?;
            // Of members with the same name the last value counts, at the position of the first.
            match members.iter_mut().find(|(known, _)| **known == *name) {
                Some((_, known)) => *known = value,
                None => members.push((name.into(), value)),
            }
            if self.takes(&Token::RightBrace) {
                return Ok(Tree::Object(members));
            }
            self.expect(&Token::Comma)?;
        }
    }

    fn call(&mut self, name: &str, at: usize) -> Read<Tree> {
        let function = Function::named(name).map_err(|why| SyntaxError::new(at, why))?;
        let mut arguments = Vec::new();
        while !self.takes(&Token::RightParen) {
            arguments.push(self.expression(0)?);
            self.takes(&Token::Comma);
        }
        function.check_count(arguments.len()).map_err(|why| SyntaxError::new(at, why))?;
        Ok(Tree::Call(function, arguments))
    }
}

fn comparison(token: &Token) -> Option<Comparison> {
    Some(match token {
        Token::Equal => Comparison::Equal,
        Token::NotEqual => Comparison::NotEqual,
        Token::Less => Comparison::Less,
        Token::LessOrEqual => Comparison::LessOrEqual,
        Token::Greater => Comparison::Greater,
        Token::GreaterOrEqual => Comparison::GreaterOrEqual,
        _ => return None,
    })
}
