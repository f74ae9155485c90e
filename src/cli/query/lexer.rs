//! The lexer of queries.
//!
//! The grammar is that of <https://jmespath.org/specification.html>. Where az's library (`jmespath`
//! of Python) accepts more, so does this: text between backticks that is not JSON is a string.

use serde_json::Value;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Dot,
    Star,
    RightBracket,
    Comma,
    Colon,
    Current,
    LeftParen,
    RightParen,
    LeftBrace,
    RightBrace,
    LeftBracket,
    Flatten,
    Filter,
    Or,
    Pipe,
    And,
    Reference,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
    NotEqual,
    Not,
    Name(String),
    Quoted(String),
    Number(i64),
    Literal(Value),
    End,
}

/// The error in a query, and the index of the character where it is, counted from zero.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SyntaxError {
    pub(super) at: usize,
    pub(super) why: String,
}

impl SyntaxError {
    pub(super) fn new(at: usize, why: impl Into<String>) -> Self {
        Self { at, why: why.into() }
    }
}

type Read<T> = Result<T, SyntaxError>;

/// A token, and the index of its first character.
pub(super) type Placed = (usize, Token);

struct Lexer<'a> {
    text: &'a [char],
    at: usize,
}

/// The tokens of a text, followed by [`Token::End`].
pub(super) fn tokens(text: &str) -> Read<Vec<Placed>> {
    let text: Vec<char> = text.chars().collect();
    let mut lexer = Lexer { text: &text, at: 0 };
    let mut tokens = Vec::new();
    while let Some(c) = lexer.peek() {
        let at = lexer.at;
        if matches!(c, ' ' | '\t' | '\n' | '\r') {
            lexer.at += 1;
            continue;
        }
        tokens.push((at, lexer.token(c)?));
    }
    tokens.push((text.len(), Token::End));
    Ok(tokens)
}

impl Lexer<'_> {
    fn peek(&self) -> Option<char> {
        self.text.get(self.at).copied()
    }

    fn token(&mut self, c: char) -> Read<Token> {
        let at = self.at;
        Ok(match c {
            'a'..='z' | 'A'..='Z' | '_' => {
                Token::Name(self.run(|c| c.is_ascii_alphanumeric() || c == '_'))
            }
            '\'' => Token::Literal(self.until('\'')?.replace("\\'", "'").into()),
            '`' => self.literal()?,
            '"' => {
                let text = format!("\"{}\"", self.until('"')?);
                let name = serde_json::from_str(&text);
                Token::Quoted(name.map_err(|_| SyntaxError::new(at, "this is not a quoted name"))?)
            }
            '-' | '0'..='9' => {
                self.at += 1;
                let digits = self.run(|c| c.is_ascii_digit());
                let number = format!("{c}{digits}").parse();
                Token::Number(number.map_err(|_| SyntaxError::new(at, "this is not an integer"))?)
            }
            _ => {
                self.at += 1;
                self.sign(c, at)?
            }
        })
    }

    /// A token of one or two characters, the first of which is already consumed.
    fn sign(&mut self, c: char, at: usize) -> Read<Token> {
        let next = self.peek();
        let mut followed = |by: char, both: Token, alone: Token| {
            let is_both = next == Some(by);
            self.at += usize::from(is_both);
            if is_both { both } else { alone }
        };
        Ok(match c {
            '.' => Token::Dot,
            '*' => Token::Star,
            ']' => Token::RightBracket,
            ',' => Token::Comma,
            ':' => Token::Colon,
            '@' => Token::Current,
            '(' => Token::LeftParen,
            ')' => Token::RightParen,
            '{' => Token::LeftBrace,
            '}' => Token::RightBrace,
            '[' if next == Some(']') => followed(']', Token::Flatten, Token::Flatten),
            '[' => followed('?', Token::Filter, Token::LeftBracket),
            '|' => followed('|', Token::Or, Token::Pipe),
            '&' => followed('&', Token::And, Token::Reference),
            '<' => followed('=', Token::LessOrEqual, Token::Less),
            '>' => followed('=', Token::GreaterOrEqual, Token::Greater),
            '!' => followed('=', Token::NotEqual, Token::Not),
            '=' if next == Some('=') => followed('=', Token::Equal, Token::Equal),
            '=' => {
                return Err(SyntaxError::new(
                    at,
                    "'=' is not an operator: compare values with '=='",
                ));
            }
            other => return Err(SyntaxError::new(at, format!("'{other}' is not valid here"))),
        })
    }

    /// Consumes the characters that fit.
    fn run(&mut self, fits: impl Fn(char) -> bool) -> String {
        let start = self.at;
        while self.peek().is_some_and(&fits) {
            self.at += 1;
        }
        self.text[start..self.at].iter().collect()
    }

    /// Consumes the text up to the next delimiter without a backslash before it, and returns it as
    /// written.
    fn until(&mut self, delimiter: char) -> Read<String> {
        let start = self.at;
        let mut text = String::new();
        loop {
            self.at += 1;
            match self.peek() {
                Some('\\') => {
                    text.push('\\');
                    self.at += 1;
                    text.extend(self.peek());
                }
                Some(c) if c == delimiter => break,
                Some(c) => text.push(c),
                None => {}
            }
            if self.at >= self.text.len() {
                return Err(SyntaxError::new(start, format!("the closing {delimiter} is missing")));
            }
        }
        self.at += 1;
        Ok(text)
    }

    /// JSON between backticks, or a plain string, which az accepts as well.
    fn literal(&mut self) -> Read<Token> {
        let at = self.at;
        let text = self.until('`')?.replace("\\`", "`");
        let value = serde_json::from_str(&text)
            .or_else(|_| serde_json::from_str(&format!("\"{}\"", text.trim_start())));
        value
            .map(Token::Literal)
            .map_err(|_| SyntaxError::new(at, "this is neither JSON nor a string"))
    }
}
