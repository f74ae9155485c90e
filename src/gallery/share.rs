//! Sharing of galleries.

use super::operation::PendingChange;
use super::{
    ChangeOutcome, Galleries, Name, PlannedChange, ProvisioningState, StepListener, change,
};
use crate::error::{Error, ErrorKind, Result};
use reqwest::Method;
use serde_json::{Value, json};

/// The subscriptions and tenants that a gallery is to be shared with, or no longer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShareWith {
    /// Ids of subscriptions.
    pub subscriptions: Vec<String>,
    /// Ids of tenants.
    pub tenants: Vec<String>,
}

/// A change of a gallery's sharing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SharingChange {
    /// Share it with these in addition.
    Add(ShareWith),
    /// Stop sharing it with these.
    Remove(ShareWith),
    /// Publish it to everyone on Azure.
    EnableCommunity,
    /// Stop sharing it with anyone.
    Reset,
}

impl SharingChange {
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

    /// Whether a gallery's sharing is already as requested.
    fn is_made(&self, gallery: &Value) -> bool {
        let profile = &gallery["properties"]["sharingProfile"];
        let has =
            |kind: &str, id: &String| ids(profile, kind).iter().any(|k| k.eq_ignore_ascii_case(id));
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
                "'{other}' is not the id of a subscription or tenant: an id has the form \
                 00000000-0000-0000-0000-000000000000"
            ))),
            None if ids.is_empty() => Err(Error::invalid("specify a subscription or a tenant")),
            None => Ok(()),
        }
    }

    /// Refuses what Azure does not allow for a gallery in the state `gallery`
    /// (learn.microsoft.com/azure/virtual-machines/share-gallery-direct and
    /// share-gallery-community).
    fn check_on(&self, name: &Name, gallery: &Value) -> Result<()> {
        let profile = &gallery["properties"]["sharingProfile"];
        let kind = profile["permissions"].as_str().unwrap_or("Private");
        let refused = |text: &str| {
            let text = format!("{}: {text}", name.id());
            Err(Error::new(ErrorKind::Conflict, text))
        };
        let is = |wanted: &str| kind.eq_ignore_ascii_case(wanted);
        match self {
            Self::Add(_) if !is("Groups") => refused(&format!(
                "its permissions are {kind}. Azure shares only galleries that were created for \
                 sharing (az sig create --permissions groups), and the permissions of an existing \
                 gallery cannot be changed. Create a new gallery, or assign roles on this one"
            )),
            Self::Add(with) => {
                let count = |kind: &str, added: &[String]| {
                    let known = ids(profile, kind);
                    let new =
                        added.iter().filter(|id| !known.iter().any(|k| k.eq_ignore_ascii_case(id)));
                    known.len() + new.count()
                };
                let subscriptions = count("Subscriptions", &with.subscriptions);
                let tenants = count("AADTenants", &with.tenants);
                if subscriptions > MOST_SUBSCRIPTIONS || tenants > MOST_TENANTS {
                    return refused(&format!(
                        "it would be shared with {subscriptions} subscriptions and {tenants} tenants; Azure \
                         allows {MOST_SUBSCRIPTIONS} and {MOST_TENANTS}"
                    ));
                }
                Ok(())
            }
            Self::EnableCommunity if !is("Community") => refused(&format!(
                "its permissions are {kind}. Set a publisher and a public name first: az sig \
                 update --permissions community --publisher-uri … --publisher-email … --eula … \
                 --public-name-prefix …"
            )),
            Self::EnableCommunity | Self::Remove(_) | Self::Reset => Ok(()),
        }
    }
}

/// The most subscriptions and tenants that a gallery can be shared with
/// (learn.microsoft.com/azure/virtual-machines/share-gallery-direct).
const MOST_SUBSCRIPTIONS: usize = 30;
const MOST_TENANTS: usize = 5;

/// The ids of one kind of group that a gallery is shared with.
fn ids<'a>(profile: &'a Value, kind: &str) -> Vec<&'a str> {
    let groups = profile["groups"].as_array().into_iter().flatten();
    let same = groups
        .filter(|group| group["type"].as_str().is_some_and(|name| name.eq_ignore_ascii_case(kind)));
    let ids = same.flat_map(|group| group["ids"].as_array().into_iter().flatten());
    ids.filter_map(Value::as_str).collect()
}

impl Galleries {
    /// Plans the request for `sharing`; `None` if the gallery is already shared that way.
    pub async fn plan_sharing(
        &self,
        name: &Name,
        sharing: &SharingChange,
    ) -> Result<Option<PlannedChange>> {
        if name.definition.is_some() {
            return Err(Error::invalid(format!(
                "{}: only whole galleries can be shared, not definitions or versions",
                name.id()
            )));
        }
        sharing.check()?;
        let now = self.get(name).await?;
        let failed_before = ProvisioningState::of(&now) == ProvisioningState::Failed;
        if sharing.is_made(&now) && !failed_before {
            return Ok(None);
        }
        sharing.check_on(name, &now)?;
        let mut change = change(name, Method::POST, Some(sharing.body()));
        change.path.push("share".to_owned());
        Ok(Some(PlannedChange { change, failed_before }))
    }

    /// Makes a planned change of sharing.
    pub async fn share(
        &self,
        name: &Name,
        sharing: &SharingChange,
        request: &PlannedChange,
        wait: bool,
        report_step: StepListener<'_>,
    ) -> Result<ChangeOutcome> {
        let is_made = |now: Option<&Value>| now.is_some_and(|now| sharing.is_made(now));
        let PlannedChange { change, failed_before } = request;
        let making =
            PendingChange { name, change, failed_before: *failed_before, is_made: &is_made };
        self.make(&making, wait, report_step).await
    }
}
