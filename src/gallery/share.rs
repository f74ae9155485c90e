//! With whom a gallery is shared.

use super::{Ended, Galleries, Name, Seen, Step, change};
use crate::client::Change;
use crate::error::{Error, Result};
use reqwest::Method;
use serde_json::{Value, json};

/// With whom a gallery is to be shared, or no longer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShareWith {
    /// Subscriptions, by id.
    pub subscriptions: Vec<String>,
    /// Tenants, by id.
    pub tenants: Vec<String>,
}

/// What is to be done to a gallery's sharing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sharing {
    /// Share it with these, too.
    Add(ShareWith),
    /// No longer share it with these.
    Remove(ShareWith),
    /// Publish it to everyone on Azure.
    EnableCommunity,
    /// Share it with nobody.
    Reset,
}

impl Sharing {
    fn body(&self) -> Value {
        let groups = |with: &ShareWith| {
            let group = |kind: &str, ids: &Vec<String>| {
                (!ids.is_empty()).then(|| json!({"type": kind, "ids": ids}))
            };
            let all =
                [group("Subscriptions", &with.subscriptions), group("AADTenants", &with.tenants)];
            all.into_iter().flatten().collect::<Vec<Value>>()
        };
        match self {
            Self::Add(with) => json!({"operationType": "Add", "groups": groups(with)}),
            Self::Remove(with) => json!({"operationType": "Remove", "groups": groups(with)}),
            Self::EnableCommunity => json!({"operationType": "EnableCommunity"}),
            Self::Reset => json!({"operationType": "Reset"}),
        }
    }

    /// Whether a gallery's sharing is so already.
    fn is_made(&self, gallery: &Value) -> bool {
        let profile = &gallery["properties"]["sharingProfile"];
        let has = |kind: &str, id: &String| {
            let groups = profile["groups"].as_array().into_iter().flatten();
            let same = groups.filter(|group| {
                group["type"].as_str().is_some_and(|name| name.eq_ignore_ascii_case(kind))
            });
            same.flat_map(|group| group["ids"].as_array().into_iter().flatten())
                .any(|known| known.as_str().is_some_and(|known| known.eq_ignore_ascii_case(id)))
        };
        match self {
            Self::Add(with) => {
                with.subscriptions.iter().all(|id| has("Subscriptions", id))
                    && with.tenants.iter().all(|id| has("AADTenants", id))
            }
            Self::Remove(with) => {
                !with.subscriptions.iter().any(|id| has("Subscriptions", id))
                    && !with.tenants.iter().any(|id| has("AADTenants", id))
            }
            Self::EnableCommunity => {
                profile["communityGalleryInfo"]["communityGalleryEnabled"] == true
            }
            Self::Reset => {
                let kind = profile["permissions"].as_str().unwrap_or("Private");
                kind.eq_ignore_ascii_case("Private")
            }
        }
    }

    fn check(&self) -> Result<()> {
        let (Self::Add(with) | Self::Remove(with)) = self else { return Ok(()) };
        let ids: Vec<&String> = with.subscriptions.iter().chain(&with.tenants).collect();
        let is_id =
            |id: &str| id.len() == 36 && id.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit());
        match ids.iter().find(|id| !is_id(id)) {
            Some(other) => Err(Error::invalid(format!(
                "'{other}' is the id of no subscription or tenant: these look like \
                 00000000-0000-0000-0000-000000000000"
            ))),
            None if ids.is_empty() => Err(Error::invalid("name a subscription or a tenant")),
            None => Ok(()),
        }
    }
}

impl Galleries {
    /// The request that makes `sharing`; none when it is so already.
    pub async fn plan_sharing(&self, name: &Name, sharing: &Sharing) -> Result<Option<Change>> {
        if name.definition.is_some() {
            return Err(Error::invalid(format!(
                "{}: galleries are shared as a whole, definitions and versions are not",
                name.id()
            )));
        }
        sharing.check()?;
        let now = self.get(name).await?;
        if sharing.is_made(&now) {
            return Ok(None);
        }
        let mut request = change(name, Method::POST, Some(sharing.body()));
        request.path.push("share".to_owned());
        Ok(Some(request))
    }

    /// Makes a planned change of sharing.
    pub async fn share(
        &self,
        name: &Name,
        sharing: &Sharing,
        change: &Change,
        wait: bool,
        tell: &(dyn Fn(Step) + Send + Sync),
    ) -> Result<Ended> {
        let is_made = |now: Option<&Value>| match now {
            Some(now) if sharing.is_made(now) => Seen::Made,
            _ => Seen::NotMade,
        };
        self.make(name, change, wait, &is_made, tell).await
    }
}
