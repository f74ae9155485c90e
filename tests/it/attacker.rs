//! Whatever a command, a message or an answer names: no credential reaches who has no business with it.

use crate::support::attacker::{Attacker, LOOKALIKES, REGISTRY, Role, Trick};
use crate::support::faulty::{Fault, Faulty, How};
use crate::support::registries::world;
use crate::support::{Azure, azimg, finish, threads};
use crate::tests;
use azimg::testing::config::{Config, Flags};
use azimg::testing::functions::{App, Effects, Event, Function, Trigger, WORK};
use azimg::testing::sim::SimCredential;
use azimg::testing::work::{
    AtRegistry, Details, GalleryScope, OwnGallery, RegistryScope, RunId, Scope, Sharing,
    SourceName, WorkItem,
};
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use time::OffsetDateTime;

tests![
    no_registry_command_signs_in_at_an_untrusted_registry,
    no_registry_command_follows_a_redirect_with_a_credential,
    only_a_registry_named_as_trusted_gets_the_identity_token,
    registries_listed_by_azure_need_a_name_of_the_cloud,
    messages_about_items_outside_their_run_are_dropped_without_requests,
];

const PASSWORD: &str = "correct-horse-battery";

/// Every command of `azimg registry`, with arguments that make it ask the registry `at`.
fn commands(at: &str, folder: &Path) -> Vec<(&'static str, Vec<String>)> {
    let file = folder.join("pushed.txt");
    std::fs::write(&file, "a text").unwrap();
    let to = folder.join("pulled");
    let _ = std::fs::remove_dir_all(&to);
    let (image, app) = (format!("{at}/app:v1"), format!("{at}/app"));
    let other = format!("{at}/other");
    let (file, to) = (file.to_str().unwrap(), to.to_str().unwrap());
    let all: [(&str, &[&str]); 14] = [
        ("list", &[]),
        ("repositories", &[at]),
        ("tags", &[&app]),
        ("manifests", &[&app]),
        ("show", &[&image]),
        ("inspect", &[&image]),
        ("push", &[&image, file]),
        ("pull", &[&image, to]),
        ("attach", &[&image, file, "--artifact-type", "text/plain"]),
        ("copy", &[&image, &other, "--with-referrers"]),
        ("tag", &[&image, "v2"]),
        ("set", &[&image, "--write-enabled", "false"]),
        ("delete", &[&image]),
        ("purge", &[at, "--repository", "app", "--keep", "1", "--yes", "--ignore-use"]),
    ];
    let line = |(name, rest): (&'static str, &[&str])| {
        let all = ["registry", name].into_iter().chain(rest.iter().copied());
        (name, all.map(str::to_owned).collect())
    };
    all.into_iter().map(line).collect()
}

/// The commands that the program itself names.
fn known() -> BTreeSet<String> {
    let (code, help, _) = finish(&mut azimg(&["registry", "--help"]));
    assert_eq!(code, 0);
    let commands = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let name = |line: &str| {
        let name = line.strip_prefix("  ")?.split(' ').next()?;
        (!name.is_empty() && name != "help").then(|| name.to_owned())
    };
    commands.lines().filter_map(name).collect()
}

/// An Azure, an attacker, and a folder that what commands write goes to.
struct Stage {
    azure: Azure,
    attacker: Attacker,
    folder: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let attacker = Attacker::start();
        attacker.must_not_hear(PASSWORD);
        Self { azure: Azure::start(world(3)), attacker, folder: tempfile::tempdir().unwrap() }
    }

    /// The executable, signed in to Azure, for whom every name leads to the attacker.
    fn azimg(&self, line: &[String]) -> Command {
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        let mut command = self.azure.azimg(&line);
        command.current_dir(self.folder.path());
        self.attacker.leads(&mut command);
        command
    }

    /// All commands that ask a registry, at `at`.
    fn commands(&self, at: &str) -> Vec<(&'static str, Vec<String>)> {
        let all = commands(at, self.folder.path());
        let names: BTreeSet<String> = all.iter().map(|(name, _)| (*name).to_owned()).collect();
        // A new command is one line more in `commands`.
        assert_eq!(known(), names, "the commands that are tried here are those that there are");
        all.into_iter().filter(|(name, _)| *name != "list").collect()
    }
}

fn no_registry_command_signs_in_at_an_untrusted_registry() {
    let stage = Stage::new();
    let attacker = &stage.attacker;
    let refused = |at: &str, name: &str, line: &[String]| {
        let (code, _, err) = finish(&mut stage.azimg(line));
        assert_eq!(code, 1, "{name} {at}: {err}");
        for part in [at, "--trust", "--anonymous", "--username", "AZIMG_REGISTRIES"] {
            assert!(err.contains(part), "{name} {at}: {err}");
        }
        attacker.assert_untouched(&format!("{name} {at}"));
    };
    // Over https by a foreign name, and over http on this machine, where nobody named it.
    for at in [REGISTRY, &attacker.registry] {
        for (name, line) in stage.commands(at) {
            refused(at, name, &line);
        }
    }
    let port = attacker.registry.split(':').nth(1).unwrap();
    let also = [
        format!("localhost:{port}"),
        "mycompany.azurecr.io:8443".to_owned(),
        "mycompany.azurecr.io.".to_owned(),
        format!("2130706433:{port}"),
    ];
    for at in LOOKALIKES.into_iter().chain(also.iter().map(String::as_str)) {
        let line = ["registry", "tags", &format!("{at}/app")].map(str::to_owned);
        refused(at, "tags", &line);
    }
}

fn no_registry_command_follows_a_redirect_with_a_credential() {
    let stage = Stage::new();
    let attacker = &stage.attacker;
    for trick in Trick::ALL {
        attacker.plays(trick);
        for (name, mut line) in stage.commands(REGISTRY) {
            attacker.forget();
            line.push("--anonymous".to_owned());
            finish(&mut stage.azimg(&line));
            let what = format!("{name} {trick:?}");
            assert!(attacker.log().iter().any(|one| one.role == Role::Registry), "{what}");
            attacker.assert_no_credential(&what);
            // A password is for who was named with it, and for nobody that this one names.
            attacker.forget();
            line.pop();
            line.extend(["--username", "admin"].map(str::to_owned));
            finish(stage.azimg(&line).env("AZIMG_REGISTRY_PASSWORD", PASSWORD));
            let found = attacker.credentials();
            assert!(found.iter().all(|(role, _)| *role == Role::Registry), "{what}: {found:?}");
            assert!(!found.is_empty(), "{what}: the harness sees what is sent");
        }
    }
}

fn only_a_registry_named_as_trusted_gets_the_identity_token() {
    let stage = Stage::new();
    let attacker = &stage.attacker;
    for trick in Trick::ALL {
        attacker.plays(trick);
        for (number, (name, mut line)) in stage.commands(REGISTRY).into_iter().enumerate() {
            attacker.forget();
            let what = format!("{name} {trick:?}");
            // Named for once, or for good.
            let is_setting = number % 2 == 0;
            if !is_setting {
                line.extend(["--trust", "other.example", "--trust", REGISTRY].map(str::to_owned));
            }
            let mut command = stage.azimg(&line);
            if is_setting {
                command.env("AZIMG_REGISTRIES", format!("other.example,{REGISTRY}"));
            }
            let (code, _, err) = finish(&mut command);
            if trick == Trick::Serves && !matches!(name, "push" | "set" | "attach" | "copy" | "tag")
            {
                assert_eq!(code, 0, "{what}: {err}");
            }
            let found = attacker.credentials();
            assert!(found.iter().all(|(role, _)| *role == Role::Registry), "{what}: {found:?}");
            let exchange = |one: &&crate::support::attacker::Received| {
                one.line.contains("POST /oauth2/exchange") && one.body.contains("access_token=eyJ")
            };
            assert_eq!(attacker.log().iter().filter(exchange).count() > 0, !found.is_empty());
            assert!(!found.is_empty(), "{what}: the harness sees what is sent");
        }
    }
    let bad = ["registry", "tags", "example.azurecr.io/app", "--trust", "a/b"].map(str::to_owned);
    let (code, _, err) = finish(&mut stage.azimg(&bad));
    assert!(code == 2 && err.contains("--trust: 'a/b' is not a login server"), "{err}");
}

fn registries_listed_by_azure_need_a_name_of_the_cloud() {
    let attacker = Attacker::start();
    let azure = Azure::start(world(3));
    let subscription = azure.sim.subscriptions[0].clone();
    let registry = |name: &str, server: &str| {
        serde_json::json!({"id": format!("/subscriptions/{subscription}/resourceGroups/rg/providers/\
             Microsoft.ContainerRegistry/registries/{name}"), "name": name, "location": "eastus",
            "sku": {"name": "Basic"}, "properties": {"loginServer": server}})
    };
    let listed = serde_json::json!({"value": [registry("mycompany", REGISTRY)]}).to_string();
    // A page more, somewhere else.
    let next = format!("{}/subscriptions?api-version=1", attacker.manager);
    let led = serde_json::json!({"value": [], "nextLink": next}).to_string();
    for (body, part) in [(listed, "and not trusted"), (led, "")] {
        let how = How::Answer(200, &[("content-type", "application/json")], body.leak());
        let faults = vec![Fault::new("microsoft.containerregistry/registries", 9, how)];
        let faulty = Faulty::start(Azure::start(world(3)), faults);
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().to_str().unwrap();
        let line = ["crawl", "--source", "registry", "--store", store, "-o", "json"];
        let mut command = faulty.azimg(&line);
        attacker.leads(&mut command);
        let (code, out, err) = finish(&mut command);
        assert_eq!(code, 3, "{out} {err}");
        let (_, shown, _) = finish(&mut azimg(&["runs", "show", "--store", store, "-o", "json"]));
        assert!(shown.contains(part), "{shown}");
        attacker.assert_untouched(part);
    }
}

const OTHER: &str = "99999999-9999-4999-8999-999999999999";

/// Scopes of registries that no run of an Azure with one subscription has, with what they are refused for.
fn strange_registries(own: &str, server: &str) -> [(RegistryScope, &'static str); 9] {
    let text = str::to_owned;
    let (details, at) = (Details::Latest, |owner: Option<&str>| AtRegistry {
        login_server: server.to_owned(),
        registry_id: owner.map(|owner| format!("/subscriptions/{owner}/resourceGroups/r/x/y")),
        location: None,
        sku: None,
    });
    let login_server = || server.to_owned();
    [
        (RegistryScope::Registry { at: at(None), details }, "the registry"),
        (RegistryScope::Registry { at: at(Some(OTHER)), details }, "the subscription"),
        (RegistryScope::Registry { at: at(Some(own)), details }, "lists this registry"),
        (
            RegistryScope::Repositories {
                login_server: login_server(),
                repositories: vec![text("app")],
                after: None,
                details,
            },
            "lists this registry",
        ),
        (
            RegistryScope::Tags { login_server: login_server(), repository: text("app") },
            "lists this registry",
        ),
        (
            RegistryScope::Contents { login_server: login_server(), manifests: Vec::new() },
            "lists this registry",
        ),
        (
            RegistryScope::Findings { login_server: login_server(), subscription: text(own) },
            "lists this registry",
        ),
        (
            RegistryScope::Findings { login_server: login_server(), subscription: text(OTHER) },
            "the subscription",
        ),
        (
            RegistryScope::Registries { subscription: text(OTHER), state: None, details },
            "the subscription",
        ),
    ]
}

/// Items that no run of an Azure with one subscription has, with what they are refused for.
fn strange_items(run: RunId, own: &str, server: &str) -> Vec<(WorkItem, &'static str)> {
    let text = str::to_owned;
    let details = Details::Latest;
    let registries = strange_registries(own, server);
    let gallery =
        OwnGallery { subscription: text(OTHER), resource_group: text("r"), gallery: text("g") };
    let foreign = |location: &str, through: &str| GalleryScope::Foreign {
        location: text(location),
        subscription: text(through),
        otherwise: vec![text(own)],
        sharing: Sharing::Tenant,
        gallery: text("g"),
    };
    let galleries = [
        (GalleryScope::Replication { own: gallery, versions: Vec::new() }, "the subscription"),
        (foreign("eastus", OTHER), "the subscription"),
        (foreign("moon", own), "the location"),
    ];
    let publisher = |location: &str, otherwise: &str| Scope::Publisher {
        location: text(location),
        subscription: text(own),
        otherwise: vec![text(otherwise)],
        publisher: text("p"),
        known: None,
        details,
    };
    let places = [
        (publisher("eastus", OTHER), "the subscription"),
        (publisher("moon", own), "the location"),
    ];
    let of = |source| move |(scope, why)| (WorkItem::new(run, source, scope), why);
    let registries = registries.into_iter().map(|(scope, why)| (Scope::Registry(scope), why));
    let galleries = galleries.into_iter().map(|(scope, why)| (Scope::Gallery(scope), why));
    registries
        .map(of(SourceName::Registry))
        .chain(galleries.map(of(SourceName::Gallery)))
        .chain(places.into_iter().map(of(SourceName::Marketplace)))
        .collect()
}

async fn call(app: &App, name: &str, trigger: Trigger) -> Effects {
    let run = Function::named(name).unwrap().run.unwrap();
    let event = Event { now: OffsetDateTime::now_utc(), invocation: "one".into(), trigger };
    run(app, event).await.unwrap()
}

fn app(azure: &Azure, store: &Path) -> Arc<App> {
    let flags = Flags { store: Some(store.to_str().unwrap().into()), ..Flags::default() };
    let config = Config::from(HashMap::new(), flags).unwrap();
    let config = config.with_resource_manager(azure.running.arm.clone(), Arc::new(SimCredential));
    config.app().unwrap().0
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        found.extend(if path.is_dir() { files(&path) } else { vec![path] });
    }
    found.sort();
    found
}

fn messages_about_items_outside_their_run_are_dropped_without_requests() {
    let (attacker, azure) = (Attacker::start(), Azure::start(world(3)));
    let folder = tempfile::tempdir().unwrap();
    let own = azure.sim.subscriptions[0].clone();
    threads(async {
        let app = app(&azure, folder.path());
        let body = r#"{"locations": ["eastus"]}"#.to_owned();
        let begun = call(&app, "start", Trigger::Http { body }).await.messages;
        let first = begun.iter().find(|message| message.queue == WORK).unwrap();
        let run = WorkItem::parse(&first.text).unwrap().run;
        let asked = || azure.sim.stats.to_json()["requests"].clone();
        let (requests, stored) = (asked(), files(folder.path()));
        let mut items = strange_items(run, &own, &attacker.registry);
        let unknown = RunId::new(OffsetDateTime::UNIX_EPOCH);
        let of_none = WorkItem { run: unknown, ..WorkItem::parse(&first.text).unwrap() };
        items.push((of_none, "no run"));
        let other =
            WorkItem { source: SourceName::Gallery, ..WorkItem::parse(&first.text).unwrap() };
        if !first.text.contains("\"source\":\"gallery\"") {
            items.push((other, "the source"));
        }
        for (item, why) in &items {
            let text = serde_json::to_string(item).unwrap();
            for function in ["crawl", "poison"] {
                for delivery in [1, 4] {
                    let trigger = Trigger::Queue { text: text.clone(), delivery };
                    let done = call(&app, function, trigger).await;
                    assert_eq!(done.messages, [], "{text}");
                    let log = done.logs.join("\n");
                    assert!(log.contains("dropped") && log.contains(why), "{text}: {log}");
                }
            }
        }
        attacker.assert_untouched("messages");
        assert_eq!(asked(), requests);
        assert_eq!(files(folder.path()), stored);
        // What the run does have is done, to the end.
        let mut open = begun;
        while let Some(at) = open.iter().position(|message| message.queue == WORK) {
            let text = open.remove(at).text;
            let done = call(&app, "crawl", Trigger::Queue { text, delivery: 1 }).await;
            assert!(!done.logs.join("\n").contains("dropped"), "{:?}", done.logs);
            open.extend(done.messages);
        }
    });
}
