//! Resources as values, and how each language writes values.

use super::quote;
use std::fmt::Write;

/// A value in a resource.
#[derive(Debug, Clone)]
pub(super) enum Node {
    /// A text.
    Text(String),
    /// A number, a Boolean, or another expression, the same in each language that writes it.
    Plain(&'static str),
    /// A parameter of the file, by name.
    Parameter(&'static str),
    /// Members by name, in order.
    Object(Vec<(&'static str, Self)>),
    /// Elements.
    List(Vec<Self>),
}

/// An object of the members that are there.
pub(super) fn object(members: impl IntoIterator<Item = Option<(&'static str, Node)>>) -> Node {
    Node::Object(members.into_iter().flatten().collect())
}

/// A member with a text.
#[allow(clippy::unnecessary_wraps, reason = "members that may be missing stand beside it")]
pub(super) fn text(name: &'static str, text: &str) -> Option<(&'static str, Node)> {
    Some((name, Node::Text(text.to_owned())))
}

/// How a language with braces writes values.
pub(super) struct Braces {
    /// Writes a text.
    pub(super) string: fn(&str) -> String,
    /// Writes a reference to a parameter.
    pub(super) parameter: fn(&str) -> String,
    /// Whether names of members are quoted.
    pub(super) has_quoted_names: bool,
    /// Between members, and between elements.
    pub(super) separator: &'static str,
    /// After the last of them.
    pub(super) last: &'static str,
}

pub(super) const ARM: Braces = Braces {
    string: quote::arm,
    parameter: |name| format!("\"[parameters('{name}')]\""),
    has_quoted_names: true,
    separator: ",",
    last: "",
};

pub(super) const BICEP: Braces = Braces {
    string: quote::bicep,
    parameter: str::to_owned,
    has_quoted_names: false,
    separator: "",
    last: "",
};

pub(super) const TYPESCRIPT: Braces = Braces {
    string: quote::json,
    parameter: str::to_owned,
    has_quoted_names: false,
    separator: ",",
    last: ",",
};

impl Braces {
    /// Writes a value whose first line stands `depth` levels of two spaces deep.
    pub(super) fn write(&self, node: &Node, depth: usize) -> String {
        let lines = |open: char, close: char, parts: Vec<String>| {
            let indent = "  ".repeat(depth);
            let separator = format!("{}\n{indent}  ", self.separator);
            format!("{open}\n{indent}  {}{}\n{indent}{close}", parts.join(&separator), self.last)
        };
        match node {
            Node::Text(text) => (self.string)(text),
            Node::Plain(text) => (*text).to_owned(),
            Node::Parameter(name) => (self.parameter)(name),
            Node::List(nodes) => {
                let parts = nodes.iter().map(|node| self.write(node, depth + 1)).collect();
                lines('[', ']', parts)
            }
            Node::Object(members) => {
                let mark = if self.has_quoted_names { "\"" } else { "" };
                let member = |(name, node): &(&str, Node)| {
                    format!("{mark}{name}{mark}: {}", self.write(node, depth + 1))
                };
                lines('{', '}', members.iter().map(member).collect())
            }
        }
    }
}

/// Writes the members of an object as the attributes and blocks of HCL, `depth` levels deep.
/// Consecutive attributes are aligned as `terraform fmt` aligns them.
pub(super) fn hcl(node: &Node, depth: usize) -> String {
    let Node::Object(members) = node else { return String::new() };
    let indent = "  ".repeat(depth);
    let is_attribute = |node: &Node| !matches!(node, Node::Object(_));
    let mut text = String::new();
    for (at, (name, node)) in members.iter().enumerate() {
        if !is_attribute(node) {
            let gap = if at == 0 { "" } else { "\n" };
            let _ = writeln!(text, "{gap}{indent}{name} {{\n{}{indent}}}", hcl(node, depth + 1));
            continue;
        }
        if at > 0 && !is_attribute(&members[at - 1].1) {
            text.push('\n');
        }
        // The attributes around this one, up to the next block on both sides.
        let run = |other: &&(&str, Node)| is_attribute(&other.1);
        let before = members[..at].iter().rev().take_while(run);
        let width = before.chain(members[at..].iter().take_while(run)).map(|(name, _)| name.len());
        let width = width.max().unwrap_or_default();
        let _ = writeln!(text, "{indent}{name:width$} = {}", hcl_value(node));
    }
    text
}

fn hcl_value(node: &Node) -> String {
    match node {
        Node::Text(text) => quote::hcl(text),
        Node::Plain(text) => (*text).to_owned(),
        Node::Parameter(name) => format!("var.{name}"),
        Node::List(nodes) => {
            format!("[{}]", nodes.iter().map(hcl_value).collect::<Vec<_>>().join(", "))
        }
        Node::Object(_) => String::new(),
    }
}

/// Writes a value as YAML in block style, `depth` levels deep, with `string` for its texts.
pub(super) fn yaml(node: &Node, depth: usize, string: fn(&str) -> String) -> String {
    let indent = "  ".repeat(depth);
    let scalar = |node: &Node| match node {
        Node::Text(text) => Some(string(text)),
        Node::Plain(text) => Some((*text).to_owned()),
        Node::Parameter(name) => Some(format!("\"{{{{ {name} }}}}\"")),
        Node::Object(_) | Node::List(_) => None,
    };
    let mut text = String::new();
    match node {
        Node::Object(members) => {
            for (name, node) in members {
                let _ = match scalar(node) {
                    Some(value) => writeln!(text, "{indent}{name}: {value}"),
                    None => write!(text, "{indent}{name}:\n{}", yaml(node, depth + 1, string)),
                };
            }
        }
        Node::List(nodes) => {
            for node in nodes {
                let value = scalar(node).map_or_else(
                    || yaml(node, depth + 1, string).trim_start().to_owned(),
                    |value| value + "\n",
                );
                let _ = write!(text, "{indent}- {value}");
            }
        }
        node => text += &scalar(node).unwrap_or_default(),
    }
    text
}
