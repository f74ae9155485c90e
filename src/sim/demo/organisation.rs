//! Contoso, an organisation that runs its machines on images of its own and of the marketplace.

use super::{before, choice, subscription};
use crate::sim::organisation::{Organisation, SimDefinition, SimGallery, SimVersion};
use crate::sim::times::of_compute;
use crate::sim::world::Publisher;
use crate::source::locations::short_name;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use time::Date;

/// An image definition: name, publisher:offer:sku of its identifier, whether it is for Windows, its
/// security type, the number of versions, the days between two of them.
struct Definition(&'static str, [&'static str; 3], bool, Option<&'static str>, i64, i64);

/// A gallery: name, resource group, location, description, definitions.
struct Gallery(&'static str, &'static str, &'static str, &'static str, &'static [Definition]);

const TRUSTED: Option<&str> = Some("TrustedLaunchSupported");

const GALLERIES: &[Gallery] = &[
    Gallery(
        "gal_platform_prod",
        "rg-platform-images",
        "West Europe",
        "Hardened base images of the platform team",
        &[
            Definition(
                "ubuntu-2404-base",
                ["contoso", "linux-base", "ubuntu-2404"],
                false,
                TRUSTED,
                18,
                14,
            ),
            Definition(
                "ubuntu-2404-arm64",
                ["contoso", "linux-base", "ubuntu-2404-arm64"],
                false,
                None,
                9,
                28,
            ),
            Definition(
                "ubuntu-2204-base",
                ["contoso", "linux-base", "ubuntu-2204"],
                false,
                TRUSTED,
                22,
                14,
            ),
            Definition(
                "rhel-9-cis",
                ["contoso", "linux-base", "rhel-9-cis"],
                false,
                TRUSTED,
                11,
                30,
            ),
            Definition("win2022-base", ["contoso", "windows-base", "2022"], true, TRUSTED, 14, 30),
            Definition(
                "win2025-core",
                ["contoso", "windows-base", "2025-core"],
                true,
                TRUSTED,
                6,
                30,
            ),
            Definition(
                "aks-node-2404",
                ["contoso", "kubernetes", "node-2404"],
                false,
                TRUSTED,
                16,
                7,
            ),
        ],
    ),
    Gallery(
        "gal_build_agents",
        "rg-devops",
        "North Europe",
        "Agents of Azure Pipelines and GitHub Actions",
        &[
            Definition(
                "agent-ubuntu-2404",
                ["contoso", "build-agent", "ubuntu-2404"],
                false,
                None,
                20,
                7,
            ),
            Definition("agent-win2022", ["contoso", "build-agent", "win2022"], true, None, 12, 14),
        ],
    ),
    Gallery(
        "gal_data_science",
        "rg-data-images",
        "Sweden Central",
        "Images with drivers for GPUs",
        &[
            Definition(
                "jupyter-gpu",
                ["contoso", "data-science", "jupyter-gpu"],
                false,
                None,
                7,
                45,
            ),
            Definition(
                "spark-node-35",
                ["contoso", "data-science", "spark-35"],
                false,
                None,
                5,
                60,
            ),
        ],
    ),
];

/// A machine or scale set: name, group, location, image. An image is `gallery/definition/version`,
/// with a version counted back from the newest (`-2`), `gone` or nothing for the latest; or a URN.
const MACHINES: &[[&str; 4]] = &[
    ["vmss-web-prod", "rg-web-prod", "West Europe", "gal_platform_prod/ubuntu-2404-base/"],
    ["vmss-web-stage", "rg-web-stage", "West Europe", "gal_platform_prod/ubuntu-2404-base/-1"],
    ["vmss-api-prod", "rg-api-prod", "West Europe", "gal_platform_prod/ubuntu-2404-base/-3"],
    ["vmss-api-prod-us", "rg-api-prod", "East US", "gal_platform_prod/ubuntu-2404-base/-3"],
    ["vmss-worker-prod", "rg-api-prod", "West Europe", "gal_platform_prod/ubuntu-2404-arm64/-1"],
    ["aks-system-vmss", "rg-aks-prod-nodes", "West Europe", "gal_platform_prod/aks-node-2404/-2"],
    ["aks-user-vmss", "rg-aks-prod-nodes", "West Europe", "gal_platform_prod/aks-node-2404/-5"],
    ["vmss-agents-linux", "rg-devops", "North Europe", "gal_build_agents/agent-ubuntu-2404/"],
    ["vmss-agents-windows", "rg-devops", "North Europe", "gal_build_agents/agent-win2022/"],
    ["vm-erp-app-01", "rg-erp", "West Europe", "gal_platform_prod/win2022-base/-4"],
    ["vm-erp-app-02", "rg-erp", "West Europe", "gal_platform_prod/win2022-base/-4"],
    ["vm-erp-db-01", "rg-erp", "West Europe", "gal_platform_prod/rhel-9-cis/-7"],
    ["vm-erp-db-02", "rg-erp", "West Europe", "gal_platform_prod/rhel-9-cis/gone"],
    ["vm-dc-weu-01", "rg-identity", "West Europe", "gal_platform_prod/win2025-core/"],
    ["vm-dc-weu-02", "rg-identity", "West Europe", "gal_platform_prod/win2025-core/-1"],
    ["vm-billing-01", "rg-billing", "North Europe", "gal_platform_prod/ubuntu-2204-base/-9"],
    ["vm-billing-02", "rg-billing", "North Europe", "gal_platform_prod/ubuntu-2204-base/-9"],
    ["vm-reports-01", "rg-billing", "North Europe", "gal_platform_prod/ubuntu-2204-base/gone"],
    ["vm-jupyter-01", "rg-data-science", "Sweden Central", "gal_data_science/jupyter-gpu/"],
    ["vm-jupyter-02", "rg-data-science", "Sweden Central", "gal_data_science/jupyter-gpu/-2"],
    ["vmss-spark", "rg-data-science", "Sweden Central", "gal_data_science/spark-node-35/"],
    ["vm-jump-weu", "rg-network", "West Europe", "Canonical:ubuntu-24_04-lts:server:latest"],
    ["vm-jump-sea", "rg-network", "Southeast Asia", "Canonical:ubuntu-24_04-lts:server:-6"],
    ["vm-fw-weu-01", "rg-network", "West Europe", "paloaltonetworks:vmseries-flex:byol:-2"],
    ["vm-fw-weu-02", "rg-network", "West Europe", "paloaltonetworks:vmseries-flex:byol:-2"],
    ["vm-legacy-crm", "rg-legacy", "East US", "OpenLogic:CentOS:7_9-gen2:-1"],
    ["vm-legacy-ftp", "rg-legacy", "East US", "Canonical:UbuntuServer:18_04-lts-gen2:-4"],
    [
        "vm-legacy-print",
        "rg-legacy",
        "UK South",
        "MicrosoftWindowsServer:WindowsServer:2012-R2-Datacenter:-2",
    ],
    ["vm-gitlab", "rg-devops", "North Europe", "gitlabinc1586447921813:gitlabee:default:-1"],
    [
        "vm-sql-prod-01",
        "rg-erp",
        "West Europe",
        "MicrosoftSQLServer:sql2022-ws2022:enterprise-gen2:-3",
    ],
    [
        "vm-sql-prod-02",
        "rg-erp",
        "West Europe",
        "MicrosoftSQLServer:sql2022-ws2022:enterprise-gen2:-3",
    ],
    ["vm-monitoring", "rg-platform", "West Europe", "Debian:debian-12:12-gen2:-5"],
    ["vm-vpn-qatar", "rg-network", "Qatar Central", "Debian:debian-13:13-gen2:latest"],
    ["vmss-avd-pool", "rg-avd", "UK South", "MicrosoftWindowsDesktop:windows-11:win11-24h2-ent:-2"],
];

/// Version `age` of a definition, counted back from the newest.
fn version(today: Date, of: &Definition, age: i64, home: &str) -> SimVersion {
    let Definition(name, _, _, _, count, every) = of;
    let number = count - age;
    let first = 2 + i64::try_from(choice(name) % 9).unwrap_or_default();
    let published = before(today, first + age * every);
    let regions: &[&str] = match age {
        0..4 => &["West Europe", "North Europe", "East US", "Southeast Asia"],
        4..10 => &["West Europe", "North Europe"],
        _ => &[],
    };
    let all = std::iter::once(home).chain(regions.iter().copied().filter(|region| *region != home));
    let region = |(at, name): (usize, &str)| {
        json!({"name": name, "regionalReplicaCount": if at == 0 { 2 } else { 1 },
            "storageAccountType": if at == 0 { "Standard_ZRS" } else { "Standard_LRS" }})
    };
    SimVersion {
        name: format!("{}.{}.{}", published.year(), u8::from(published.month()), number),
        published: of_compute(published),
        end_of_life: (age > 0).then(|| of_compute(before(today, -(200 - age * every)))),
        excluded: age == 1 && choice(name).is_multiple_of(3),
        regions: all.enumerate().map(region).collect(),
        state: if age == 2 && *name == "spark-node-35" { "Failed" } else { "Succeeded" },
        safety: json!({"reportedForPolicyViolation": false,
            "allowDeletionOfReplicatedLocations": false}),
        soft_deleted: None,
        tags: json!({"pipeline": "images", "build": format!("{}{:02}.{}", published.year(), u8::from(published.month()), number),
            "commit": format!("{:08x}", choice(&format!("{name}{number}")) & 0xffff_ffff)}),
    }
}

fn definition(today: Date, of: &Definition, home: &str) -> SimDefinition {
    let Definition(name, [publisher, offer, sku], is_windows, security, count, _) = of;
    let mut properties = json!({
        "osType": if *is_windows { "Windows" } else { "Linux" },
        "osState": "Generalized",
        "hyperVGeneration": "V2",
        "architecture": if name.ends_with("arm64") { "Arm64" } else { "x64" },
        "identifier": {"publisher": publisher, "offer": offer, "sku": sku},
        "recommended": {"vCPUs": {"min": 2, "max": 32}, "memory": {"min": 4, "max": 256}},
        "provisioningState": "Succeeded",
    });
    if let Some(security) = security {
        properties["features"] = json!([{"name": "SecurityType", "value": security},
            {"name": "IsAcceleratedNetworkSupported", "value": "True"}]);
    }
    if name.contains("2204") {
        properties["endOfLifeDate"] = of_compute(before(today, -120)).into();
    }
    let versions = (0..*count).map(|age| version(today, of, age, home));
    let versions = versions.map(|version| (version.name.clone(), version)).collect();
    let tags = json!({"owner": "platform-team", "cost-center": "4711"});
    SimDefinition { name: (*name).to_owned(), properties, tags, versions }
}

fn gallery(today: Date, of: &Gallery) -> SimGallery {
    let Gallery(name, group, location, description, definitions) = of;
    let made = definitions.iter().map(|of| definition(today, of, location));
    SimGallery {
        subscription: subscription(),
        group: (*group).to_owned(),
        name: (*name).to_owned(),
        location: (*location).to_owned(),
        description: Some((*description).to_owned()),
        sharing: (*name == "gal_build_agents").then(|| {
            json!({"permissions": "Groups", "groups": [{"type": "Subscriptions",
                "ids": ["55555555-5555-4555-8555-555555555555"]}]})
        }),
        soft_delete: None,
        tags: json!({"owner": "platform-team"}),
        definitions: made.map(|made| (made.name.to_ascii_lowercase(), made)).collect(),
    }
}

/// The image that a machine refers to: the version is counted back from the newest one.
fn reference(image: &str, publishers: &[Publisher], galleries: &[SimGallery]) -> Option<Value> {
    let back =
        |version: &str| version.strip_prefix('-').and_then(|back| back.parse::<usize>().ok());
    if let [publisher, offer, sku, version] = image.split(':').collect::<Vec<_>>()[..] {
        let publisher = publishers.iter().find(|known| known.name == publisher)?;
        let known = publisher.offers.iter().find(|known| known.name == offer)?;
        let known = known.skus.iter().find(|known| known.name == sku)?;
        let exact = known.versions.iter().rev().nth(back(version).unwrap_or(0))?;
        let pinned = if version == "latest" { version } else { &exact.version };
        return Some(json!({"publisher": publisher.name, "offer": offer, "sku": sku,
            "version": pinned, "exactVersion": exact.version}));
    }
    let [gallery, definition, version] = image.split('/').collect::<Vec<_>>()[..] else {
        return None;
    };
    let gallery = galleries.iter().find(|known| known.name == gallery)?;
    let known = gallery.definitions.get(definition)?;
    let base = format!("{}/images/{definition}", gallery.id());
    let mut names: Vec<(&str, &str)> = known
        .versions
        .values()
        .map(|version| (version.published.as_str(), version.name.as_str()))
        .collect();
    names.sort_unstable_by(|a, b| b.cmp(a));
    let exact = match version {
        "gone" => "2024.3.1",
        version => names.get(back(version).unwrap_or(0))?.1,
    };
    if version.is_empty() {
        return Some(json!({"id": base, "exactVersion": exact}));
    }
    Some(json!({"id": format!("{base}/versions/{exact}"), "exactVersion": exact}))
}

fn machine(
    [name, group, location, image]: &[&str; 4],
    publishers: &[Publisher],
    galleries: &[SimGallery],
) -> Option<Value> {
    let mut image = reference(image, publishers, galleries)?;
    let is_set = name.contains("vmss");
    let (kind, resource) = if is_set {
        ("microsoft.compute/virtualmachinescalesets", "virtualMachineScaleSets")
    } else {
        ("microsoft.compute/virtualmachines", "virtualMachines")
    };
    if let (true, Some(image)) = (is_set, image.as_object_mut()) {
        // Azure reports the exact version of machines only.
        image.remove("exactVersion");
    }
    let subscription = subscription();
    let id = format!(
        "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Compute/\
         {resource}/{name}"
    );
    let profile = json!({"storageProfile": {"imageReference": image}});
    let properties = if is_set { json!({"virtualMachineProfile": profile}) } else { profile };
    Some(json!({"id": id, "name": name, "type": kind, "location": short_name(location),
        "subscriptionId": subscription, "resourceGroup": group, "properties": properties}))
}

/// A managed image that was made from a machine before there were galleries.
fn managed(name: &str, group: &str, os: &str) -> Value {
    let subscription = subscription();
    let base =
        format!("/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Compute");
    json!({"name": name, "id": format!("{base}/images/{name}"), "type": "Microsoft.Compute/images",
        "location": "eastus", "tags": {"owner": "erp-team"},
        "properties": {"sourceVirtualMachine": {"id": format!("{base}/virtualMachines/{name}-vm")},
            "storageProfile": {"osDisk": {"osType": os, "osState": "Generalized",
                "diskSizeGB": 128, "caching": "ReadWrite", "storageAccountType": "Premium_LRS"},
                "dataDisks": [], "zoneResilient": false},
            "provisioningState": "Succeeded", "hyperVGeneration": "V1"}})
}

/// A gallery of another organisation, with one definition.
fn foreign(today: Date, name: &str, location: &str, of: &Definition) -> SimGallery {
    let made = definition(today, of, location);
    SimGallery {
        subscription: String::new(),
        group: String::new(),
        name: name.to_owned(),
        location: location.to_owned(),
        description: None,
        sharing: None,
        soft_delete: None,
        tags: json!({}),
        definitions: BTreeMap::from([(made.name.to_ascii_lowercase(), made)]),
    }
}

/// The organisation as it stands on this day. Its machines use images of `publishers`.
pub(super) fn contoso(today: Date, publishers: &[Publisher]) -> Organisation {
    let galleries: Vec<SimGallery> = GALLERIES.iter().map(|of| gallery(today, of)).collect();
    let by_id =
        |value: Value| (value["id"].as_str().unwrap_or_default().to_ascii_lowercase(), value);
    let by_name = |gallery: SimGallery| (gallery.name.to_ascii_lowercase(), gallery);
    let machines = MACHINES.iter().filter_map(|of| machine(of, publishers, &galleries)).map(by_id);
    let images = [
        managed("golden-erp-2021", "rg-erp", "Windows"),
        managed("golden-ftp-2019", "rg-legacy", "Linux"),
    ];
    let sap = Definition("sles-15-sp6-sap", ["fabrikam", "sap", "sles-15-sp6"], false, None, 4, 60);
    let appliance = Definition("scanner", ["tailspin", "scanner", "v3"], false, None, 5, 40);
    let shared =
        foreign(today, "33333333-3333-4333-8333-000000000001-GAL_SAP_BASIS", "West Europe", &sap);
    let community = foreign(
        today,
        "TailspinSecurity-44444444-4444-4444-8444-000000000001",
        "East US",
        &appliance,
    );
    let mut organisation = Organisation {
        machines: machines.collect(),
        images: images.into_iter().map(by_id).collect(),
        shared: [shared].into_iter().map(by_name).collect(),
        communities: [community].into_iter().map(by_name).collect(),
        ..Organisation::default()
    };
    organisation.galleries =
        galleries.into_iter().map(|gallery| (gallery.id().to_ascii_lowercase(), gallery)).collect();
    organisation
}
