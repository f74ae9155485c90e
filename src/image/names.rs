//! Names that people type: the closed sets of which a name is one or is wrong, what is near a name that is not
//! there, and which letters of a name are alike.
//!
//! One table for the command line, HTTP and the `OpenAPI` document, so that they take and refuse the same.

use super::{KINDS, Status};
use crate::error::{Error, Result};

/// So many near names are told.
const NEAREST: usize = 3;
/// A name that is less like another one than this (Jaro–Winkler, 0 to 1) is not near it.
const NEAR: f64 = 0.75;
/// Names are compared, and wrong ones told, up to so many characters: both cost what is typed.
const COMPARED: usize = 64;

/// A set of names that no catalog adds to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClosedSet {
    /// What each of them names.
    pub what: &'static str,
    /// All of them, as they are written.
    pub names: &'static [&'static str],
}

/// Where an image stands in its life.
pub const STATUSES: ClosedSet = ClosedSet { what: "status", names: &Status::NAMES };

/// Kinds of images.
pub const IMAGE_KINDS: ClosedSet = ClosedSet { what: "kind", names: &KINDS };

/// The generations of Hyper-V that machines boot in.
pub const GENERATIONS: ClosedSet = ClosedSet { what: "generation", names: &["V1", "V2"] };

/// The values of the feature `SecurityType`, of the marketplace and of galleries: `securityType` of gallery
/// definitions in Azure's documentation, and what marketplace images say.
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

/// How a question of yes or no is answered.
pub const YES_OR_NO: ClosedSet = ClosedSet { what: "answer", names: &["yes", "no"] };

/// Operating systems: those of Azure, and those that containers name: Go's names, as the OCI image specification
/// has it (`config.md`, `os`), and `unknown`, which `BuildKit` writes on attestations.
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

/// The same of architectures.
pub const ARCHITECTURES: ClosedSet = ClosedSet {
    what: "architecture",
    names: &[
        "x64", "Arm64", "386", "amd64", "arm", "loong64", "mips", "mips64", "mips64le", "mipsle",
        "ppc64", "ppc64le", "riscv64", "s390x", "wasm", "unknown",
    ],
};

impl ClosedSet {
    /// The name that `given` is, without case; or an error with the nearest and all of them.
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

/// "the nearest are a, b".
pub fn are(near: &[&str]) -> String {
    let verb = if near.len() == 1 { "is" } else { "are" };
    format!("the nearest {verb} {}", near.join(", "))
}

/// A name that somebody typed, as it is told: cut, and with nothing in it that acts.
pub fn quoted(given: &str) -> String {
    let cut: String = given.chars().take(COMPARED).collect();
    format!("'{}'", cut.escape_debug())
}

/// Those of `known` that are near `given`, the nearest first: without case, and separators are alike.
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

/// A byte of a name as searches compare it: without case, and what separates words of names is alike.
pub fn folded_byte(byte: u8) -> u8 {
    match byte {
        b'_' | b'.' | b' ' => b'-',
        other => other.to_ascii_lowercase(),
    }
}

/// A name as searches compare it; as long as it is, in bytes.
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
    fn a_name_of_a_closed_set_is_taken_in_any_case_and_a_wrong_one_gets_the_nearest() {
        assert_eq!(STATUSES.find("END-of-life").ok(), Some("end-of-life"));
        let told = |set: ClosedSet, given: &str| {
            set.find(given).err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(
            told(STATUSES, "deprecatd"),
            "there is no status 'deprecatd'; the nearest is deprecated; there are active, \
             scheduled, deprecated, end-of-life, gone"
        );
        assert!(told(IMAGE_KINDS, "gallery").contains("are gallery-version, gallery-definition"));
        assert!(told(SYSTEMS, "zzz").starts_with("there is no operating system 'zzz'; there are"));
        assert!(told(ARCHITECTURES, "\u{1b}[2J").contains("'\\u{1b}[2J'"));
        assert!(told(ARCHITECTURES, &"x".repeat(9_000)).len() < 300);
    }

    #[test]
    fn the_nearest_names_come_first_and_far_ones_not_at_all() {
        let known = ["westus", "westeurope", "eastus", "brazilsouth"];
        assert_eq!(nearest("westeuropa", known)[0], "westeurope");
        assert_eq!(nearest("WEST.US", known)[0], "westus");
        assert!(nearest("zzz", known).is_empty());
    }

    #[test]
    fn separators_and_case_are_alike_and_nothing_else() {
        assert_eq!(folded("Ubuntu-24_04.LTS"), "ubuntu-24-04-lts");
        assert_eq!(folded("É+é"), "É+é");
    }
}
