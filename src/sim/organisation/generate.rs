//! Generation of organisations: the same size, locations and seed give the same one.

use super::{Organisation, SimDefinition, SimGallery, SimVersion};
use crate::sim::ids::subscription_id;
use crate::sim::times;
use crate::source::locations::short_name;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use time::{Duration, OffsetDateTime};

/// The size of a generated organisation: numbers of its resources.
#[derive(Debug, Clone, Copy)]
pub struct OrganisationSize {
    /// Subscriptions that it uses.
    pub subscriptions: u8,
    /// Galleries.
    pub galleries: usize,
    /// Image definitions in all galleries.
    pub definitions: usize,
    /// Versions of all definitions.
    pub versions: usize,
    /// Managed images.
    pub managed: usize,
    /// Machines and scale sets.
    pub machines: usize,
    /// Galleries that others share directly.
    pub shared: usize,
    /// Galleries of communities.
    pub communities: usize,
}

impl OrganisationSize {
    /// A few of everything.
    pub const FEW: Self = Self {
        subscriptions: 1,
        galleries: 3,
        definitions: 9,
        versions: 60,
        managed: 3,
        machines: 30,
        shared: 1,
        communities: 2,
    };

    /// A large tenant.
    pub const MANY: Self = Self {
        subscriptions: 40,
        galleries: 120,
        definitions: 3_000,
        versions: 60_000,
        managed: 400,
        machines: 5_000,
        shared: 4,
        communities: 30,
    };
}

/// The state of a generation.
struct Generator {
    random: StdRng,
    locations: Vec<String>,
    epoch: OffsetDateTime,
}

impl Organisation {
    /// An organisation of a size in `locations` (display names); the same `seed` gives the same
    /// one. Its machines use its own images and images of the marketplace.
    pub fn generate(size: OrganisationSize, locations: &[String], seed: u64) -> Self {
        let mut generator = Generator {
            random: StdRng::seed_from_u64(seed ^ 0x9a11),
            locations: locations.to_vec(),
            epoch: OffsetDateTime::from_unix_timestamp(1_793_491_200)
                .unwrap_or(OffsetDateTime::UNIX_EPOCH),
        };
        let mut organisation = Self::default();
        for number in 0..size.galleries {
            let subscription = subscription_id(subscription_of(number, size.subscriptions));
            let group = format!("rg-images-{}", number % 7);
            let mut gallery = generator.gallery(&format!("gallery_{number:03}"));
            (gallery.subscription, gallery.group) = (subscription, group);
            gallery.sharing = Generator::sharing(number);
            let definitions = share(size.definitions, size.galleries, number);
            for at in 0..definitions {
                let before = (0..number).map(|n| share(size.definitions, size.galleries, n));
                let versions = share(size.versions, size.definitions, before.sum::<usize>() + at);
                let definition = generator.definition(at, versions);
                gallery.definitions.insert(definition.name.to_ascii_lowercase(), definition);
            }
            organisation.galleries.insert(gallery.id().to_ascii_lowercase(), gallery);
        }
        for number in 0..size.shared {
            let owner = format!("33333333-3333-4333-8333-{number:012}");
            let gallery = generator.foreign(&format!("{owner}-PARTNER{number}"));
            organisation.shared.insert(gallery.name.to_ascii_lowercase(), gallery);
        }
        for number in 0..size.communities {
            let name = format!("Community{number}-44444444-4444-4444-8444-{number:012}");
            let gallery = generator.foreign(&name);
            organisation.communities.insert(name.to_ascii_lowercase(), gallery);
        }
        for number in 0..size.managed {
            let image = generator.managed(number, size.subscriptions);
            let id = image["id"].as_str().unwrap_or_default().to_ascii_lowercase();
            organisation.images.insert(id, image);
        }
        for number in 0..size.machines {
            let machine = generator.machine(number, size.subscriptions, &organisation);
            let id = machine["id"].as_str().unwrap_or_default().to_ascii_lowercase();
            organisation.machines.insert(id, machine);
        }
        organisation
    }
}

/// The number of the subscription that resource `number` is in, counted from 1.
fn subscription_of(number: usize, subscriptions: u8) -> u8 {
    u8::try_from(number % usize::from(subscriptions.max(1))).unwrap_or(0) + 1
}

/// How many of `all` resources owner `n` of `among` owners has; the first ones have one more.
fn share(all: usize, among: usize, n: usize) -> usize {
    all.checked_div(among).map_or(0, |each| each + usize::from(n < all % among))
}

impl Generator {
    /// The display name of a random location.
    fn location(&mut self) -> String {
        let at = self.random.random_range(0..self.locations.len().max(1));
        self.locations.get(at).cloned().unwrap_or_else(|| "East US".to_owned())
    }

    /// A random gallery without definitions.
    fn gallery(&mut self, name: &str) -> SimGallery {
        SimGallery {
            subscription: String::new(),
            group: String::new(),
            name: name.to_owned(),
            location: self.location(),
            description: self.random.random_bool(0.5).then(|| format!("Images of {name}")),
            sharing: None,
            soft_delete: None,
            tags: json!({"team": "platform"}),
            definitions: BTreeMap::new(),
        }
    }

    /// A gallery of another organisation: three definitions of four versions.
    fn foreign(&mut self, name: &str) -> SimGallery {
        let mut gallery = self.gallery(name);
        for at in 0..3 {
            let definition = self.definition(at, 4);
            gallery.definitions.insert(definition.name.to_ascii_lowercase(), definition);
        }
        gallery
    }

    /// The sharing profile of gallery `number`.
    fn sharing(number: usize) -> Option<Value> {
        match number % 4 {
            1 => Some(json!({"permissions": "Groups", "groups": [
                {"type": "Subscriptions", "ids": ["55555555-5555-4555-8555-555555555555"]}]})),
            3 => Some(json!({"permissions": "Community", "communityGalleryInfo": {
                "publicNamePrefix": "ours", "publisherContact": "images@example.com",
                "publisherUri": "https://example.com", "eula": "https://example.com/eula",
                "communityGalleryEnabled": true, "publicNames": [format!("ours-{number}")]}})),
            _ => None,
        }
    }

    /// A random time between two days, counted from the epoch.
    fn date(&mut self, from: i64, to: i64) -> String {
        let days = self.random.random_range(from..to);
        let at = self.epoch + Duration::days(days);
        times::of_compute(at)
    }

    /// A random image definition with this number of versions.
    fn definition(&mut self, at: usize, versions: usize) -> SimDefinition {
        let windows = self.random.random_bool(0.3);
        let (os, family) = if windows { ("Windows", "win") } else { ("Linux", "ubuntu") };
        let name = format!("{family}-{at:03}");
        let mut properties = json!({
            "osType": os,
            "osState": if self.random.random_bool(0.9) { "Generalized" } else { "Specialized" },
            "hyperVGeneration": if self.random.random_bool(0.8) { "V2" } else { "V1" },
            "architecture": if windows || self.random.random_bool(0.8) { "x64" } else { "Arm64" },
            "identifier": {"publisher": "contoso", "offer": family, "sku": format!("sku-{at}")},
            "provisioningState": "Succeeded",
        });
        if self.random.random_bool(0.4) {
            properties["features"] = json!([{"name": "SecurityType", "value": "TrustedLaunch"},
                {"name": "IsAcceleratedNetworkSupported", "value": "True"}]);
        }
        if self.random.random_bool(0.3) {
            properties["recommended"] =
                json!({"vCPUs": {"min": 2, "max": 16}, "memory": {"min": 4, "max": 64}});
            properties["disallowed"] = json!({"diskTypes": ["Standard_LRS"]});
        }
        if self.random.random_bool(0.1) {
            properties["purchasePlan"] =
                json!({"name": "plan", "publisher": "contoso", "product": "image"});
        }
        if self.random.random_bool(0.2) {
            properties["endOfLifeDate"] = self.date(-200, 400).into();
        }
        let mut all = BTreeMap::new();
        for number in 0..versions {
            let version = self.version(number);
            all.insert(version.name.clone(), version);
        }
        SimDefinition { name, properties, tags: json!({"os": os}), versions: all }
    }

    /// Random image version `number`.
    fn version(&mut self, number: usize) -> SimVersion {
        let state = match self.random.random_range(0..100) {
            0 => "Failed",
            1 => "Creating",
            _ => "Succeeded",
        };
        let mut names: BTreeSet<String> = BTreeSet::new();
        for _ in 0..self.random.random_range(1..=3) {
            names.insert(self.location());
        }
        let region = |(at, name): (usize, String)| {
            let mut region = json!({"name": name, "regionalReplicaCount": 1 + at,
                "storageAccountType": if at == 0 { "Standard_LRS" } else { "Standard_ZRS" }});
            if at == 1 && number.is_multiple_of(5) {
                region["excludeFromLatest"] = true.into();
            }
            region
        };
        SimVersion {
            name: format!("{}.{}.{}", 1 + number / 12, number % 12, number * 7 % 100),
            published: self.date(-900, -1),
            end_of_life: self.random.random_bool(0.2).then(|| self.date(-300, 500)),
            excluded: self.random.random_bool(0.1),
            regions: names.into_iter().enumerate().map(region).collect(),
            state,
            safety: json!({"reportedForPolicyViolation": false,
                "allowDeletionOfReplicatedLocations": false}),
            soft_deleted: None,
            tags: json!({"build": number.to_string()}),
        }
    }

    /// Random managed image `number`.
    fn managed(&mut self, number: usize, subscriptions: u8) -> Value {
        let subscription = subscription_id(subscription_of(number, subscriptions));
        // The list has the resource group in capitals.
        let id = format!(
            "/subscriptions/{subscription}/resourceGroups/RG-VM-{}/providers/\
             Microsoft.Compute/images/managed-{number}",
            number % 5
        );
        let machine = format!(
            "/subscriptions/{subscription}/resourceGroups/rg-vm-{}/providers/Microsoft.Compute/\
             virtualMachines/vm-{number}",
            number % 5
        );
        json!({"name": format!("managed-{number}"), "id": id, "type": "Microsoft.Compute/images",
            "location": short_name(&self.location()), "tags": {},
            "properties": {"sourceVirtualMachine": {"id": machine},
                "storageProfile": {"osDisk": {"osType": "Linux", "osState": "Generalized",
                    "diskSizeGB": 30, "caching": "ReadWrite", "storageAccountType": "Premium_LRS"},
                    "dataDisks": [], "zoneResilient": false},
                "provisioningState": "Succeeded", "hyperVGeneration": "V2"}})
    }

    /// A machine or scale set, whose image is a version of the organisation, a deleted version, or
    /// one of the marketplace.
    fn machine(&mut self, number: usize, subscriptions: u8, all: &Organisation) -> Value {
        let subscription = subscription_id(subscription_of(number, subscriptions));
        let set = number % 6 == 5;
        let (kind, resource, name) = if set {
            ("microsoft.compute/virtualmachinescalesets", "virtualMachineScaleSets", "vmss")
        } else {
            ("microsoft.compute/virtualmachines", "virtualMachines", "vm")
        };
        let id = format!(
            "/subscriptions/{subscription}/resourceGroups/rg-vm-{}/providers/Microsoft.Compute/\
             {resource}/{name}-{number}",
            number % 5
        );
        let at = short_name(&self.location());
        let image = self.reference(number, set, all);
        let profile = json!({"storageProfile": {"imageReference": image}});
        let properties = if set { json!({"virtualMachineProfile": profile}) } else { profile };
        json!({"id": id, "name": format!("{name}-{number}"), "type": kind, "location": at,
            "subscriptionId": subscription, "resourceGroup": format!("rg-vm-{}", number % 5),
            "properties": properties})
    }

    /// The image reference of machine `number`, a scale set or not.
    fn reference(&mut self, number: usize, set: bool, all: &Organisation) -> Value {
        let galleries: Vec<&SimGallery> = all.galleries.values().collect();
        let marketplace = |version: &str, exact: &str| {
            let mut image = json!({"publisher": "Canonical", "offer": "ubuntu-24_04-lts",
                "sku": "server", "version": version});
            if !set {
                image["exactVersion"] = exact.into();
            }
            image
        };
        if number.is_multiple_of(3) || galleries.is_empty() {
            return marketplace("latest", "24.04.202404230");
        }
        let gallery = galleries[self.random.random_range(0..galleries.len())];
        let definitions: Vec<&SimDefinition> = gallery.definitions.values().collect();
        if definitions.is_empty() {
            return marketplace("latest", "24.04.202404230");
        }
        let definition = definitions[self.random.random_range(0..definitions.len())];
        let base = format!("{}/images/{}", gallery.id(), definition.name);
        let names: Vec<&String> = definition.versions.keys().collect();
        if names.is_empty() || number % 11 == 1 {
            return json!({"id": format!("{base}/versions/0.0.1"), "exactVersion": "0.0.1"});
        }
        let version = names[self.random.random_range(0..names.len())];
        match number % 4 {
            1 if set => json!({"id": base}),
            1 => json!({"id": base, "exactVersion": version}),
            _ => json!({"id": format!("{base}/versions/{version}"), "exactVersion": version}),
        }
    }
}
