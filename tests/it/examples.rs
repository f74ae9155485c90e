//! Every example of every `--help`, and every command that the documents show, is run: against a simulated Azure in
//! which what they name is there. What cannot run stands in a table with its reason, and nothing stands there in vain.

use crate::support::azurite::free_port;
use crate::support::commands::commands;
use crate::support::layout::Layout;
use crate::support::{Azure, azimg, finish, json, root, rows, temporary, wait_for};
use crate::tests;
use azimg::testing::sim::{Scale, World, generate};
use serde_json::json as value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

tests![
    every_example_of_every_help_runs slow "it runs eighty commands, one after the other",
    the_commands_of_the_documents_run slow "it runs fifty commands, one after the other",
    no_help_shows_markdown_marks,
];

/// What cannot run here, by a part of it, and why not.
const CANNOT: &[(&str, &str)] = &[
    ("--demo", "it crawls 100,000 images: a test of its own does"),
    ("kubectl", "no cluster is there: tests of purges read what it prints"),
    ("mcr.microsoft.com", "it is a registry on the internet: tests of copies copy as nobody"),
    ("registry.example.com", "no such host is there: a test of tokens trusts one that is"),
    ("https://ACCOUNT", "it takes a storage account"),
    ("--store azurite", "it takes Azurite: tests of stores have one"),
    ("management.azure.com", "an operation of somebody else's that is long over"),
    ("$(azd ", "it takes a deployed app"),
    ("curl", "it takes curl: tests of callers send the same"),
    ("azimg package", "it packages this executable, of 170 MB here: tests of packages do"),
];

/// Commands that go on until somebody ends them, and what shows that they work.
const GOES_ON: [&str; 4] = ["azimg host", "azimg page", "azimg serve", "azimg sim"];

/// Where examples are run: a folder with a catalog, and an Azure that has what they name.
struct Place {
    azure: Azure,
    folder: tempfile::TempDir,
    /// What stands in an example, and what stands there here.
    instead: Vec<(String, String)>,
}

/// Pushes what examples name into a registry, and leaves beside it what they push; the digest of `app:1.4.0`.
fn fill(azure: &Azure, folder: &Path, server: &str) -> String {
    let layout = Layout::new(&folder.join("layout"));
    let images = ["amd64", "arm64"]
        .map(|name| layout.image(name, &[name.as_bytes()], &serde_json::Value::Null));
    layout.tag(&layout.index(&images), "app:1.4.0");
    let archive = std::fs::File::create(folder.join("images.tar.gz")).unwrap();
    let archive = flate2::write::GzEncoder::new(archive, flate2::Compression::fast());
    let mut archive = tar::Builder::new(archive);
    archive.append_dir_all("", &layout.0).unwrap();
    archive.into_inner().unwrap().finish().unwrap();
    for (name, text) in [("app.spdx.json", "{\"spdxVersion\":\"SPDX-2.3\"}"), ("report.json", "{}")]
    {
        std::fs::write(folder.join(name), text).unwrap();
    }
    std::fs::create_dir(folder.join("model")).unwrap();
    std::fs::write(folder.join("model/model.bin"), "weights").unwrap();
    let push = |at: &str, line: &[&str]| {
        let at = format!("{server}/{at}");
        let line = [&["registry", "push", &at], line, &["-o", "json"]].concat();
        json(azure.azimg(&line).current_dir(folder))
    };
    push("sbom:1.4.0", &["app.spdx.json", "--artifact-type", "application/spdx+json"]);
    push("ci/app:1.4.0", &["layout"]);
    let app = push("app:1.4.0", &["layout", "--tag", "old", "--tag", "latest"]);
    app["digest"].as_str().unwrap().to_owned()
}

/// The galleries that examples name, each with the definitions and versions that they name.
fn add_galleries(world: &mut World) {
    let own = &mut world.organisation.galleries;
    let first = own.values().next().unwrap().clone();
    for name in ["prod_gallery", "prod"] {
        let mut gallery = first.clone();
        name.clone_into(&mut gallery.name);
        // Azure shares only what was made for that.
        gallery.sharing = Some(value!({"permissions": "Groups", "groups": []}));
        let mut definition = gallery.definitions.values().next().unwrap().clone();
        gallery.definitions.clear();
        definition.properties.as_object_mut().unwrap().remove("endOfLifeDate");
        let version = definition.versions.values().next().unwrap().clone();
        for number in ["1.0.0", "1.4.0"] {
            let mut version = version.clone();
            number.clone_into(&mut version.name);
            (version.excluded, version.end_of_life) = (false, None);
            let mut region = version.regions[0].clone();
            region["name"] = "eastus".into();
            version.regions.retain(|other| other["name"] != "eastus");
            version.regions.push(region);
            definition.versions.insert(number.to_owned(), version);
        }
        for name in ["ubuntu-base", "base"] {
            name.clone_into(&mut definition.name);
            gallery.definitions.insert(name.to_owned(), definition.clone());
        }
        own.insert(gallery.id().to_ascii_lowercase(), gallery);
    }
}

/// The managed image that examples name.
fn add_managed_image(world: &mut World) {
    let managed = world.organisation.images.values_mut().next().unwrap();
    managed["name"] = "myapp-2".into();
    managed["tags"] = value!({"RELEASE_STATUS": "GA"});
    let id = managed["id"].as_str().unwrap().rsplit_once('/').unwrap().0.to_owned() + "/myapp-2";
    managed["id"] = id.as_str().into();
    let managed = managed.clone();
    world.organisation.images.insert(id.to_ascii_lowercase(), managed);
}

/// The repositories that examples name; the login servers of all registries.
fn add_repositories(azure: &Azure) -> Vec<String> {
    let mut registries = azure.sim.registries();
    let registry = &mut registries[0];
    "example".clone_into(&mut registry.name);
    let mut app = registry.repositories.values().max_by_key(|one| one.tags.len()).unwrap().clone();
    let tag = app.tags.values().next().unwrap().clone();
    app.tags.insert("1.4.0".to_owned(), tag);
    for name in ["app", "team1/app", "ci/build"] {
        registry.repositories.insert(name.to_owned(), app.clone());
    }
    // All but one of these is too new to go: a brake of 20% lets that pass.
    let build = registry.repositories.get_mut("ci/build").unwrap();
    let tagged: BTreeSet<_> = build.tags.values().map(|tag| tag.digest.clone()).collect();
    let all = build.manifests.iter_mut();
    for (_, manifest) in all.filter(|(digest, _)| tagged.contains(*digest)) {
        "2035-01-02T03:04:05.1234567Z".clone_into(&mut manifest.created);
    }
    registries.iter().map(|registry| registry.login_server.clone()).collect::<Vec<_>>()
}

impl Place {
    fn new() -> Self {
        let mut world = generate(Scale::Small, 61);
        add_galleries(&mut world);
        add_managed_image(&mut world);
        let azure = Azure::start(world);
        let servers = add_repositories(&azure);
        let server = servers[0].clone();
        let folder = tempfile::tempdir_in(temporary()).unwrap();
        let digest = fill(&azure, folder.path(), &server);
        let store = folder.path().join("azimg-data");
        let crawl = ["crawl", "--store", store.to_str().unwrap(), "-o", "json", "--quiet"];
        let run = json(&mut azure.azimg(&crawl))["run"].as_str().unwrap().to_owned();
        let catalog = rows(&store);
        let of = "Canonical:ubuntu-24_04-lts:server:";
        let mut ids = catalog.iter().filter_map(|row| row["id"].as_str()?.strip_prefix(of));
        let instead = [
            ("01KAJJ3V0000000000000000AA", run.as_str()),
            ("snapshots/RUN/", &format!("snapshots/{run}/")),
            ("--resume RUN", &format!("--resume {run}")),
            ("example.azurecr.io", &server),
            ("production.azurecr.io", &servers[1]),
            ("sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", &digest),
            ("24.04.202610200", ids.next().unwrap()),
            // The small catalog has fewer locations.
            ("westeurope", "westus2"),
            ("--subscription ID", "--subscription 55555555-5555-4555-8555-555555555555"),
        ];
        let instead = instead.map(|(from, to)| (from.to_owned(), to.to_owned())).to_vec();
        for made in [".zfunc", ".local/share/bash-completion/completions", ".local/share/man"] {
            std::fs::create_dir_all(folder.path().join(made)).unwrap();
        }
        Self { azure, folder, instead }
    }

    /// A text in which everything has the name that it has here.
    fn here(&self, text: &str) -> String {
        self.instead.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
    }

    fn command(&self, line: &str) -> Command {
        let line = self.here(line);
        let mut command = Command::new("sh");
        let program = Path::new(env!("CARGO_BIN_EXE_azimg")).parent().unwrap();
        let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
        command.arg("-c").arg(line).current_dir(self.folder.path()).env_clear();
        command.env("PATH", path).env("HOME", self.folder.path()).envs(self.azure.variables());
        command.env("TMPDIR", temporary());
        command
    }

    /// Runs an example to its good end, or starts it and ends it when it works.
    fn run(&self, line: &str, whose: &str) {
        if line.starts_with("azimg registry pull") {
            // Another example pulled something else to the same place.
            let to = self.folder.path().join(line.split(' ').nth(4).unwrap());
            let _ = std::fs::remove_file(&to).or_else(|_| std::fs::remove_dir_all(&to));
        }
        if !GOES_ON.iter().any(|begins| line.contains(begins)) {
            let (code, _, stderr) = finish(&mut self.command(line));
            assert_eq!(code, 0, "{whose}: {line}: {stderr}");
            return;
        }
        let port = free_port().to_string();
        // Another process of this machine may have the usual one.
        let with_port = |command: &str| {
            let line = line.replace(" --port 8080", "");
            line.replace(command, &format!("exec {command} --port {port}"))
        };
        let line = match ["azimg host", "azimg page"].iter().find(|known| line.contains(**known)) {
            Some(known) => with_port(known),
            None => line
                .replace("--port 8080", &format!("--port {port}"))
                .replace("azimg ", "exec azimg "),
        };
        let said = self.folder.path().join("said");
        let file = std::fs::File::create(&said).unwrap();
        let mut command = self.command(&line);
        command.env("FUNCTIONS_CUSTOMHANDLER_PORT", &port);
        let mut child = command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        let text = || std::fs::read_to_string(&said).unwrap();
        wait_for(&line, || {
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none(), "{whose}: {line}: {ended:?}: {}", text());
            let listens = std::net::TcpStream::connect(format!("127.0.0.1:{port}")).is_ok();
            (listens || text().contains("\"arm\":")).then_some(())
        });
        let id = child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &id])
                .stdin(Stdio::null())
                .status()
                .unwrap()
                .success()
        );
        // It may not hear signals yet: how commands end then is told by other tests.
        let ended = child.wait().unwrap().code();
        assert!(matches!(ended, Some(143) | None), "{whose}: {line}: {ended:?}: {}", text());
    }

    /// Runs what can run, in order; the reasons of what cannot.
    fn run_all(&self, lines: &[(String, String)]) -> BTreeSet<&'static str> {
        let mut left = BTreeSet::new();
        for (whose, line) in lines {
            match CANNOT.iter().find(|(part, _)| line.contains(part)) {
                Some((part, _)) => drop(left.insert(*part)),
                None => self.run(line, whose),
            }
        }
        left
    }
}

/// The examples of a command's help: what is said of one stands behind two spaces, and one that goes on has a
/// backslash at its end.
fn examples(command: &str) -> Vec<String> {
    let mut line: Vec<&str> = command.split_whitespace().collect();
    line.push("--help");
    let (_, help, _) = finish(&mut azimg(&line));
    let (_, below) =
        help.split_once("Examples:\n").unwrap_or_else(|| panic!("{command} has no examples"));
    let mut found: Vec<String> = Vec::new();
    let mut goes_on = false;
    let lines = below.lines().take_while(|line| line.starts_with("  "));
    for line in lines.filter(|line| !line.starts_with("  #")) {
        let text = line.trim_start().split("  ").next().unwrap().trim_end();
        match found.last_mut().filter(|_| goes_on) {
            Some(last) => last.push_str(text.trim_end_matches('\\')),
            None => found.push(text.trim_end_matches('\\').to_owned()),
        }
        goes_on = line.ends_with('\\');
    }
    found
}

fn every_example_of_every_help_runs() {
    let place = Place::new();
    let mut all = Vec::new();
    // What deletes and what locks comes last, since others name what it deletes, and move what it locks.
    let mut commands = commands();
    commands.push(String::new());
    commands.sort_by_key(|command| {
        ["registry set", "purge", "delete", "retire"].iter().any(|word| command.contains(word))
    });
    for command in commands {
        let examples = examples(&command);
        assert!(examples.len() >= 2, "{command} has fewer than two examples");
        all.extend(examples.into_iter().map(|line| (command.clone(), line)));
    }
    assert!(all.len() > 70, "{}", all.len());
    let left = place.run_all(&all);
    for (part, why) in CANNOT.iter().filter(|(part, _)| *part != "$(azd ") {
        assert!(left.contains(part), "'{part}' ({why}) is in no example any more");
    }
}

/// What a document shows: commands in blocks for a shell, those between backticks that have an option, and all of the
/// table of what somebody may want.
fn shown(document: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join(document)).unwrap();
    let mut found = Vec::new();
    let (mut in_block, mut in_table) = (false, false);
    for line in text.lines() {
        in_table = line == "| you want | type |" || (in_table && line.starts_with('|'));
        if let Some(kind) = line.strip_prefix("```") {
            in_block = kind == "console";
        } else if in_block && line.starts_with("azimg ") {
            found.push(line.to_owned());
        }
        let between = line.split('`').skip(1).step_by(2);
        let commands = between.filter(|text| text.starts_with("azimg "));
        let typed = commands.filter(|text| (in_table || is_whole(text)) && !text.ends_with(" URL"));
        found.extend(typed.map(str::to_owned));
    }
    found
}

/// Whether a text is a command to be typed, and not the name of one, or a pattern of one.
fn is_whole(text: &str) -> bool {
    let places = ["GALLERY/", "REGISTRY", "…", " L"];
    let has_option = text.split_once(" --").is_some_and(|(_, option)| option.contains(' '));
    has_option && !places.iter().any(|place| text.contains(place))
}

fn the_commands_of_the_documents_run() {
    let place = Place::new();
    std::fs::write(
        place.folder.path().join("rules.toml"),
        "[[rules]]\nrepositories = \"ci/*\"\ntags = \"pr-*\"\nolder-than = \"30d\"\nkeep = 3\nuntagged = true\n",
    )
    .unwrap();
    let pods = value!({"items": [{"kind": "Pod", "metadata": {"namespace": "shop", "name": "web-1"},
        "spec": {"containers": [{"image": "example.azurecr.io/app:1.4.0"}]}}]});
    std::fs::write(place.folder.path().join("pods.json"), place.here(&pods.to_string())).unwrap();
    let mut all = Vec::new();
    for document in [
        "README.md",
        "docs/azure.md",
        "docs/galleries.md",
        "docs/identity.md",
        "docs/operations.md",
        "docs/performance.md",
        "docs/permissions.md",
        "docs/registries.md",
        "docs/security.md",
    ] {
        all.extend(shown(document).into_iter().map(|line| (document.to_owned(), line)));
    }
    all.sort_by_key(|(_, line)| {
        ["purge", "delete", "retire"].iter().any(|word| line.contains(word))
    });
    assert!(all.len() > 40, "{all:?}");
    place.run_all(&all);
}

/// Doc comments are Markdown, and help is a text in a terminal; whoever reads it knows which options are everybody's.
fn no_help_shows_markdown_marks() {
    for command in commands() {
        let mut line: Vec<&str> = command.split_whitespace().collect();
        line.push("--help");
        let (_, help, _) = finish(&mut azimg(&line));
        let above = help.split("Examples:").next().unwrap();
        assert!(!above.contains('`') && !above.contains("<http"), "{command}: {above}");
        let (own, global) =
            help.split_once("Global options:\n").unwrap_or_else(|| panic!("{command}: {help}"));
        for option in ["--store", "--output", "--query", "--fields", "--verbose", "--quiet"] {
            assert!(
                global.contains(option) && !own.contains(&format!("{option} ")),
                "{command}: {option}"
            );
        }
    }
}
