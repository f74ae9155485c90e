//! Texts as literals of each language. A text cannot end its literal, whatever it contains: quotes,
//! expressions, line breaks, or characters that act on a terminal when the code is pasted.

use crate::sink::acts;
use std::fmt::Write;

/// Whether the words of a shell can contain the character without quotes.
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_./:@%+,-".contains(c)
}

/// A word of a POSIX shell. Control characters need `$'…'`, which bash, zsh and ksh understand.
pub fn shell(text: &str) -> String {
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    if !text.contains(acts) {
        return format!("'{}'", text.replace('\'', r"'\''"));
    }
    let mut word = "$'".to_owned();
    for c in text.chars() {
        match c {
            '\'' | '\\' => word.extend(['\\', c]),
            // Bytes, because a shell without a UTF-8 locale knows no `\u`.
            c if acts(c) => {
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    let _ = write!(word, "\\{byte:03o}");
                }
            }
            c => word.push(c),
        }
    }
    word.push('\'');
    word
}

/// A string of `PowerShell`. Four other characters end a string in single quotes as `'` does, and
/// two others open one in double quotes (`CharTraits.cs` of `PowerShell`).
pub fn powershell(text: &str) -> String {
    const SINGLE: [char; 5] = ['\'', '\u{2018}', '\u{2019}', '\u{201a}', '\u{201b}'];
    let mut literal = String::new();
    if !text.contains(acts) {
        literal.push('\'');
        for c in text.chars() {
            literal.extend(std::iter::repeat_n(c, if SINGLE.contains(&c) { 2 } else { 1 }));
        }
        literal.push('\'');
        return literal;
    }
    literal.push('"');
    for c in text.chars() {
        match c {
            '"' | '$' | '`' | '\u{201c}' | '\u{201d}' | '\u{201e}' => literal.extend(['`', c]),
            c if acts(c) => {
                let _ = write!(literal, "$([char]0x{:x})", u32::from(c));
            }
            c => literal.push(c),
        }
    }
    literal.push('"');
    literal
}

/// A text between quotes. `escaped` returns how a character is written, unless as it is.
fn literal(quote: char, text: &str, escaped: impl Fn(&str, char) -> Option<String>) -> String {
    let mut literal = quote.to_string();
    for (at, c) in text.char_indices() {
        let rest = text.get(at + c.len_utf8()..).unwrap_or_default();
        match escaped(rest, c) {
            Some(written) => literal.push_str(&written),
            None if c == quote || c == '\\' => literal.extend(['\\', c]),
            None => literal.push(c),
        }
    }
    literal.push(quote);
    literal
}

/// `\uXXXX`, or `\UXXXXXXXX` beyond the basic plane.
fn by_number(c: char) -> Option<String> {
    let code = u32::from(c);
    let number =
        || if code <= 0xffff { format!("\\u{code:04x}") } else { format!("\\U{code:08x}") };
    acts(c).then(number)
}

/// `\uXXXX`, twice beyond the basic plane.
fn by_units(c: char) -> Option<String> {
    let mut units = [0; 2];
    acts(c).then(|| {
        let units = c.encode_utf16(&mut units).iter();
        units.fold(String::new(), |all, unit| format!("{all}\\u{unit:04x}"))
    })
}

/// A string of Bicep.
pub fn bicep(text: &str) -> String {
    literal('\'', text, |rest, c| match c {
        '$' if rest.starts_with('{') => Some("\\$".to_owned()),
        c => acts(c).then(|| format!("\\u{{{:x}}}", u32::from(c))),
    })
}

/// A string of HCL, the language of Terraform and Packer.
pub fn hcl(text: &str) -> String {
    literal('"', text, |rest, c| match c {
        '$' | '%' if rest.starts_with('{') => Some(format!("{c}{c}")),
        c => by_number(c),
    })
}

/// A string of JSON, which is also one of TypeScript.
pub fn json(text: &str) -> String {
    literal('"', text, |_, c| by_units(c))
}

/// A string of an ARM template, in which text in brackets is an expression.
pub fn arm(text: &str) -> String {
    let is_expression = text.starts_with('[') && text.ends_with(']');
    json(&format!("{}{text}", if is_expression { "[" } else { "" }))
}

/// A string of a YAML file that Ansible reads: text with braces is not a template.
pub fn ansible(text: &str) -> String {
    let is_template = ["{{", "{%", "{#"].iter().any(|mark| text.contains(mark));
    format!("{}{}", if is_template { "!unsafe " } else { "" }, yaml(text))
}

/// A string of YAML: plain if no reader can take it for anything else.
pub fn yaml(text: &str) -> String {
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    let is_plain = starts
        && !text.ends_with(' ')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_./@- ".contains(c));
    let lower = text.to_ascii_lowercase();
    let words = ["true", "false", "yes", "no", "on", "off", "y", "n", "null"];
    if is_plain && !words.contains(&lower.as_str()) {
        text.to_owned()
    } else {
        literal('"', text, |_, c| by_number(c))
    }
}
