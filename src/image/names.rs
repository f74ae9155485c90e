//! Names that users type: closed sets of valid names, suggestions for unknown names, and the
//! folding of letters for searches.
//!
//! One table serves the command line, HTTP and the `OpenAPI` document, so that they accept and
//! reject the same names.

use super::{KINDS, Status};
use crate::error::{Error, Result};

/// Maximum number of suggestions.
const NEAREST: usize = 3;
/// Minimum similarity of a suggestion (Jaro–Winkler, 0 to 1).
const NEAR: f64 = 0.75;
/// Maximum length of names when they are compared or shown in errors, in characters. It limits the
/// cost of long input.
const COMPARED: usize = 64;

/// A fixed set of names, to which no catalog adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClosedSet {
    /// What the names denote.
    pub what: &'static str,
    /// All names, in their canonical casing.
    pub names: &'static [&'static str],
}

/// Statuses of images.
pub const STATUSES: ClosedSet = ClosedSet { what: "status", names: &Status::NAMES };

/// Kinds of images.
pub const IMAGE_KINDS: ClosedSet = ClosedSet { what: "kind", names: &KINDS };

/// Hyper-V generations with which machines boot.
pub const GENERATIONS: ClosedSet = ClosedSet { what: "generation", names: &["V1", "V2"] };

/// Values of the feature `SecurityType`, from the marketplace and from galleries: `securityType` of
/// gallery definitions in Azure's documentation, and the values of marketplace images.
pub const SECURITY_TYPES: ClosedSet = ClosedSet {
    what: "security type",
    names: &[
        "TrustedLaunch",
        "TrustedLaunchSupported",
        "ConfidentialVM",
        "ConfidentialVMSupported",
        "TrustedLaunchAndConfidentialVmSupported",
    ],
};

/// Answers to a yes-or-no question.
pub const YES_OR_NO: ClosedSet = ClosedSet { what: "answer", names: &["yes", "no"] };

/// Operating systems: those of Azure, and those of containers, which are Go's names according to
/// the OCI image specification (`config.md`, `os`), and `unknown`, which `BuildKit` sets on
/// attestations.
pub const SYSTEMS: ClosedSet = ClosedSet {
    what: "operating system",
    names: &[
        "Linux",
        "Windows",
        "aix",
        "android",
        "darwin",
        "dragonfly",
        "freebsd",
        "illumos",
        "ios",
        "js",
        "netbsd",
        "openbsd",
        "plan9",
        "solaris",
        "wasip1",
        "unknown",
    ],
};

/// Architectures, from the same sources.
pub const ARCHITECTURES: ClosedSet = ClosedSet {
    what: "architecture",
    names: &[
        "x64", "Arm64", "386", "amd64", "arm", "loong64", "mips", "mips64", "mips64le", "mipsle",
        "ppc64", "ppc64le", "riscv64", "s390x", "wasm", "unknown",
    ],
};

impl ClosedSet {
    /// Returns the name that equals `given` without case, or an error with the nearest names and
    /// all names.
    pub fn find(&self, given: &str) -> Result<&'static str> {
        let known = self.names.iter().find(|name| name.eq_ignore_ascii_case(given));
        known.copied().ok_or_else(|| {
            let near = nearest(given, self.names.iter().copied());
            let near = if near.is_empty() { String::new() } else { format!("; {}", are(&near)) };
            let (what, all) = (self.what, self.names.join(", "));
            Error::invalid(format!("there is no {what} {}{near}; there are {all}", quoted(given)))
        })
    }
}

/// Formats suggestions: "the nearest are a, b".
pub fn are(near: &[&str]) -> String {
    let verb = if near.len() == 1 { "is" } else { "are" };
    format!("the nearest {verb} {}", near.join(", "))
}

/// Quotes user input for an error: truncated, and with control characters escaped.
pub fn quoted(given: &str) -> String {
    let cut: String = given.chars().take(COMPARED).collect();
    format!("'{}'", cut.escape_debug())
}

/// Returns up to three names of `known` that are similar to `given`, most similar first. Case
/// is ignored, and separators are equivalent.
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let start = |name: &str| folded(name).chars().take(COMPARED).collect::<String>();
    let given = start(given);
    let mut near: Vec<(f64, &str)> = Vec::new();
    for name in known {
        let likeness = strsim::jaro_winkler(&given, &start(name));
        if likeness < NEAR || near.iter().any(|(_, other)| *other == name) {
            continue;
        }
        let at = near.partition_point(|(other, text)| {
            likeness.total_cmp(other).then_with(|| text.cmp(&name)).is_lt()
        });
        near.insert(at, (likeness, name));
        near.truncate(NEAREST);
    }
    near.into_iter().map(|(_, name)| name).collect()
}

/// Folds a byte of a name for searches: ASCII lower case, and `_`, `.` and space become `-`.
pub fn folded_byte(byte: u8) -> u8 {
    match byte {
        b'_' | b'.' | b' ' => b'-',
        other => other.to_ascii_lowercase(),
    }
}

/// Folds a name for searches; the length in bytes is unchanged.
pub fn folded(name: &str) -> String {
    let letter = |c: char| match u8::try_from(c) {
        Ok(byte) if byte.is_ascii() => char::from(folded_byte(byte)),
        _ => c,
    };
    name.chars().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_set_names_ignore_case_and_suggest_the_nearest() {
        assert_eq!(STATUSES.find("END-of-life").ok(), Some("end-of-life"));
        let message = |set: ClosedSet, given: &str| {
            set.find(given).err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(
            message(STATUSES, "deprecatd"),
            "there is no status 'deprecatd'; the nearest is deprecated; there are active, \
             scheduled, deprecated, end-of-life, gone"
        );
        assert!(
            message(IMAGE_KINDS, "gallery").contains("are gallery-version, gallery-definition")
        );
        assert!(
            message(SYSTEMS, "zzz").starts_with("there is no operating system 'zzz'; there are")
        );
        assert!(message(ARCHITECTURES, "\u{1b}[2J").contains("'\\u{1b}[2J'"));
        assert!(message(ARCHITECTURES, &"x".repeat(9_000)).len() < 300);
    }

    #[test]
    fn nearest_names_come_first_and_distant_names_are_omitted() {
        let known = ["westus", "westeurope", "eastus", "brazilsouth"];
        assert_eq!(nearest("westeuropa", known)[0], "westeurope");
        assert_eq!(nearest("WEST.US", known)[0], "westus");
        assert!(nearest("zzz", known).is_empty());
    }

    #[test]
    fn names_are_folded_only_by_separator_and_case() {
        assert_eq!(folded("Ubuntu-24_04.LTS"), "ubuntu-24-04-lts");
        assert_eq!(folded("É+é"), "É+é");
    }
}
