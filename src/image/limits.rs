//! Size limits of a row and of the rows of an item. They ensure that whatever is written can be
//! read again, and that no content of one image, gallery or registry can block the rows of others.
//!
//! Sizes are in bytes of JSON, in which a control character takes six bytes. Names (ids,
//! repositories, versions) are never truncated: they identify a row, and their sources limit them.

use super::gallery::{GalleryImage, Replicated};
use super::marketplace::{ListedVersion, VersionDetail};
use super::registry::{ManifestContent, ManifestDetail, RegistryImage};
use serde::Serialize;
use std::collections::BTreeMap;
use time::OffsetDateTime;

/// A row with all members at their limits is smaller than this, and so is a line of the change
/// feed.
pub const ROW: usize = 1 << 20;
/// Limit for all rows of one item. A shard may exceed it by the size of its outcome.
pub const ITEM: usize = 192 << 20;
/// Limit for a text member.
pub const TEXT: usize = 4 << 10;
/// Limit for a text that people read: a description, a licence.
pub const LONG_TEXT: usize = 64 << 10;
/// Limit for a list or map: about 3,000 tags, or 700 layers.
pub const LIST: usize = 64 << 10;

/// Counts of truncated members, by name.
#[derive(Debug, Default)]
pub struct Cuts(BTreeMap<&'static str, u64>);

/// The size of a text as JSON, including its quotes.
fn length(text: &str) -> usize {
    let byte = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        ..0x20 => 6,
        _ => 1,
    };
    text.bytes().map(byte).sum::<usize>() + 2
}

/// The size of `value` as JSON.
pub fn bytes_of(value: &impl Serialize) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // A value that cannot be serialized has no size.
    let _ = serde_json::to_writer(&mut count, value);
    count.0
}

impl Cuts {
    /// Descriptions of the truncated members, with their counts.
    pub fn into_counts(self) -> BTreeMap<String, u64> {
        let entry =
            |(member, times)| (format!("{member}: longer than a row holds, and cut"), times);
        self.0.into_iter().map(entry).collect()
    }

    fn cut(&mut self, member: &'static str) {
        *self.0.entry(member).or_default() += 1;
    }

    fn text_within(&mut self, most: usize, member: &'static str, text: &mut Option<String>) {
        let Some(long) = text.as_mut().filter(|text| text.len() * 6 + 2 > most) else { return };
        if length(long) <= most {
            return;
        }
        let mut end = 0;
        let mut left = most - "…".len() - 2;
        for (at, character) in long.char_indices() {
            let size = length(character.encode_utf8(&mut [0; 4])) - 2;
            let Some(rest) = left.checked_sub(size) else { break };
            (left, end) = (rest, at + character.len_utf8());
        }
        long.truncate(end);
        long.push('…');
        self.cut(member);
    }

    fn text(&mut self, member: &'static str, text: &mut Option<String>) {
        self.text_within(TEXT, member, text);
    }

    /// How many leading elements of these sizes fit into a list; `None` if all fit.
    fn fitting(sizes: impl Iterator<Item = usize>) -> Option<usize> {
        let mut left = LIST;
        for (at, size) in sizes.enumerate() {
            match left.checked_sub(size + 1) {
                Some(rest) => left = rest,
                None => return Some(at),
            }
        }
        None
    }

    /// Truncates a list. Returns its original length if it was truncated.
    fn list(&mut self, member: &'static str, list: &mut Vec<String>) -> Option<u64> {
        let most = Self::fitting(list.iter().map(|text| length(text)))?;
        let total = list.len() as u64;
        list.truncate(most);
        self.cut(member);
        Some(total)
    }

    fn map<V>(
        &mut self,
        member: &'static str,
        map: &mut BTreeMap<String, V>,
        size: impl Fn(&V) -> usize,
    ) -> Option<u64> {
        let sizes = map.iter().map(|(name, value)| length(name) + 1 + size(value));
        let most = Self::fitting(sizes)?;
        let total = map.len() as u64;
        if let Some(first) = map.keys().nth(most).cloned() {
            drop(map.split_off(&first));
        }
        self.cut(member);
        Some(total)
    }

    fn texts(&mut self, member: &'static str, map: &mut BTreeMap<String, String>) -> Option<u64> {
        self.map(member, map, |text| length(text))
    }

    /// Truncates a map of numbers, none of which has more than 20 digits.
    fn numbers<V>(&mut self, member: &'static str, map: &mut BTreeMap<String, V>) -> Option<u64> {
        self.map(member, map, |_| 20)
    }
}

/// Truncates times to milliseconds, the precision that every reader of the tables has, so that both
/// formats of a table agree.
fn to_milliseconds<const N: usize>(moments: [&mut Option<OffsetDateTime>; N]) {
    for moment in moments.into_iter().flatten() {
        let beyond = moment.nanosecond() % 1_000_000;
        *moment = moment.replace_nanosecond(moment.nanosecond() - beyond).unwrap_or(*moment);
    }
}

/// Keeps the original length of a list that is truncated now or was truncated earlier.
fn total(before: &mut Option<u64>, now: Option<u64>) {
    *before = now.max(*before);
}

impl ListedVersion {
    /// Truncates members that exceed the limits.
    pub fn cut(&mut self, cuts: &mut Cuts) {
        cuts.text("architecture", &mut self.architecture);
        cuts.text("hyperVGeneration", &mut self.hyper_v_generation);
        cuts.text("alternative", &mut self.alternative);
        to_milliseconds([&mut self.scheduled_deprecation_at]);
        if let Some(detail) = &mut self.detail {
            detail.cut(cuts);
        }
    }
}

impl VersionDetail {
    /// Truncates members that exceed the limits.
    pub fn cut(&mut self, cuts: &mut Cuts) {
        cuts.text("os", &mut self.os);
        cuts.text("architecture", &mut self.architecture);
        cuts.text("hyperVGeneration", &mut self.hyper_v_generation);
        cuts.texts("features", &mut self.features);
        if let Some((publisher, product, name)) = self.plan.take() {
            let mut parts = [Some(publisher), Some(product), Some(name)];
            for part in &mut parts {
                cuts.text("plan", part);
            }
            let [publisher, product, name] = parts.map(Option::unwrap_or_default);
            self.plan = Some((publisher, product, name));
        }
    }
}

impl GalleryImage {
    /// Truncates members that exceed the limits.
    pub fn cut(&mut self, cuts: &mut Cuts) {
        for (member, text) in [
            ("publisher", &mut self.publisher),
            ("offer", &mut self.offer),
            ("sku", &mut self.sku),
            ("os", &mut self.os),
            ("osState", &mut self.os_state),
            ("architecture", &mut self.architecture),
            ("hyperVGeneration", &mut self.hyper_v_generation),
            ("securityType", &mut self.security_type),
            ("replicationState", &mut self.replication_state),
            ("replicationMode", &mut self.replication_mode),
            ("provisioningState", &mut self.provisioning_state),
            ("storageType", &mut self.storage_type),
            ("sourceId", &mut self.source_id),
            ("planPublisher", &mut self.plan_publisher),
            ("planProduct", &mut self.plan_product),
            ("planName", &mut self.plan_name),
            ("privacyUri", &mut self.privacy_uri),
            ("releaseNotesUri", &mut self.release_notes_uri),
        ] {
            cuts.text(member, text);
        }
        cuts.text_within(LONG_TEXT, "description", &mut self.description);
        cuts.text_within(LONG_TEXT, "eula", &mut self.eula);
        cuts.texts("features", &mut self.features);
        cuts.texts("replication", &mut self.replication);
        cuts.texts("storageTypes", &mut self.storage_types);
        cuts.texts("tags", &mut self.tags);
        cuts.numbers("replicas", &mut self.replicas);
        cuts.list("locations", &mut self.locations);
        cuts.list("publicNames", &mut self.public_names);
        cuts.list("excludedLocations", &mut self.excluded_locations);
        cuts.list("disallowedDiskTypes", &mut self.disallowed_disk_types);
        to_milliseconds([&mut self.published_at, &mut self.end_of_life_at]);
    }
}

impl Replicated {
    /// Truncates members that exceed the limits.
    pub fn cut(&mut self, cuts: &mut Cuts) {
        let mut state = Some(std::mem::take(&mut self.state));
        cuts.text("replicationState", &mut state);
        self.state = state.unwrap_or_default();
        cuts.texts("replication", &mut self.regions);
    }
}

impl RegistryImage {
    /// Truncates members that exceed the limits.
    pub fn cut(&mut self, cuts: &mut Cuts) {
        for (member, text) in [
            ("mediaType", &mut self.media_type),
            ("configMediaType", &mut self.config_media_type),
            ("artifactType", &mut self.artifact_type),
            ("subject", &mut self.subject),
            ("os", &mut self.os),
            ("architecture", &mut self.architecture),
            ("scanStatus", &mut self.scan_status),
        ] {
            cuts.text(member, text);
        }
        total(&mut self.tags_total, cuts.list("tags", &mut self.tags));
        total(&mut self.manifests_total, cuts.list("manifests", &mut self.manifests));
        total(&mut self.layers_total, cuts.numbers("layers", &mut self.layers));
        total(&mut self.referrers_total, cuts.texts("referrers", &mut self.referrers));
        cuts.list("platforms", &mut self.platforms);
        cuts.texts("annotations", &mut self.annotations);
        cuts.texts("labels", &mut self.labels);
        cuts.numbers("findings", &mut self.findings);
        to_milliseconds([&mut self.created_at, &mut self.updated_at]);
        to_milliseconds([&mut self.built_at, &mut self.scanned_at]);
    }
}

impl ManifestContent {
    /// Truncates members that exceed the limits.
    pub fn cut(&mut self, cuts: &mut Cuts) {
        cuts.text("artifactType", &mut self.artifact_type);
        cuts.text("subject", &mut self.subject);
        cuts.text("os", &mut self.os);
        cuts.text("architecture", &mut self.architecture);
        total(&mut self.manifests_total, cuts.list("manifests", &mut self.manifests));
        total(&mut self.layers_total, cuts.numbers("layers", &mut self.layers));
        cuts.list("platforms", &mut self.platforms);
        cuts.texts("annotations", &mut self.annotations);
        cuts.texts("labels", &mut self.labels);
        to_milliseconds([&mut self.built_at]);
    }
}

impl ManifestDetail {
    /// Truncates members that exceed the limits. Separately listed tags are truncated only when
    /// they are joined with their manifest, whose row records how many there are.
    pub fn cut(&mut self, cuts: &mut Cuts) {
        match self {
            Self::Content(content) => content.cut(cuts),
            Self::Scan(scan) => {
                cuts.numbers("findings", &mut scan.findings);
                to_milliseconds([&mut scan.scanned_at]);
            }
            Self::Tags(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::gallery::Kind;
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    /// Returns the row with every member except `names` as large as an attacker could make it.
    fn blown_up<T: Serialize + DeserializeOwned>(row: &T, names: &[&str]) -> T {
        let long = "\u{1}".repeat(300_000);
        let mut row = serde_json::to_value(row).unwrap();
        let members: Vec<String> = row.as_object().unwrap().keys().cloned().collect();
        for member in members.iter().filter(|member| !names.contains(&member.as_str())) {
            let before = row[member].clone();
            let many = |value: &dyn Fn(usize) -> Value| -> Value {
                (0..20_000).map(|n| (format!("{n}\u{1}\u{2}"), value(n))).collect()
            };
            let tries = [
                json!(long),
                (0..20_000).map(|n| json!(format!("{n}\u{1}\u{2}"))).collect(),
                many(&|_| json!("\u{1}\u{2}")),
                many(&|n| json!(u32::MAX - u32::try_from(n).unwrap())),
            ];
            let sound = tries.into_iter().find(|wanted| {
                row[member] = wanted.clone();
                serde_json::from_value::<T>(row.clone()).is_ok()
            });
            row[member] = sound.unwrap_or(before);
        }
        serde_json::from_value(row).unwrap()
    }

    #[test]
    fn largest_row_can_be_read_again() {
        let mut cuts = Cuts::default();
        let small = RegistryImage::new("r.azurecr.io", "a", "sha256:0");
        let names = ["kind", "id", "loginServer", "repository", "digest", "registryId", "location"];
        let arms = ["subscriptionId", "resourceGroup", "registrySku", "observedRun"];
        let mut row: RegistryImage = blown_up(&small, &[&names[..], &arms].concat());
        assert!(bytes_of(&row) > 5 * ROW);
        row.cut(&mut cuts);
        assert!(bytes_of(&row) <= ROW, "{}", bytes_of(&row));
        assert_eq!((row.tags_total, row.layers_total), (Some(20_000), Some(20_000)));
        let again = row.clone();
        row.cut(&mut Cuts::default());
        assert!(row == again, "what is cut is not cut again, and keeps its true count");
        let small = GalleryImage::new(Kind::GalleryVersion, "/id");
        let names = ["id", "definition", "version", "gallery", "sharing", "sourceKind"];
        let mut row: GalleryImage = blown_up(&small, &[&names[..], &arms].concat());
        assert!(bytes_of(&row) > 5 * ROW);
        row.cut(&mut cuts);
        assert!(bytes_of(&row) <= ROW, "{}", bytes_of(&row));
        let mut row: ListedVersion =
            blown_up(&ListedVersion::default(), &["offer", "sku", "version"]);
        let text = "\u{1}".repeat(300_000);
        let features = (0..20_000).map(|n| (n.to_string(), text[..9].to_owned())).collect();
        let plan = Some((text.clone(), text.clone(), text.clone()));
        let os = Some(text);
        let (architecture, hyper_v_generation) = (os.clone(), os.clone());
        let detail = VersionDetail { os, architecture, hyper_v_generation, plan, features };
        row.detail = Some(Box::new(detail));
        row.cut(&mut cuts);
        assert!(bytes_of(&row) <= ROW, "{}", bytes_of(&row));
        let counts = cuts.into_counts();
        assert_eq!(counts["layers: longer than a row holds, and cut"], 1, "{counts:?}");
        assert_eq!(counts["tags: longer than a row holds, and cut"], 2, "{counts:?}");
    }

    #[test]
    fn text_over_the_limit_is_cut_between_characters() {
        let mut cuts = Cuts::default();
        for long in ["é".repeat(TEXT), "\u{1}".repeat(TEXT), "\u{1f600}a".repeat(TEXT)] {
            let mut text = Some(long.clone());
            cuts.text("x", &mut text);
            let cut = text.unwrap();
            assert!(long.starts_with(cut.trim_end_matches('…')) && cut.ends_with('…'));
            assert!((TEXT - 10..=TEXT).contains(&length(&cut)), "{}", length(&cut));
        }
        let fits = Some("a".repeat(TEXT - 2));
        let mut text = fits.clone();
        cuts.text("y", &mut text);
        assert_eq!(text, fits);
        assert_eq!(cuts.into_counts().len(), 1);
    }
}
