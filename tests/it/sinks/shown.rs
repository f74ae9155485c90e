//! Each command, and how it shows a text of a stranger.

use super::{Strangers, assert_harmless};
use crate::support::strangers::FEW;
use crate::support::{Azure, finish, rows, write_rows};
use azimg::testing::sim::{OrganisationSize, World};
use serde_json::{Value, json as value};
use std::process::Command;
use tempfile::TempDir;

/// Where commands look: a catalog of what strangers named, and what it was crawled from.
pub(super) struct Named {
    azure: Azure,
    gallery: String,
    registry: Strangers,
    folder: TempDir,
}

impl Named {
    pub(super) fn crawled() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("catalog.ndjson");
        let catalog: Vec<Value> = FEW
            .iter()
            .map(|text| value!({"publisher": text, "offer": text, "sku": text, "version": "1.0.0"}))
            .collect();
        write_rows(&file, &catalog);
        let mut world =
            World::load(&[&file]).unwrap().with_generated_organisation(OrganisationSize::FEW, 5);
        let tags =
            || FEW.iter().map(|text| (text.clone(), Value::from(text.as_str()))).collect::<Value>();
        let own = &mut world.organisation;
        for gallery in own.galleries.values_mut() {
            gallery.description = Some(FEW[0].clone());
            gallery.tags = tags();
            for definition in gallery.definitions.values_mut() {
                definition.tags = tags();
                for name in ["description", "eula", "releaseNoteUri", "privacyStatementUri"] {
                    definition.properties[name] = FEW[6].clone().into();
                }
                for version in definition.versions.values_mut() {
                    version.tags = tags();
                }
            }
        }
        let gallery = own.galleries.values().next().unwrap().id();
        let (azure, registry) = (Azure::start(world), Strangers::start(""));
        let this = Self { azure, gallery, registry, folder };
        let (code, _, stderr) = finish(&mut this.azimg(&["crawl", "--details", "none"]));
        assert!(matches!(code, 0 | 3), "{stderr}");
        assert_harmless(&stderr, "crawl");
        this
    }

    fn store(&self) -> std::path::PathBuf {
        self.folder.path().join("store")
    }

    pub(super) fn azimg(&self, arguments: &[&str]) -> Command {
        let store = self.store();
        let mut all = arguments.to_vec();
        all.extend(["--store", store.to_str().unwrap()]);
        let mut command = self.azure.azimg(&all);
        command.env("AZIMG_REGISTRIES", &self.registry.address);
        command
    }
}

/// How a command is run so that it shows what it can; nothing where it shows nothing that others named.
pub(super) fn shows(command: &str, at: &Named) -> Option<Vec<Vec<String>>> {
    let registry = &at.registry.address;
    let app = format!("{registry}/app");
    let version = format!("{registry}/app:v1");
    // No argument of a program can have it.
    let fits = |text: &str| !text.contains('\0');
    let catalog = rows(&at.store());
    let mut ids = catalog.iter().map(|row| row["id"].as_str().unwrap());
    let image = ids.find(|id| fits(id) && id.contains('\u{1b}')).unwrap();
    let description = FEW.iter().find(|text| fits(text)).unwrap();
    let sku = image.rsplit_once(':').unwrap().0.to_owned();
    let current: Value = crate::support::read_json(&at.store().join("current.json"));
    let run = current["run"].as_str().unwrap().to_owned();
    let gallery = at.gallery.as_str();
    let lines: &[&[&str]] = match command {
        "images list" => {
            &[&[], &["--kind", "gallery-version"], &["--kind", "container-manifest"], &["--live"]]
        }
        "images show" => &[&[image]],
        "images latest" => &[&[&sku]],
        "images usage" => &[&["--all"]],
        "images aliases" => &[&[], &["--az"]],
        "publishers" | "offers" | "skus" | "locations" | "changes" | "config show"
        | "runs list" | "runs verify" | "doctor" | "gallery list" | "gallery images"
        | "gallery versions" | "registry list" => &[&[]],
        "gallery show" | "gallery share" => &[&[gallery]],
        "gallery update" => &[&[gallery, "--description", description, "--dry-run"]],
        "gallery unshare" => &[&[gallery, "--all", "--dry-run"]],
        "gallery retire" => &[&["--keep", "1", "--older-than", "0"]],
        "registry repositories" => &[&[registry, "--anonymous"], &[registry, "--storage"]],
        "registry tags" | "registry manifests" => &[&[&app, "--anonymous"]],
        "registry show" | "registry inspect" => {
            &[&[&version, "--anonymous"], &[&app, "--anonymous"]]
        }
        "registry copy" => &[&[&version, &app, "--dry-run", "--anonymous"]],
        "registry tag" => &[&[&version, "v2", "--dry-run", "--anonymous"]],
        "registry set" => &[&[&version, "--write-enabled", "false", "--dry-run", "--anonymous"]],
        "registry delete" => &[&[&version, "--dry-run", "--anonymous"]],
        "registry purge" => &[&[registry, "--repository", "app", "--untagged", "--anonymous"]],
        "runs show" | "runs publish" => &[&[&run]],
        // Ours alone, or bytes: what they say on stderr goes through the sink of all.
        "crawl" | "serve" | "host" | "page" | "sim" | "package" | "schema" | "completions"
        | "man" | "gallery wait" | "registry push" | "registry pull" | "registry attach" => {
            return None;
        }
        other => {
            panic!("'{other}' is new: say how it shows what strangers named, or that it does not")
        }
    };
    let owned = |line: &&[&str]| {
        let words = command.split(' ').chain(line.iter().copied());
        words.map(str::to_owned).collect()
    };
    Some(lines.iter().map(owned).collect())
}
