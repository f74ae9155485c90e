//! The dependencies between the source files of a crate.
//!
//! A dependency ("arrow") leads from a file to the one that defines a name in its `use` items, or
//! in its paths from `crate` or `super`. A re-export (`pub use child::Name`) is none: a user of the
//! name depends on the file that defines it. Nor is the path in a visibility (`pub(in
//! crate::cli)`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A module, by its path from the root of the crate.
type Module = Vec<String>;

/// What a file declares and refers to.
#[derive(Default)]
struct Said {
    /// The names that it defines.
    defines: BTreeSet<String>,
    /// The names in its `use` items.
    uses: Vec<Used>,
    /// Other paths from `crate` or `super`.
    paths: Vec<Vec<String>>,
}

/// A single name in a `use` item.
struct Used {
    path: Vec<String>,
    /// The local name, or `*` for a glob import.
    name: String,
    is_handed_on: bool,
}

/// The dependencies: by file, the files it depends on, with the names that it takes from them.
pub struct Arrows(BTreeMap<String, BTreeMap<String, BTreeSet<String>>>);

impl Arrows {
    /// The dependencies between these files of a crate. They are named by their paths below its
    /// sources, such as `image/name.rs`.
    pub fn between<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut paths: BTreeMap<Module, &str> = BTreeMap::new();
        let mut said: BTreeMap<Module, Said> = BTreeMap::new();
        for (path, text) in files {
            let module = module_of(path);
            paths.insert(module.clone(), path);
            said.insert(module, Said::of(text));
        }
        let mut arrows = BTreeMap::new();
        for (module, own) in &said {
            let uses = own.uses.iter().filter(|used| !used.is_handed_on).map(|used| &used.path);
            let mut to: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
            for path in uses.chain(&own.paths) {
                let Some(absolute) = absolute(&said, module, path) else { continue };
                let Some(found) = defining(&said, &absolute, &mut BTreeSet::new()) else {
                    continue;
                };
                if found != *module {
                    let names = to.entry(paths[&found].to_owned()).or_default();
                    names.extend(path.last().cloned());
                }
            }
            arrows.insert(paths[module].to_owned(), to);
        }
        Self(arrows)
    }

    /// Dependency cycles, each as short as possible, as lines of dependencies. Files in a reported
    /// cycle are not searched for further ones.
    pub fn circles(&self) -> Vec<Vec<String>> {
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        let mut circles = Vec::new();
        for file in self.0.keys() {
            if seen.contains(file.as_str()) {
                continue;
            }
            let Some(way) = self.way_back(file) else { continue };
            seen.extend(&way[1..]);
            let lines = way.windows(2).map(|pair| {
                let names: Vec<&str> =
                    self.0[pair[0]][pair[1]].iter().map(String::as_str).collect();
                format!("{} -> {}: {}", pair[0], pair[1], names.join(", "))
            });
            circles.push(lines.collect());
        }
        circles
    }

    /// The shortest cycle through a file.
    fn way_back<'a>(&'a self, file: &'a str) -> Option<Vec<&'a str>> {
        let mut before: BTreeMap<&str, &str> = BTreeMap::new();
        let mut next = VecDeque::from([file]);
        while let Some(at) = next.pop_front() {
            for to in self.0[at].keys() {
                if before.contains_key(to.as_str()) {
                    continue;
                }
                before.insert(to, at);
                if to == file {
                    let mut way = vec![to.as_str()];
                    while way.len() == 1 || way[way.len() - 1] != file {
                        way.push(before[way[way.len() - 1]]);
                    }
                    way.reverse();
                    return Some(way);
                }
                next.push_back(to);
            }
        }
        None
    }
}

fn module_of(path: &str) -> Module {
    let mut names: Module = path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if names == ["lib"] || names.last().is_some_and(|last| last == "mod") {
        names.pop();
    }
    names
}

/// The path from the root of the crate. `None` for a path into another crate.
fn absolute(said: &BTreeMap<Module, Said>, module: &Module, path: &[String]) -> Option<Module> {
    let up = path.iter().take_while(|name| *name == "super").count();
    let (mut base, rest) = match path.first()?.as_str() {
        "crate" => (Vec::new(), &path[1..]),
        "self" => (module.clone(), &path[1..]),
        "super" => (module[..module.len().checked_sub(up)?].to_vec(), &path[up..]),
        child => {
            let below = [module.as_slice(), &[child.to_owned()]].concat();
            said.contains_key(&below).then_some((module.clone(), path))?
        }
    };
    base.extend_from_slice(rest);
    Some(base)
}

/// The module whose file defines the name at a path from the root, following re-exports.
fn defining(
    said: &BTreeMap<Module, Said>,
    path: &Module,
    seen: &mut BTreeSet<Module>,
) -> Option<Module> {
    if !seen.insert(path.clone()) {
        return None;
    }
    let at = (0..=path.len()).rev().find(|at| said.contains_key(&path[..*at]))?;
    let (module, rest) = (path[..at].to_vec(), &path[at..]);
    let Some(name) = rest.first() else { return Some(module) };
    let own = &said[&module];
    if own.defines.contains(name) {
        return Some(module);
    }
    let handed = own.uses.iter().filter(|used| used.name == *name || used.name == "*");
    for used in handed {
        let Some(mut on) = absolute(said, &module, &used.path) else { continue };
        if used.name == "*" {
            on.pop();
            on.push(name.clone());
        }
        if said.contains_key(&on) {
            on.extend_from_slice(&rest[1..]);
        }
        if let Some(found) = defining(said, &on, seen) {
            return Some(found);
        }
    }
    Some(module)
}

/// The tokens of a program up to its tests, without comments and string literals.
fn tokens(text: &str) -> Vec<&str> {
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if first == '"' {
            quoted(rest)
        } else if rest.starts_with("r\"") || rest.starts_with("r#") || rest.starts_with("br") {
            raw(rest).unwrap_or_else(|| word(rest, &mut found))
        } else if first == '\'' {
            character(rest)
        } else if is_word(first) {
            word(rest, &mut found)
        } else {
            let length = if rest.starts_with("::") { 2 } else { first.len_utf8() };
            if !first.is_whitespace() {
                found.push(&rest[..length]);
            }
            length
        };
        rest = &rest[length..];
    }
    found
}

/// Adds the word at the beginning of a text, and returns its length.
fn word<'a>(text: &'a str, found: &mut Vec<&'a str>) -> usize {
    let length = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    found.push(&text[..length]);
    length
}

/// The length of the string literal at the beginning of a text.
fn quoted(text: &str) -> usize {
    let mut is_escaped = false;
    let end = text[1..].find(|c| {
        let ends = c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        ends
    });
    end.map_or(text.len(), |end| end + 2)
}

/// The length of the raw string literal at the beginning of a text, if there is one.
fn raw(text: &str) -> Option<usize> {
    let begin = text.trim_start_matches('b').strip_prefix('r')?;
    let marks = begin.chars().take_while(|c| *c == '#').count();
    begin[marks..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(marks));
    let from = text.len() - begin.len() + marks + 1;
    Some(text[from..].find(&end).map_or(text.len(), |at| from + at + end.len()))
}

/// The length of the character literal at the beginning of a text, or of the quote alone if it
/// begins a lifetime.
fn character(text: &str) -> usize {
    let mut after = text.char_indices().skip(1);
    match (after.next(), after.next()) {
        (Some((_, '\\')), Some((escaped, _))) => {
            text[escaped + 1..].find('\'').map_or(1, |end| escaped + 1 + end + 1)
        }
        (Some(_), Some((end, '\''))) => end + 1,
        _ => 1,
    }
}

impl Said {
    fn of(text: &str) -> Self {
        let tokens = tokens(text);
        let mut said = Self::default();
        let (mut at, mut depth, mut is_public) = (0, 0_u32, false);
        while let Some(token) = tokens.get(at) {
            let next = tokens.get(at + 1).copied().unwrap_or_default();
            let was_public = std::mem::take(&mut is_public);
            at += 1;
            match *token {
                "pub" => {
                    is_public = true;
                    if next == "(" {
                        at += tokens[at..].iter().take_while(|t| **t != ")").count() + 1;
                    }
                }
                "use" if next != "<" => {
                    let length = tokens[at..].iter().take_while(|t| **t != ";").count();
                    said.add_uses(&tokens[at..at + length], was_public);
                    at += length;
                }
                "fn" | "struct" | "enum" | "trait" | "type" | "const" | "static" | "mod"
                    if depth == 0 =>
                {
                    said.defines.insert(next.to_owned());
                }
                "macro_rules" if depth == 0 => {
                    said.defines.extend(tokens.get(at + 1).map(|name| (*name).to_owned()));
                }
                "crate" | "super" if next == "::" => {
                    let path: Vec<&str> = std::iter::once(*token)
                        .chain(tokens[at..].chunks(2).map_while(|pair| match pair {
                            ["::", name] if is_name(name) => Some(*name),
                            _ => None,
                        }))
                        .collect();
                    at += 2 * (path.len() - 1);
                    said.paths.push(path.into_iter().map(str::to_owned).collect());
                }
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        said
    }

    /// Adds the names between `use` and its semicolon.
    fn add_uses(&mut self, tokens: &[&str], is_handed_on: bool) {
        let mut before: Vec<Vec<String>> = Vec::new();
        let mut path: Vec<String> = Vec::new();
        let mut alias = None;
        for (at, token) in tokens.iter().chain([&","]).enumerate() {
            match *token {
                "::" | "as" => {}
                "{" => before.push(path.clone()),
                "}" | "," => {
                    let is_whole = at == 0 || !["{", "}", ","].contains(&tokens[at - 1]);
                    if let (true, Some(last)) = (is_whole, path.last().cloned()) {
                        let path = path.clone();
                        let name = alias.take().unwrap_or(last);
                        self.uses.push(Used { path, name, is_handed_on });
                    }
                    path = if *token == "}" { before.pop() } else { before.last().cloned() }
                        .unwrap_or_default();
                }
                name if at > 0 && tokens[at - 1] == "as" => alias = Some(name.to_owned()),
                // `{self}` names the module itself.
                "self" if !path.is_empty() => {}
                name => path.push(name.to_owned()),
            }
        }
    }
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}
