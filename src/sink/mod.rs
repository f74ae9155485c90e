//! The output of this program: stdout, stderr, and the log. No other module writes there.
//!
//! Names, descriptions, tags and errors are untrusted text. Invariant: none of it has an effect
//! where it is shown. Characters that a terminal, a spreadsheet or a log reader would act on, and
//! invisible ones, are escaped as their code points, so that the text remains distinguishable from
//! any other.

pub mod log;

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Whether a character has an effect where it is shown, or is invisible: control characters (C0,
/// DEL, C1), line terminators, and Unicode's `Default_Ignorable_Code_Point` (direction, width and
/// joining, byte order marks, tags, variation selectors, fillers), with the marks of interlinear
/// annotation.
pub fn acts(c: char) -> bool {
    matches!(c,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}'
        | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Notation in which such characters are escaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notation {
    /// `\u{1b}`; `\n`, `\r` and `\t` by their letters.
    Text,
    /// JSON's escapes, in UTF-16: `\udb40\udc01`. The document's meaning does not change.
    Json,
    /// The escapes of YAML's double-quoted scalars: `\U000e0001`.
    Yaml,
}

impl Notation {
    fn write(self, c: char, into: &mut String) {
        let code = u32::from(c);
        // Writing to a `String` cannot fail.
        let _ = match (self, c) {
            (Self::Text, '\n') => into.write_str("\\n"),
            (Self::Text, '\r') => into.write_str("\\r"),
            (Self::Text, '\t') => into.write_str("\\t"),
            (Self::Text, _) => write!(into, "\\u{{{code:x}}}"),
            (Self::Json, _) => {
                let mut units = [0; 2];
                c.encode_utf16(&mut units).iter().try_for_each(|unit| write!(into, "\\u{unit:04x}"))
            }
            (Self::Yaml, _) if code <= 0xffff => write!(into, "\\u{code:04x}"),
            (Self::Yaml, _) => write!(into, "\\U{code:08x}"),
        };
    }

    fn escape(self, text: &str, is_escaped: fn(char) -> bool) -> Cow<'_, str> {
        if !text.contains(is_escaped) {
            return Cow::Borrowed(text);
        }
        let mut escaped = String::with_capacity(text.len() + 16);
        for c in text.chars() {
            if is_escaped(c) { self.write(c, &mut escaped) } else { escaped.push(c) }
        }
        Cow::Owned(escaped)
    }
}

/// Like [`acts`], for text in which line feeds and tabs are allowed.
fn acts_in_lines(c: char) -> bool {
    acts(c) && c != '\n' && c != '\t'
}

/// Escapes a text into one line without effects.
pub fn line(text: &str) -> Cow<'_, str> {
    Notation::Text.escape(text, acts)
}

/// Escapes a text for a cell or a header of CSV and TSV: one line without effects, and never a
/// formula. A text that a spreadsheet would read as a formula (OWASP, "CSV Injection") is prefixed
/// with an apostrophe.
pub fn cell(text: &str) -> Cow<'_, str> {
    const FORMULAS: [char; 10] = ['=', '+', '-', '@', '\t', '\r', '＝', '＋', '－', '＠'];
    let shown = line(text);
    if text.starts_with(FORMULAS) { Cow::Owned(format!("'{shown}")) } else { shown }
}

/// A writer for output in lines and with tabs: other characters with an effect are escaped, even if
/// a format has not done so.
#[derive(Debug)]
pub struct Out<W: Write> {
    to: W,
    notation: Notation,
    /// The first bytes of a character whose remaining bytes have not been written yet.
    begun: Vec<u8>,
}

/// Length of the transient line on stderr; zero if there is none.
static PASSING: AtomicUsize = AtomicUsize::new(0);
/// The longest transient line, in characters: terminals are rarely narrower, and a wrapped line
/// cannot be erased.
const LONGEST_PASSING: usize = 76;

/// Shows a transient line on a terminal: it is erased before anything else is shown. It must not
/// contain data.
pub fn show_passing(text: &str) {
    let shown: String = line(text).chars().take(LONGEST_PASSING).collect();
    let length = shown.chars().count();
    let mut to = io::stderr().lock();
    // Overwrites the previous line, which may be longer.
    let before = PASSING.swap(length, Ordering::Relaxed);
    let _ = write!(to, "\r{shown}{}\r", " ".repeat(before.saturating_sub(length)));
    let _ = to.flush();
}

/// Erases the transient line.
pub fn end_passing() {
    let length = PASSING.swap(0, Ordering::Relaxed);
    if length > 0 {
        let mut to = io::stderr().lock();
        let _ = write!(to, "\r{}\r", " ".repeat(length));
        let _ = to.flush();
    }
}

/// The writer for a command's data.
pub fn stdout(notation: Notation) -> Out<BufWriter<StdoutLock<'static>>> {
    end_passing();
    Out::new(BufWriter::new(io::stdout().lock()), notation)
}

impl<W: Write> Out<W> {
    /// Creates a writer into `to`.
    pub fn new(to: W, notation: Notation) -> Self {
        Self { to, notation, begun: Vec::new() }
    }

    fn text(&mut self, text: &str) -> io::Result<()> {
        self.to.write_all(self.notation.escape(text, acts_in_lines).as_bytes())
    }

    /// Writes the complete characters, and returns the bytes after the last one.
    fn bytes<'a>(&mut self, mut bytes: &'a [u8]) -> io::Result<&'a [u8]> {
        loop {
            match std::str::from_utf8(bytes) {
                Ok(text) => return self.text(text).map(|()| &[] as &[u8]),
                Err(error) => {
                    let (valid, rest) = bytes.split_at(error.valid_up_to());
                    self.text(std::str::from_utf8(valid).unwrap_or_default())?;
                    let Some(length) = error.error_len() else { return Ok(rest) };
                    self.text("\u{fffd}")?;
                    bytes = &rest[length..];
                }
            }
        }
    }
}

impl<W: Write> Write for Out<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.begun.is_empty() {
            self.begun = self.bytes(bytes)?.to_vec();
        } else {
            let joined = [self.begun.as_slice(), bytes].concat();
            self.begun = self.bytes(&joined)?.to_vec();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.begun).is_empty() {
            self.text("\u{fffd}")?;
        }
        self.to.flush()
    }
}

/// Whether stdout is a terminal.
pub fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Width of the terminal on stdout, in characters; `None` without a terminal, or if it does not
/// report one.
pub fn stdout_width() -> Option<usize> {
    terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| usize::from(width.0))
}

/// Whether stderr is a terminal.
pub fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Writes one line to stderr. A failure to write is ignored.
pub fn write_line(text: fmt::Arguments<'_>) {
    let text = text.to_string();
    end_passing();
    let _ = writeln!(io::stderr().lock(), "{}", line(&text));
}

/// Writes one line to stderr: `say!("{count} of {all}")`.
macro_rules! say {
    ($($text:tt)*) => { $crate::sink::write_line(format_args!($($text)*)) };
}
pub(crate) use say;

/// Writes lines of azimg's own to stderr, such as the usage of a command.
pub fn write_lines(text: &str) {
    for line in text.lines() {
        say!("{line}");
    }
}

/// Escapes the message of a panic like all other output: it may contain untrusted text.
pub fn install_panic_hook() {
    fn write_panic(info: &PanicHookInfo<'_>) {
        let thread = std::thread::current();
        say!("azimg: thread '{}' {info}", thread.name().unwrap_or_default());
        let trace = std::backtrace::Backtrace::capture();
        if trace.status() == std::backtrace::BacktraceStatus::Captured {
            write_lines(&trace.to_string());
        }
    }
    std::panic::set_hook(Box::new(write_panic));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_and_format_characters_are_escaped_and_others_kept() {
        assert_eq!(line("a\u{1b}[31m\n\u{202e}b"), "a\\u{1b}[31m\\n\\u{202e}b");
        assert_eq!(line("\u{9b}2J\u{7f}\u{feff}\u{e0041}"), "\\u{9b}2J\\u{7f}\\u{feff}\\u{e0041}");
        for left in ["Ünïcode 漢字 ελληνικά עברית", "C:\\x", "🙂", ""] {
            assert!(matches!(line(left), Cow::Borrowed(_)), "{left}");
        }
    }

    #[test]
    fn cell_never_starts_a_formula() {
        for (text, shown) in [
            ("=1+1", "'=1+1"),
            ("-5", "'-5"),
            ("\tx", "'\\tx"),
            ("\r=x", "'\\r=x"),
            ("＝x", "'＝x"),
            ("a=1", "a=1"),
            ("", ""),
        ] {
            assert_eq!(cell(text), shown);
        }
    }

    #[test]
    fn split_character_is_joined_and_invalid_utf8_is_replaced() {
        let printed = |parts: &[&[u8]], notation| {
            let mut out = Out::new(Vec::new(), notation);
            for part in parts {
                out.write_all(part).unwrap();
            }
            out.flush().unwrap();
            String::from_utf8(out.to).unwrap()
        };
        let tag = "\u{e0041}".as_bytes();
        assert_eq!(
            printed(&[b"a\t", &tag[..2], &tag[2..], b"\n"], Notation::Text),
            "a\t\\u{e0041}\n"
        );
        assert_eq!(printed(&[&tag[..1], &tag[1..]], Notation::Json), "\\udb40\\udc41");
        assert_eq!(printed(&[tag, b"\x1b"], Notation::Yaml), "\\U000e0041\\u001b");
        assert_eq!(printed(&[b"a\xff", &tag[..3]], Notation::Text), "a\u{fffd}\u{fffd}");
    }
}
