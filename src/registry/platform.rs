//! Platforms of images, as the OCI image specification and containerd's package `platforms` define
//! them: `arm64` is `arm64/v8`, `x86_64` is `amd64`, and Windows has a version.

use crate::error::{Error, Result};
use crate::image::name::without_repeats;
use serde_json::Value;
use std::fmt;
use std::str::FromStr;

/// Operating systems that may be given alone. The architecture is then that of this machine.
const SYSTEMS: [&str; 8] =
    ["linux", "windows", "darwin", "freebsd", "netbsd", "openbsd", "wasip1", "solaris"];
/// Architectures that may be given alone. The operating system is then Linux.
const ARCHITECTURES: [&str; 12] = [
    "386", "amd64", "arm", "arm64", "loong64", "mips64le", "ppc64", "ppc64le", "riscv64", "s390x",
    "mips64", "wasm",
];

/// A platform, in its normal form.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Platform {
    os: String,
    architecture: String,
    /// Empty for the default variant of the architecture.
    variant: String,
    /// The version of Windows; empty if not given.
    version: String,
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.os)?;
        if !self.version.is_empty() {
            write!(f, "({})", self.version)?;
        }
        write!(f, "/{}", self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}

impl Platform {
    fn new(os: &str, architecture: &str, variant: &str, version: &str) -> Self {
        let os = match os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            os => os.to_owned(),
        };
        let variant = variant.to_ascii_lowercase();
        let numbered = match variant.as_str() {
            "5" | "6" | "7" | "8" => format!("v{variant}"),
            _ => variant,
        };
        let architecture = architecture.to_ascii_lowercase();
        let (architecture, variant) = match architecture.as_str() {
            "i386" | "x86" => ("386", numbered),
            "x86_64" | "x86-64" | "amd64" if numbered == "v1" => ("amd64", String::new()),
            "x86_64" | "x86-64" | "amd64" => ("amd64", numbered),
            "aarch64" | "arm64" if numbered == "v8" => ("arm64", String::new()),
            "aarch64" | "arm64" => ("arm64", numbered),
            "armhf" => ("arm", "v7".to_owned()),
            "armel" => ("arm", "v6".to_owned()),
            "arm" if numbered.is_empty() => ("arm", "v7".to_owned()),
            other => (other, numbered),
        };
        Self { os, architecture: architecture.to_owned(), variant, version: version.to_owned() }
    }

    /// Reads the platform of a descriptor or a configuration. `None` if there is none, and for an
    /// attestation, which an index lists as an image of the platform `unknown/unknown`.
    pub fn of(value: &Value) -> Option<Self> {
        let part = |name: &str| value[name].as_str().unwrap_or_default();
        let (os, architecture) = (part("os"), part("architecture"));
        if os.is_empty() || architecture.is_empty() || os == "unknown" {
            return None;
        }
        Some(Self::new(os, architecture, part("variant"), part("os.version")))
    }

    /// The platform of containers on this machine: Linux, even if that is in a virtual machine.
    pub fn of_this_machine() -> Self {
        Self::new("linux", std::env::consts::ARCH, "", "")
    }

    /// How well an image of the platform `found` matches this one: 0 is an exact match, and greater
    /// numbers are older variants that run there, too. `None` if it does not run there.
    pub fn fits(&self, found: &Self) -> Option<u32> {
        let is_version = self.version.is_empty()
            || found.version == self.version
            || found.version.strip_prefix(&self.version).is_some_and(|rest| rest.starts_with('.'));
        if self.os != found.os || self.architecture != found.architecture || !is_version {
            return None;
        }
        if self.variant == found.variant {
            return Some(0);
        }
        // The version numbers of variants that run on their successors, in containerd's order.
        let number = |variant: &str| match (self.architecture.as_str(), variant) {
            ("amd64", "") => Some(1),
            ("arm64", "") => Some(8),
            ("amd64" | "arm" | "arm64", variant) => variant.strip_prefix('v')?.parse().ok(),
            _ => None,
        };
        let (wanted, has): (u32, u32) = (number(&self.variant)?, number(&found.variant)?);
        wanted.checked_sub(has)
    }

    /// Chooses the best match in `found`; the first of several that match equally. An error lists
    /// the platforms there are, or the versions to choose from if several versions of Windows
    /// match.
    pub fn choose<'a, T>(&self, found: &'a [(Self, T)]) -> Result<&'a (Self, T)> {
        let ranked = found.iter().filter_map(|one| Some((self.fits(&one.0)?, one)));
        let Some(best) = ranked.clone().map(|(rank, _)| rank).min() else {
            let text = format!("no image for {self}; available: {}", listed(found));
            return Err(Error::not_found(text));
        };
        let best: Vec<&(Self, T)> =
            ranked.filter(|(rank, _)| *rank == best).map(|(_, one)| one).collect();
        if best.iter().any(|one| one.0.version != best[0].0.version) {
            let names: Vec<String> = best.iter().map(|one| one.0.to_string()).collect();
            let text = format!("{self}: {} match; specify one of them", names.join(", "));
            return Err(Error::invalid(text));
        }
        Ok(best[0])
    }
}

/// The platforms in `found`, each once.
fn listed<T>(found: &[(Platform, T)]) -> String {
    let names = without_repeats(found.iter().map(|(platform, _)| platform.to_string()));
    if names.is_empty() { "none with a platform".to_owned() } else { names.join(", ") }
}

impl FromStr for Platform {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            Error::invalid(format!(
                "'{text}' is not a platform: use a form such as linux/amd64, linux/arm64/v8 or \
                 windows(10.0.20348)/amd64"
            ))
        };
        let sound = |part: &str| {
            part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        };
        // containerd writes the version after the system, crane after everything else.
        let (plain, version) = match (text.split_once('('), text.rsplit_once(':')) {
            (Some((os, rest)), _) => {
                let (version, rest) = rest.split_once(')').ok_or_else(bad)?;
                (format!("{os}{rest}"), version)
            }
            (None, Some((plain, version))) => (plain.to_owned(), version),
            (None, None) => (text.to_owned(), ""),
        };
        let parts: Vec<&str> = plain.split('/').collect();
        let is_bad = |part: &&str| part.is_empty() || !sound(part);
        if parts.iter().any(is_bad)
            || !sound(version)
            || (plain.len() < text.len() && version.is_empty())
        {
            return Err(bad());
        }
        match parts[..] {
            [one] => {
                let of_linux = Self::new("linux", one, "", version);
                if ARCHITECTURES.contains(&of_linux.architecture.as_str()) {
                    return Ok(of_linux);
                }
                let of_machine = Self::new(one, std::env::consts::ARCH, "", version);
                let is_known = SYSTEMS.contains(&of_machine.os.as_str());
                if is_known { Ok(of_machine) } else { Err(bad()) }
            }
            [os, architecture] => Ok(Self::new(os, architecture, "", version)),
            [os, architecture, variant] => Ok(Self::new(os, architecture, variant, version)),
            _ => Err(bad()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn platform_spellings_are_normalized() {
        for (text, normal) in [
            ("linux/amd64", "linux/amd64"),
            ("Linux/x86_64", "linux/amd64"),
            ("x86-64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("linux/arm64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("aarch64", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("linux/armel", "linux/arm/v6"),
            ("armhf", "linux/arm/v7"),
            ("i386", "linux/386"),
            ("macos/arm64", "darwin/arm64"),
            ("windows(10.0.20348.1)/amd64", "windows(10.0.20348.1)/amd64"),
            ("windows/amd64:10.0.20348.1", "windows(10.0.20348.1)/amd64"),
        ] {
            assert_eq!(platform(text).to_string(), normal, "{text}");
        }
        assert!(platform("linux").to_string().starts_with("linux/"));
        for bad in
            ["", "/", "linux/", "a/b/c/d", "nothing", "windows()/amd64", "windows(1/amd64", "x y/z"]
        {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }

    #[test]
    fn best_platform_is_chosen_as_in_containerd() {
        let found = |platforms: &[&str]| -> Vec<(Platform, usize)> {
            platforms.iter().enumerate().map(|(at, text)| (platform(text), at)).collect()
        };
        let chosen = |wanted: &str, platforms: &[&str]| {
            platform(wanted).choose(&found(platforms)).map(|one| one.1).map_err(|e| e.to_string())
        };
        assert_eq!(chosen("linux/arm64/v8", &["linux/amd64", "linux/arm64"]), Ok(1));
        assert_eq!(chosen("linux/arm", &["linux/arm/v6", "linux/arm/v7"]), Ok(1));
        assert_eq!(chosen("linux/arm/v7", &["linux/arm/v5", "linux/arm/v6"]), Ok(1));
        assert_eq!(chosen("linux/amd64/v3", &["linux/amd64", "linux/amd64/v2"]), Ok(1));
        assert_eq!(chosen("windows/amd64", &["windows(10.0.1)/amd64"]), Ok(0));
        let windows = ["windows(10.0.17763.1)/amd64", "windows(10.0.20348.1)/amd64"];
        assert_eq!(chosen("windows(10.0.20348)/amd64", &windows), Ok(1));
        let error = chosen("windows/amd64", &windows).unwrap_err();
        assert!(error.contains("windows(10.0.20348.1)/amd64"), "{error}");
        for (wanted, has) in [
            ("linux/arm/v6", "linux/arm/v7"),
            ("linux/amd64", "linux/amd64/v2"),
            ("linux/amd64", "linux/arm64"),
            ("windows(10.0.2)/amd64", "windows(10.0.20348.1)/amd64"),
        ] {
            let error = chosen(wanted, &[has]).unwrap_err();
            assert!(error.contains(has), "{error}");
        }
    }

    #[test]
    fn attestations_have_no_platform() {
        assert_eq!(Platform::of(&json!({"os": "unknown", "architecture": "unknown"})), None);
        assert_eq!(Platform::of(&Value::Null), None);
        let windows = json!({"os": "windows", "architecture": "amd64", "os.version": "10.0.1"});
        assert_eq!(Platform::of(&windows).unwrap().to_string(), "windows(10.0.1)/amd64");
    }
}
