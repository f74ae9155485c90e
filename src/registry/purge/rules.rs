//! What is to go: rules over repositories and tags, from a small file or from flags.

use crate::error::{Error, Result};
use globset::{GlobBuilder, GlobMatcher};
use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// What begins a pattern that is a regular expression.
const REGEX: &str = "regex:";
/// A pattern's automaton stays below this many bytes.
const LARGEST: usize = 1 << 20;

/// A pattern of names: a glob (`team1/*`, `pr-*`, `{a,b}`), or `regex:` and a regular expression, both
/// of the whole name. Either takes time linear in the name.
#[derive(Clone)]
pub struct Pattern {
    text: String,
    matcher: Matcher,
}

#[derive(Clone)]
enum Matcher {
    Glob(GlobMatcher),
    Regex(Regex),
}

impl Pattern {
    /// Whether a name fits.
    pub fn fits(&self, name: &str) -> bool {
        match &self.matcher {
            Matcher::Glob(glob) => glob.is_match(name),
            Matcher::Regex(regex) => regex.is_match(name),
        }
    }
}

impl FromStr for Pattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |why: String| Error::invalid(format!("pattern '{text}': {why}"));
        let matcher = match text.strip_prefix(REGEX) {
            _ if text.is_empty() || text == REGEX => {
                return Err(bad("it is empty; '*' is everything".to_owned()));
            }
            Some(regex) => Matcher::Regex(
                regex::RegexBuilder::new(&format!("^(?:{regex})$"))
                    .size_limit(LARGEST)
                    .build()
                    .map_err(|e| bad(format!("no regular expression ({e})")))?,
            ),
            // A star stands for any characters, slashes too: repositories have no folders.
            None => Matcher::Glob(
                GlobBuilder::new(text)
                    .literal_separator(false)
                    .build()
                    .map_err(|e| bad(format!("no glob ({})", e.kind())))?
                    .compile_matcher(),
            ),
        };
        Ok(Self { text: text.to_owned(), matcher })
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A span of time, written as `30d` or `12h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::invalid(format!("'{text}' is no span of time, such as 30d or 12h"));
        humantime::parse_duration(text).map(Self).map_err(|_| bad())
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match (seconds % 86_400, seconds % 3_600) {
            (0, _) => write!(f, "{}d", seconds / 86_400),
            (_, 0) => write!(f, "{}h", seconds / 3_600),
            _ => write!(f, "{seconds}s"),
        }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// One rule. Its tags are those that fit `tags`; of these, the ones on the `keep` newest images stay,
/// and those that are younger than `older_than`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Rule {
    /// The repositories that it is about.
    #[schemars(with = "String")]
    pub repositories: Pattern,
    /// The tags that it is about; none means that it is about no tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub tags: Option<Pattern>,
    /// Only what was last changed longer ago than this goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub older_than: Option<Span>,
    /// So many of the newest images that its tags point at stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<usize>,
    /// Tags that stay, whatever any rule says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub keep_tags: Vec<Pattern>,
    /// Whether manifests without a tag go, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub untagged: bool,
}

/// Rules. What one of them keeps, none of them takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Rules {
    /// The rules.
    pub rules: Vec<Rule>,
}

impl Rules {
    /// Reads rules as TOML, or as JSON where the text begins with a brace.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |e: &dyn fmt::Display| Error::invalid(format!("these are no rules: {e}"));
        let rules: Self = if text.trim_start().starts_with('{') {
            serde_json::from_str(text).map_err(|e| bad(&e))?
        } else {
            toml::from_str(text).map_err(|e| bad(&e))?
        };
        rules.check()?;
        Ok(rules)
    }

    /// Refuses rules that say nothing, or more than anybody means.
    pub fn check(&self) -> Result<()> {
        if self.rules.is_empty() {
            return Err(Error::invalid("there is no rule"));
        }
        for rule in &self.rules {
            let of = &rule.repositories;
            if rule.tags.is_none() && !rule.untagged {
                return Err(Error::invalid(format!(
                    "the rule for '{of}' is about nothing: say tags, or untagged"
                )));
            }
            if rule.tags.is_some() && rule.older_than.is_none() && rule.keep.is_none() {
                return Err(Error::invalid(format!(
                    "the rule for '{of}' would take every tag that fits: say how many to keep, or \
                     how old they are (older-than = \"0d\" for all of them)"
                )));
            }
        }
        Ok(())
    }

    /// The rules about a repository.
    pub fn of<'a>(&'a self, repository: &'a str) -> impl Iterator<Item = &'a Rule> {
        self.rules.iter().filter(|rule| rule.repositories.fits(repository))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_of_whole_names_and_linear() {
        let fits = |pattern: &str, name: &str| pattern.parse::<Pattern>().unwrap().fits(name);
        assert!(fits("arohcp*", "arohcp/app") && fits("ci-op-*/*", "ci-op-1/x"));
        assert!(fits("{a,b}-?", "b-1") && !fits("a", "ab") && !fits("pr-*", "xpr-1"));
        assert!(fits("regex:v[0-9]+", "v12") && !fits("regex:v[0-9]+", "v12-rc"));
        // What takes other engines minutes.
        assert!(!fits("regex:(a+)+$", &format!("{}!", "a".repeat(10_000))));
        for bad in ["", "regex:", "regex:(", "regex:(?=x)", "[", "regex:(?:a{1000}){1000}"] {
            assert!(bad.parse::<Pattern>().is_err(), "{bad}");
        }
    }

    #[test]
    fn rules_are_read_as_toml_and_json() {
        let toml = "[[rules]]\nrepositories = 'team1/*'\ntags = 'pr-*'\nolder-than = '30d'\n\
                    keep = 3\nkeep-tags = ['release-*']\nuntagged = true\n";
        let rules = Rules::parse(toml).unwrap();
        let json = serde_json::to_string(&rules).unwrap();
        assert_eq!(Rules::parse(&json).unwrap(), rules);
        assert_eq!(rules.rules[0].older_than, Some(Span(Duration::from_hours(720))));
        for bad in [
            "",
            "rules = []",
            "[[rules]]\nrepositories = '*'",
            "[[rules]]\nrepositories = '*'\ntags = '*'",
            "[[rules]]\nrepositories = '*'\ntags = '*'\nkeep = -1",
            "[[rules]]\nrepositories = '*'\nuntaged = true",
        ] {
            assert!(Rules::parse(bad).is_err(), "{bad}");
        }
    }
}
