//! Relations between the manifests of a repository: referrers, and the latest manifest.

use super::limits::Cuts;
use super::registry::RegistryImage;
use std::collections::BTreeMap;

/// Sets the referrers and the latest mark in the rows of one repository.
pub fn relate(rows: &mut [RegistryImage]) {
    let mut referrers: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for row in rows.iter() {
        let kind = || {
            let kind = row.artifact_type.as_ref().or(row.config_media_type.as_ref());
            kind.cloned().unwrap_or_default()
        };
        let mut refers = |subject: String| {
            referrers.entry(subject).or_default().insert(row.digest.clone(), kind());
        };
        if let Some(subject) = &row.subject {
            refers(subject.clone());
        }
        // The tag scheme that replaces subjects: `sha256-….sig` and similar tags.
        for tag in &row.tags {
            if let Some(digest) = tagged_subject(tag).filter(|digest| *digest != row.digest) {
                refers(digest);
            }
        }
    }
    let newest = rows
        .iter()
        .filter(|row| !row.tags.is_empty() && row.tags.iter().any(|t| tagged_subject(t).is_none()))
        .max_by(|a, b| (a.created_at, &a.digest).cmp(&(b.created_at, &b.digest)))
        .map(|row| row.digest.clone());
    for row in rows {
        row.referrers = referrers.remove(&row.digest).unwrap_or_default();
        row.referrers_total = None;
        row.is_latest = newest.as_ref() == Some(&row.digest);
        // The joined referrers may exceed the limits of a row, though no single member did.
        row.cut(&mut Cuts::default());
    }
}

/// The digest of the manifest to which a tag of the form `sha256-HEX[.suffix]` refers.
pub fn tagged_subject(tag: &str) -> Option<String> {
    let hex = tag.strip_prefix("sha256-")?;
    let hex = hex.split('.').next().unwrap_or_default();
    let sound =
        hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    sound.then(|| format!("sha256:{hex}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::limits::{ROW, bytes_of};

    #[test]
    fn referrers_are_found_by_subject_and_by_tag() {
        let digest = |c: &str| format!("sha256:{}", c.repeat(64));
        let row = |c: &str| RegistryImage::new("r.azurecr.io", "a", &digest(c));
        let mut rows = [row("1"), row("2"), row("3")];
        rows[0].tags = vec!["v1".into()];
        rows[1].subject = Some(digest("1"));
        rows[1].artifact_type = Some("signature".into());
        rows[2].tags = vec![format!("sha256-{}.sig", "1".repeat(64))];
        relate(&mut rows);
        assert_eq!(rows[0].referrers.len(), 2);
        assert_eq!(rows[0].referrers[&digest("2")], "signature");
        assert_eq!(rows.map(|row| row.is_latest), [true, false, false]);
    }

    /// A manifest with more referrers than its row can hold.
    #[test]
    fn derived_referrers_are_cut_to_the_row_limit() {
        let digest = |n: u32| format!("sha256:{n:064x}");
        let mut rows: Vec<RegistryImage> =
            (0..14_000).map(|n| RegistryImage::new("r", "a", &digest(n))).collect();
        for row in &mut rows[1..] {
            row.subject = Some(digest(0));
        }
        for _ in 0..2 {
            relate(&mut rows);
            assert_eq!(rows[0].referrers_total, Some(13_999));
            assert!(bytes_of(&rows[0]) <= ROW);
            assert_eq!(rows[1].referrers_total, None);
        }
    }
}
