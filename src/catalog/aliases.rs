//! Short names of images, as `az vm create --image` takes them, each resolved against a snapshot.

use super::{Catalog, LatestQuestion};
use crate::error::Result;
use serde_json::{Value, json};
use time::OffsetDateTime;

/// A short name.
#[derive(Debug, Clone, Copy)]
pub struct Alias {
    /// The name.
    pub name: &'static str,
    /// `Linux` or `Windows`.
    pub os: &'static str,
    /// Publisher, offer and SKU that it stands for.
    pub sku: [&'static str; 3],
}

impl Alias {
    /// Whether it stands for the SKU of these names: publisher, offer and SKU, without case.
    pub fn is_of(&self, sku: [&str; 3]) -> bool {
        self.sku.iter().zip(sku).all(|(own, name)| own.eq_ignore_ascii_case(name))
    }
}

const fn linux(name: &'static str, sku: [&'static str; 3]) -> Alias {
    Alias { name, os: "Linux", sku }
}

const fn windows(name: &'static str, sku: &'static str) -> Alias {
    Alias { name, os: "Windows", sku: ["MicrosoftWindowsServer", "WindowsServer", sku] }
}

/// The names that the Azure CLI (2.91) ships, and those of releases that came after it wrote them.
pub const ALIASES: &[Alias] = &[
    linux("AzureLinux4", ["microsoftazurelinux", "azurelinux-4", "4"]),
    linux("AzureLinux4Arm64", ["microsoftazurelinux", "azurelinux-4", "4-arm64"]),
    linux("AzureLinux4Gen1", ["microsoftazurelinux", "azurelinux-4", "4-gen1"]),
    linux("CentOS85Gen2", ["OpenLogic", "CentOS", "8_5-gen2"]),
    linux("Debian11", ["Debian", "debian-11", "11-backports-gen2"]),
    linux("Debian12", ["Debian", "debian-12", "12-gen2"]),
    linux("FlatcarLinuxFreeGen2", ["kinvolk", "flatcar-container-linux-free", "stable-gen2"]),
    linux("OpenSuseLeap154Gen2", ["SUSE", "openSUSE-leap-15-4", "gen2"]),
    linux("RHELRaw8LVMGen2", ["RedHat", "RHEL", "8-lvm-gen2"]),
    linux("SuseSles15SP3", ["SUSE", "sles-15-sp3", "gen2"]),
    linux("Ubuntu2204", ["Canonical", "0001-com-ubuntu-server-jammy", "22_04-lts-gen2"]),
    linux("Ubuntu2404", ["Canonical", "ubuntu-24_04-lts", "server"]),
    linux("Ubuntu2404Pro", ["Canonical", "ubuntu-24_04-lts", "ubuntu-pro"]),
    windows("Win2022Datacenter", "2022-datacenter-g2"),
    windows("Win2022AzureEditionCore", "2022-datacenter-azure-edition-core"),
    windows("Win2019Datacenter", "2019-datacenter-gensecond"),
    windows("Win2016Datacenter", "2016-datacenter-gensecond"),
    windows("Win2012R2Datacenter", "2012-R2-Datacenter"),
    windows("Win2012Datacenter", "2012-Datacenter"),
];

/// An alias by its name, without case.
pub fn find(name: &str) -> Option<&'static Alias> {
    ALIASES.iter().find(|alias| alias.name.eq_ignore_ascii_case(name))
}

/// Every alias whose SKU has a version that is deployable at `now`, with that version's row.
pub fn resolve(catalog: &Catalog, now: OffsetDateTime) -> Result<Vec<(&'static Alias, Value)>> {
    let mut resolved = Vec::new();
    for alias in ALIASES {
        let question = LatestQuestion::parse(alias.name, &[], None)?;
        let Ok(row) = question.answer(&catalog.index, now) else { continue };
        resolved.push((alias, catalog.read(catalog.at(row), now)?));
    }
    Ok(resolved)
}

/// The document that `az` reads its aliases from (`az cloud register --endpoint-vm-image-alias-doc`),
/// with the versions that the catalog holds; aliases without a deployable image are left out.
pub fn document(catalog: &Catalog, now: OffsetDateTime) -> Result<Value> {
    let mut groups = json!({});
    for (alias, row) in resolve(catalog, now)? {
        groups[alias.os][alias.name] = json!({
            "publisher": row["publisher"], "offer": row["offer"], "sku": row["sku"],
            "version": row["version"],
            "architecture": row["architecture"].as_str().unwrap_or("x64"),
        });
    }
    Ok(json!({
        "$schema": "http://schema.management.azure.com/schemas/2015-01-01/deploymentTemplate.json",
        "contentVersion": "1.0.0.0", "parameters": {}, "variables": {}, "resources": [],
        "outputs": {"aliases": {"type": "object", "value": groups}},
    }))
}
