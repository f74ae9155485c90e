//! Decides which hosts receive a token of an identity.
//!
//! An Entra token for registries works at every registry that the identity may use, no matter who
//! presents it: a host that receives one can push, pull and delete elsewhere with it. So it is sent
//! only to registries of the cloud, and to hosts that the operator or a local Resource Manager
//! vouches for. [`Trust::recipient`] is the only place that decides this: no other code creates a
//! [`Recipient`], and only a recipient can sign in with an identity.

use super::reference::origin_of;
use crate::client::{Tokens as Identity, is_loopback};
use crate::error::{Error, ErrorKind, Result};
use std::collections::BTreeSet;
use url::Url;

/// The source of the claim that a host is a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrustSource {
    /// Only the request itself: a command's argument, a document, a message.
    Unconfirmed,
    /// The Resource Manager lists it.
    ResourceManager,
}

/// The hosts that may receive a token of an identity.
#[derive(Debug, Clone)]
pub struct Trust {
    /// The domain suffix of the cloud's registries; unknown for a custom cloud.
    suffix: Option<String>,
    /// The origins that the operator named.
    named: BTreeSet<String>,
    /// Whether the Resource Manager is on this machine. Then it is a simulated one, and so are its
    /// registries.
    is_local: bool,
}

/// An identity and the one host at which it signs in.
#[derive(Clone)]
pub struct Recipient {
    identity: Identity,
    origin: Url,
}

impl Recipient {
    /// The identity that signs in.
    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether `origin` is that host.
    pub(super) fn is_at(&self, origin: &Url) -> bool {
        self.origin.origin() == origin.origin()
    }
}

impl Trust {
    /// Trusts the registries of a cloud whose names end with `suffix`, such as `azurecr.io`.
    pub fn of_cloud(suffix: Option<&str>) -> Self {
        let suffix = suffix.map(str::to_owned);
        Self { suffix, named: BTreeSet::new(), is_local: false }
    }

    /// Also trusts the login servers that the operator named, wherever they are.
    pub fn naming<'a>(mut self, named: impl IntoIterator<Item = &'a String>) -> Result<Self> {
        for login_server in named {
            self.named.insert(key(&origin_of(login_server)?));
        }
        Ok(self)
    }

    /// Also trusts registries on this machine that the Resource Manager lists, if the Resource
    /// Manager is on this machine itself.
    #[must_use]
    pub fn listed_by(mut self, resource_manager: &Url) -> Self {
        self.is_local = is_loopback(resource_manager);
        self
    }

    /// Whether a login server receives a token only if the Resource Manager lists it.
    pub fn depends_on_the_list(&self, login_server: &str) -> bool {
        let trusts =
            |source| origin_of(login_server).is_ok_and(|origin| self.is_trusted(&origin, source));
        !trusts(TrustSource::Unconfirmed) && trusts(TrustSource::ResourceManager)
    }

    /// Returns `identity` as a recipient for `login_server`, if that host may receive its token.
    pub fn recipient(
        &self,
        identity: Identity,
        login_server: &str,
        source: TrustSource,
    ) -> Result<Recipient> {
        let origin = origin_of(login_server)?;
        if self.is_trusted(&origin, source) {
            return Ok(Recipient { identity, origin });
        }
        let of_cloud = match &self.suffix {
            Some(suffix) => format!("not a registry of this cloud (NAME.{suffix})"),
            None => "not known to be a registry of this cloud".to_owned(),
        };
        let text = format!(
            "{login_server}: {of_cloud}, and not trusted: it does not receive a token of the \
             identity, because that token is valid for every other registry. Nothing was sent. If \
             the registry is yours, trust it (--trust {login_server}, or AZIMG_REGISTRIES); \
             otherwise sign in as one of its users (--username), or without credentials \
             (--anonymous)"
        );
        Err(Error::new(ErrorKind::Denied, text))
    }

    fn is_trusted(&self, origin: &Url, source: TrustSource) -> bool {
        let is_listed =
            source == TrustSource::ResourceManager && self.is_local && is_loopback(origin);
        is_listed || self.named.contains(&key(origin)) || self.is_of_cloud(origin)
    }

    /// Whether the host has the name of a registry: `NAME.azurecr.io`, its private endpoint
    /// `NAME.privatelink.azurecr.io`, or its regional endpoint `NAME.REGION.geo.azurecr.io`.
    /// `NAME.REGION.data.azurecr.io` serves blobs and is not included: it is reached by redirects,
    /// which carry their own authorization.
    fn is_of_cloud(&self, origin: &Url) -> bool {
        let Some(suffix) = &self.suffix else { return false };
        let Some(host) = origin.domain().filter(|_| origin.scheme() == "https") else {
            return false;
        };
        let inner = |c: char| c.is_ascii_alphanumeric();
        let is_name = |name: &str| {
            let ends = name.starts_with(inner) && name.ends_with(inner);
            ends && name.len() <= 63 && name.chars().all(|c| inner(c) || c == '-')
        };
        let names = host.strip_suffix(suffix.as_str()).and_then(|rest| rest.strip_suffix('.'));
        let names: Vec<&str> = names.unwrap_or_default().split('.').collect();
        let is_registry = matches!(names[..], [_] | [_, "privatelink"] | [_, _, "geo"]);
        // Azure's own registries listen on no other port.
        is_registry && origin.port().is_none() && names.iter().all(|name| is_name(name))
    }
}

/// The origin in normal form, equal for all spellings of one login server.
fn key(origin: &Url) -> String {
    origin.origin().ascii_serialization()
}

#[cfg(test)]
mod tests {
    use super::*;
    use TrustSource::{ResourceManager, Unconfirmed};

    fn trusts(trust: &Trust, login_server: &str, source: TrustSource) -> bool {
        trust.is_trusted(&origin_of(login_server).unwrap(), source)
    }

    #[test]
    fn cloud_registries_are_trusted_and_lookalikes_are_not() {
        let cloud = Trust::of_cloud(Some("azurecr.io"));
        for accepted in [
            "example.azurecr.io",
            "Example.AzureCR.io",
            "example-a1b2c3.azurecr.io",
            "example.azurecr.io:443",
            "example.privatelink.azurecr.io",
            "example.westeurope.geo.azurecr.io",
        ] {
            assert!(trusts(&cloud, accepted, Unconfirmed), "{accepted}");
        }
        for bad in [
            "mycompany.azurecr.io.attacker.example",
            "azurecr.io.attacker.example",
            "attacker.example",
            "azurecr.io",
            "exampleazurecr.io",
            "example-azurecr.io",
            "example.azurecr.io.",
            ".azurecr.io",
            "-example.azurecr.io",
            "example.azurecr.io:8443",
            "example.azurecr.cn",
            "example.azurecr.us",
            "example.westeurope.data.azurecr.io",
            "a.b.azurecr.io",
            "a.b.c.geo.azurecr.io",
            "127.0.0.1:5000",
            "localhost:5000",
            "[::1]:5000",
            "2130706433",
            "0x7f.1",
            "10.0.0.1",
            "169.254.169.254",
        ] {
            for source in [Unconfirmed, ResourceManager] {
                let is_trusted =
                    origin_of(bad).is_ok_and(|origin| cloud.is_trusted(&origin, source));
                assert!(!is_trusted, "{bad} {source:?}");
            }
        }
        assert!(!trusts(&Trust::of_cloud(None), "example.azurecr.io", ResourceManager));
    }

    #[test]
    fn named_registry_is_trusted_only_at_its_exact_origin() {
        let named = ["Registry.Example:5000".to_owned(), "127.0.0.1:6000".to_owned()];
        let trust = Trust::of_cloud(Some("azurecr.io")).naming(&named).unwrap();
        for accepted in ["registry.example:5000", "127.0.0.1:6000", "2130706433:6000"] {
            assert!(trusts(&trust, accepted, Unconfirmed), "{accepted}");
        }
        for bad in ["registry.example", "registry.example:5001", "localhost:6000", "127.0.0.1:6001"]
        {
            assert!(!trusts(&trust, bad, Unconfirmed), "{bad}");
        }
        assert!(Trust::of_cloud(None).naming(&["a/b".to_owned()]).is_err());
    }

    #[test]
    fn local_registry_is_trusted_if_a_local_resource_manager_lists_it() {
        let cloud = || Trust::of_cloud(Some("azurecr.io"));
        let local = cloud().listed_by(&"http://127.0.0.1:8080".parse().unwrap());
        assert!(trusts(&local, "127.0.0.1:5000", ResourceManager));
        assert!(local.depends_on_the_list("127.0.0.1:5000"));
        assert!(!trusts(&local, "127.0.0.1:5000", Unconfirmed));
        assert!(!trusts(&local, "attacker.example", ResourceManager));
        assert!(!local.depends_on_the_list("example.azurecr.io"));
        assert!(!local.depends_on_the_list("attacker.example"));
        let azure = cloud().listed_by(&"https://management.azure.com".parse().unwrap());
        assert!(!trusts(&azure, "127.0.0.1:5000", ResourceManager));
    }
}
