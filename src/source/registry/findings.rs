//! Vulnerabilities that Microsoft Defender for Cloud found in a registry's images, by digest, from
//! its grouped sub-assessments. These are to be replaced by individual recommendations, whose
//! format is undocumented. An image without sub-assessments may or may not have been scanned, so it
//! gets no scan result.

use super::{Containers, end_failed_item};
use crate::client::{Client, quoted};
use crate::error::{ErrorKind, Result};
use crate::image::registry::{ManifestDetail, ScanResult};
use crate::source::{Crawled, Invocation, Rows};
use crate::work::{Outcome, State, WorkItem};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Wait for an exhausted query quota if the answer has no retry delay.
const SOME_WHILE: Duration = Duration::from_secs(30);

/// One vulnerability of one image (azure-rest §5).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Finding {
    #[serde(default)]
    severity: Option<String>,
    artifact: Artifact,
    #[serde(default)]
    status: Status,
    #[serde(default)]
    time_generated: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Artifact {
    repository_name: String,
    digest: String,
}

#[derive(Debug, Default, Deserialize)]
struct Status {
    #[serde(default)]
    code: Option<String>,
}

/// The query for one registry, or for one image in it.
fn query(login_server: &str, digest: Option<&str>) -> String {
    let of = "where properties.additionalData.artifactDetails.";
    let one = digest.map(|digest| format!(" | {of}digest =~ {}", quoted(digest)));
    let one = one.unwrap_or_default();
    let server = quoted(login_server);
    format!(
        "securityresources | where type =~ 'microsoft.security/assessments/subassessments' | where \
         properties.additionalData.assessedResourceType =~ 'AzureContainerRegistryVulnerability' | \
         {of}registryHost =~ {server}{one} | project id, \
         severity=tostring(properties.additionalData.vulnerabilityDetails.severity), \
         artifact=properties.additionalData.artifactDetails, status=properties.status, \
         timeGenerated=properties.timeGenerated | order by id asc"
    )
}

/// Returns the scan result of one image; `None` if it was not scanned or that is unknown.
pub async fn of_image(
    client: &Client,
    login_server: &str,
    digest: &str,
) -> Result<Option<ScanResult>> {
    let found: Vec<Finding> = client.graph(&query(login_server, Some(digest)), &[]).await?;
    Ok(joined(found).into_iter().next())
}

impl Containers {
    pub(super) async fn crawl_findings(
        &self,
        item: &WorkItem,
        login_server: &str,
        subscription: &str,
        effort: &Invocation,
    ) -> Result<Crawled> {
        let found: Result<Vec<Finding>> =
            self.client.graph(&query(login_server, None), &[subscription.to_owned()]).await;
        let found = match found {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::Throttled => {
                let wait = error.retry_after().unwrap_or(SOME_WHILE);
                return Ok(Crawled::Later(item.clone(), wait));
            }
            Err(error) => return end_failed_item(item, error, effort),
        };
        let details: Vec<ManifestDetail> =
            joined(found).into_iter().map(ManifestDetail::Scan).collect();
        let outcome = Outcome {
            rows: details.len() as u64,
            ..Outcome::bare(item.scope.clone(), State::Done, "", 0)
        };
        Ok(Crawled::Ended(outcome, Rows::Details(details)))
    }
}

/// Counts findings per image. An image that is healthy counts as scanned, without findings.
fn joined(found: Vec<Finding>) -> Vec<ScanResult> {
    let mut images: BTreeMap<(String, String), ScanResult> = BTreeMap::new();
    for Finding { severity, artifact, status, time_generated } in found {
        let Artifact { repository_name, digest } = artifact;
        let key = (repository_name, digest);
        let scanned = images.entry(key).or_insert_with_key(|(repository, digest)| ScanResult {
            repository: repository.clone(),
            digest: digest.clone(),
            ..ScanResult::default()
        });
        let at = time_generated.and_then(|text| OffsetDateTime::parse(&text, &Rfc3339).ok());
        scanned.scanned_at = scanned.scanned_at.max(at);
        let healthy = ["healthy", "notapplicable"];
        let code = status.code.unwrap_or_default().to_ascii_lowercase();
        if !healthy.contains(&code.as_str()) {
            let severity = severity.filter(|s| !s.is_empty()).unwrap_or("unknown".to_owned());
            *scanned.findings.entry(severity.to_ascii_lowercase()).or_default() += 1;
        }
    }
    images.into_values().collect()
}
