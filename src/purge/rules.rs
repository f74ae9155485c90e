//! Rules over repositories and tags that say what to delete, from a file or from flags.

use crate::error::{Error, Result};
use crate::format::toml_error;
use crate::span::Span;
use globset::GlobBuilder;
use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The prefix of a pattern that is a regular expression.
const REGEX: &str = "regex:";
/// In bytes. The size limit of a compiled pattern.
const LARGEST: usize = 1 << 20;
/// The longest pattern, in bytes: room for a list of the longest names, which have 255.
const LONGEST: usize = 4 << 10;
/// The deepest nesting of braces. The glob parser recurses for each level.
const DEEPEST: usize = 16;
/// The default grace period: how long a push of many layers may take. What it sends first has no
/// tag until it ends.
const GRACE: Span = Span::new(Duration::from_hours(1));
/// The most rules. Each is matched against each repository.
const MOST: usize = 1_000;

/// A pattern of names: a glob (`team1/*`, `pr-*`, `{a,b}`), or `regex:` and a regular expression.
/// Both match whole names, in time linear in the name.
#[derive(Clone)]
pub struct Pattern {
    text: String,
    matcher: Matcher,
}

#[derive(Clone)]
enum Matcher {
    Glob(regex::bytes::Regex),
    Regex(Regex),
}

impl Pattern {
    /// Whether a name matches.
    pub fn fits(&self, name: &str) -> bool {
        match &self.matcher {
            Matcher::Glob(glob) => glob.is_match(name.as_bytes()),
            Matcher::Regex(regex) => regex.is_match(name),
        }
    }
}

impl FromStr for Pattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.len() > LONGEST {
            let head: String = text.chars().take(32).collect();
            return Err(Error::invalid(format!(
                "pattern '{head}…': longer than {LONGEST} bytes; split it into several rules"
            )));
        }
        let bad = |why: String| Error::invalid(format!("pattern '{text}': {why}"));
        let matcher = match text.strip_prefix(REGEX) {
            _ if text.is_empty() || text == REGEX => {
                return Err(bad("it is empty; '*' matches everything".to_owned()));
            }
            Some(regex) => Matcher::Regex(
                regex::RegexBuilder::new(&format!("^(?:{regex})$"))
                    .size_limit(LARGEST)
                    .build()
                    .map_err(|e| {
                        bad(format!("not a valid regular expression ({})", last_line(&e)))
                    })?,
            ),
            None if depth(text) > DEEPEST => {
                return Err(bad(format!("braces within braces, nested more than {DEEPEST} deep")));
            }
            None => {
                Matcher::Glob(glob(text).map_err(|why| bad(format!("not a valid glob ({why})")))?)
            }
        };
        Ok(Self { text: text.to_owned(), matcher })
    }
}

/// The last line of a regular expression's error, without its multi-line picture.
fn last_line(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.trim_start_matches("error: ").to_owned()
}

/// The deepest nesting of braces.
fn depth(glob: &str) -> usize {
    let (mut now, mut deepest) = (0_usize, 0);
    for c in glob.chars() {
        match c {
            '{' => now += 1,
            '}' => now = now.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(now);
    }
    deepest
}

/// A glob as a regular expression for the same names. The matcher of `globset` panics if the
/// automaton would be too large.
fn glob(text: &str) -> Result<regex::bytes::Regex, String> {
    // A star matches slashes, too: repositories have no folders.
    let glob = GlobBuilder::new(text).literal_separator(false).build();
    let glob = glob.map_err(|e| e.kind().to_string())?;
    regex::bytes::RegexBuilder::new(glob.regex())
        .dot_matches_new_line(true)
        .size_limit(LARGEST)
        .build()
        .map_err(|_| "the pattern is too large".to_owned())
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

/// One rule. It applies to the tags that match `tags`; of these, the tags of the `keep` newest
/// images are kept, and those changed more recently than `older_than`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Rule {
    /// The repositories that the rule applies to.
    #[schemars(with = "String")]
    pub repositories: Pattern,
    /// The tags that the rule applies to; null means no tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub tags: Option<Pattern>,
    /// Only items that were last changed longer ago than this are deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub older_than: Option<Span>,
    /// The number of newest images to keep, among those that the tags point to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<usize>,
    /// Tags that are kept, regardless of other rules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub keep_tags: Vec<Pattern>,
    /// Whether manifests without a tag are also deleted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub untagged: bool,
    /// Whether signatures, attestations and other referrers are also deleted when their image no
    /// longer exists.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub orphans: bool,
}

/// What the rule takes, as the reason for a deletion.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tags = self.tags.as_ref().map(|tags| format!("tags '{tags}'"));
        let age = self.older_than.map(|span| format!("older than {span}"));
        let keep = self.keep.map(|keep| format!("not among the {keep} newest"));
        let parts: Vec<String> = [tags, age, keep].into_iter().flatten().collect();
        f.write_str(&parts.join(", "))
    }
}

impl Rule {
    /// The pattern of `keep_tags` that matches a tag.
    pub(super) fn keeps(&self, tag: &str) -> Option<&Pattern> {
        self.keep_tags.iter().find(|kept| kept.fits(tag))
    }
}

/// The rules. What one rule keeps, no other rule deletes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Rules {
    /// The minimum time between the push and the deletion of an untagged manifest, because the
    /// manifests of a push in progress have no tag yet. Default: one hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub grace: Option<Span>,
    /// The rules.
    pub rules: Vec<Rule>,
}

impl Rules {
    /// Reads rules as TOML, or as JSON if the text begins with a brace.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |why: String| Error::invalid(format!("the rules are not valid: {why}"));
        let rules: Self = if text.trim_start().starts_with('{') {
            serde_json::from_str(text).map_err(|e| bad(e.to_string()))?
        } else {
            toml::from_str(text).map_err(|e| bad(toml_error::message(text, &e)))?
        };
        rules.check()?;
        Ok(rules)
    }

    /// Refuses rules that match nothing, or more than can be intended.
    pub fn check(&self) -> Result<()> {
        if self.rules.is_empty() {
            return Err(Error::invalid("the rules are empty"));
        }
        if self.rules.len() > MOST {
            return Err(Error::invalid(format!(
                "more than {MOST} rules; split them into several files"
            )));
        }
        for rule in &self.rules {
            let of = &rule.repositories;
            if rule.tags.is_none() && !rule.untagged && !rule.orphans {
                return Err(Error::invalid(format!(
                    "the rule for '{of}' selects nothing: set tags, untagged or orphans"
                )));
            }
            if rule.tags.is_some() && rule.older_than.is_none() && rule.keep.is_none() {
                return Err(Error::invalid(format!(
                    "the rule for '{of}' would delete every tag that matches: set how many to \
                     keep, or how old they are (older-than = \"0d\" for all of them)"
                )));
            }
        }
        Ok(())
    }

    /// The rules that match a repository.
    pub fn of<'a>(&'a self, repository: &'a str) -> impl Iterator<Item = &'a Rule> {
        self.numbered(repository).map(|(_, rule)| rule)
    }

    /// The rules that match a repository, each with its number among all, counted from 1.
    pub(super) fn numbered<'a>(
        &'a self,
        repository: &'a str,
    ) -> impl Iterator<Item = (usize, &'a Rule)> {
        (1..).zip(&self.rules).filter(|(_, rule)| rule.repositories.fits(repository))
    }

    /// The minimum age of a manifest without a tag.
    pub fn grace(&self) -> Span {
        self.grace.unwrap_or(GRACE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names_in_linear_time() {
        let fits = |pattern: &str, name: &str| pattern.parse::<Pattern>().unwrap().fits(name);
        assert!(fits("arohcp*", "arohcp/app") && fits("ci-op-*/*", "ci-op-1/x"));
        assert!(fits("{a,b}-?", "b-1") && !fits("a", "ab") && !fits("pr-*", "xpr-1"));
        assert!(fits("regex:v[0-9]+", "v12") && !fits("regex:v[0-9]+", "v12-rc"));
        // Patterns that take minutes in other engines.
        assert!(!fits("regex:(a+)+$", &format!("{}!", "a".repeat(10_000))));
        for bad in ["", "regex:", "regex:(", "regex:(?=x)", "[", "regex:(?:a{1000}){1000}"] {
            assert!(bad.parse::<Pattern>().is_err(), "{bad}");
        }
    }

    #[test]
    fn oversized_pattern_is_refused() {
        let names: Vec<String> = (0..400).map(|n| format!("{n:03}")).collect();
        let list: Pattern = format!("{{{}}}", names.join(",")).parse().unwrap();
        assert!(list.fits("399") && !list.fits("400"));
        let deep = |n: usize| format!("{}a{}", "{".repeat(n), "}".repeat(n));
        assert!(deep(DEEPEST).parse::<Pattern>().unwrap().fits("a"));
        for (bad, why) in [
            (deep(DEEPEST + 1), "braces within braces"),
            (deep(2_000), "braces within braces"),
            (deep(5_000), "longer than 4096"),
            ("{".repeat(5_000), "longer than 4096"),
            ("regex:".to_owned() + &"(".repeat(5_000), "longer than 4096"),
            ("regex:".to_owned() + &"(".repeat(1_000), "not a valid regular expression"),
            ("[!a]".repeat(1_000) + &"*".repeat(90), ""),
        ] {
            match bad.parse::<Pattern>() {
                Err(error) => assert!(error.to_string().contains(why), "{error}"),
                Ok(pattern) => assert!(why.is_empty() && !pattern.fits("b"), "{bad}"),
            }
        }
        let rule = "[[rules]]\nrepositories = '*'\nuntagged = true\n";
        assert!(Rules::parse(&rule.repeat(MOST)).is_ok());
        assert!(Rules::parse(&rule.repeat(MOST + 1)).is_err());
        for deep in [
            "{\"rules\":".to_owned() + &"[".repeat(100_000),
            "a = ".to_owned() + &"[".repeat(100_000),
        ] {
            let error = Rules::parse(&deep).unwrap_err().to_string();
            assert!(
                error.starts_with("the rules are not valid: ") && error.lines().count() == 1,
                "{error}"
            );
        }
        let error = Rules::parse("[[rules]]\nrepositories = '*'\nuntaged = true").unwrap_err();
        assert!(error.to_string().contains("line 3: unknown field"), "{error}");
    }

    #[test]
    fn rules_are_read_from_toml_and_json() {
        let toml = "[[rules]]\nrepositories = 'team1/*'\ntags = 'pr-*'\nolder-than = '30d'\n\
                    keep = 3\nkeep-tags = ['release-*']\nuntagged = true\n";
        let rules = Rules::parse(toml).unwrap();
        let json = serde_json::to_string(&rules).unwrap();
        assert_eq!(Rules::parse(&json).unwrap(), rules);
        assert_eq!(rules.rules[0].older_than, Some(Span::new(Duration::from_hours(720))));
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
