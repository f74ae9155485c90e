//! The page in a browser: how its files are served, `azimg page`, and walks through it in Chromium.

use crate::support::case::Case;
use crate::support::crawled::{Crawled, version};
use crate::support::needs::{Need, folder};
use crate::support::web::Host;
use crate::support::{Azure, browser, finish, json};
use crate::tests;
use azimg::testing::sim::{Scale, generate};
use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::blocking::{Client, Response};
use serde_json::{Value, json as value};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;

tests![
    files_are_served_with_the_headers_of_a_page,
    all_files_together_are_small,
    page_answers_lookups_only,
    page_needs_a_catalog,
    every_page_is_accessible_and_fits_its_window needs [Browser] slow "axe inspects every page twice",
    plans_are_reviewed_and_code_is_chosen_in_the_browser needs [Browser],
    pages_of_an_empty_catalog_say_what_to_do needs [Browser],
    hostile_names_run_no_script needs [Browser] slow "every name opens three pages of the browser",
];

/// What drives the browser.
const WALK: &str = include_str!("page.mjs");
/// The most that all files together may take, compressed, in bytes.
const LARGEST: usize = 80 << 10;

fn stage(seed: u64, store: &Path) -> Azure {
    let azure = Azure::start(generate(Scale::Small, seed));
    json(&mut azure.azimg(&["crawl", "--store", store.to_str().unwrap(), "-o", "json"]));
    azure
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

fn extension(name: &str) -> &str {
    Path::new(name).extension().map_or("", |extension| extension.to_str().unwrap())
}

/// The addresses of the files that `index.html` at `url` refers to.
fn files(client: &Client, url: &str) -> Vec<String> {
    let text = client.get(url).send().unwrap().text().unwrap();
    let base = url::Url::parse(url).unwrap();
    let parts = text.split('"').filter(|part| matches!(extension(part), "js" | "css"));
    parts.map(|part| base.join(part).unwrap().to_string()).collect()
}

fn files_are_served_with_the_headers_of_a_page() {
    let store = tempfile::tempdir().unwrap();
    let azure = stage(611, store.path());
    let host = Host::start(&azure, store.path());
    let client = Client::builder().no_gzip().build().unwrap();
    let root = format!("http://{}/", host.authority());
    for url in [root.clone(), format!("{root}api/ui/"), format!("{root}api/ui/index.html")] {
        let index = client.get(&url).send().unwrap();
        assert_eq!((index.status().as_u16(), header(&index, "cache-control")), (200, "no-cache"));
        let policy = header(&index, "content-security-policy");
        assert!(policy.starts_with("default-src 'self';"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(header(&index, "x-content-type-options"), "nosniff");
        assert_eq!(header(&index, "referrer-policy"), "no-referrer");
        let tag = header(&index, "etag").to_owned();
        for known in [tag.as_str(), tag.trim_start_matches("W/"), "*", &format!("\"other\", {tag}")]
        {
            let again = client.get(&url).header("if-none-match", known).send().unwrap();
            assert_eq!((again.status().as_u16(), header(&again, "etag")), (304, tag.as_str()));
        }
        let head = client.head(&url).send().unwrap();
        assert_eq!((head.status().as_u16(), header(&head, "etag")), (200, tag.as_str()));
        let text = index.text().unwrap();
        assert!(!text.contains("<script>") && !text.contains(" style="), "{text}");

        let found = files(&client, &url);
        assert!(found.len() >= 5, "{found:?}");
        for file in found {
            let answer = client.get(&file).header("accept-encoding", "gzip").send().unwrap();
            let caching = header(&answer, "cache-control");
            assert_eq!(
                (answer.status().as_u16(), caching),
                (200, "public, max-age=31536000, immutable"),
                "{file}"
            );
            assert_eq!(header(&answer, "content-encoding"), "gzip", "{file}");
            let kind = if extension(&file) == "js" { "text/javascript" } else { "text/css" };
            assert!(header(&answer, "content-type").starts_with(kind), "{file}");
        }
    }
    let bare = Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let moved = bare.get(format!("{root}api/ui")).send().unwrap();
    assert_eq!((moved.status().as_u16(), header(&moved, "location")), (307, "ui/"));
    for file in ["api/ui/app.js", "api/ui/0000000000000000/app.js", "api/ui/..%2f..%2fetc%2fpasswd"]
    {
        let answer = client.get(format!("{root}{file}")).send().unwrap();
        assert_eq!(answer.status().as_u16(), 404, "{file}");
    }
    // Another name for this machine is DNS rebinding.
    let elsewhere = client.get(&root).header("host", "evil.example").send().unwrap();
    assert_eq!(elsewhere.status().as_u16(), 421);
    let framed = client.get(&root).header("sec-fetch-site", "cross-site").send().unwrap();
    assert_eq!(framed.status().as_u16(), 403);
}

fn all_files_together_are_small() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/web/page");
    let mut all = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension != "rs") {
            let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
            gzip.write_all(&std::fs::read(path).unwrap()).unwrap();
            all += gzip.finish().unwrap().len();
        }
    }
    assert!(all <= LARGEST, "{all} bytes");
}

fn page_answers_lookups_only() {
    let store = tempfile::tempdir().unwrap();
    let azure = stage(612, store.path());
    // It shares the store with a host, which holds the right to crawl.
    let _host = Host::start(&azure, store.path());
    let mut command = azure.azimg(&["page", "--port", "0", "--no-open", "--store"]);
    let mut child = command.arg(store.path()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = lines.next().unwrap().unwrap();
    let address = line.split_once("is at ").unwrap().1.split(';').next().unwrap().to_owned();
    let client = Client::new();
    let images = client.get(format!("{address}api/images?top=1")).send().unwrap().text().unwrap();
    let images: Value = serde_json::from_str(&images).unwrap();
    assert_eq!(images["value"].as_array().unwrap().len(), 1, "{images}");
    let start = client.post(format!("{address}api/runs")).body("{}").send().unwrap();
    assert_eq!(start.status().as_u16(), 405);
    let usage = client.get(format!("{address}api/images/usage")).send().unwrap();
    assert_eq!(usage.status().as_u16(), 401, "it queries Azure");
    child.kill().unwrap();
    child.wait().unwrap();
}

fn page_needs_a_catalog() {
    let store = tempfile::tempdir().unwrap();
    let azure = Azure::start(generate(Scale::Small, 1));
    let mut command = azure.azimg(&["page", "--port", "0", "--no-open", "--store"]);
    let (code, _, stderr) = finish(command.arg(store.path()));
    assert_eq!(code, 4, "{stderr}");
    assert!(stderr.contains("azimg crawl --demo"), "{stderr}");
}

/// Walks through the page, and returns what each step found. The browser must report no problem.
fn walk(task: &Value) -> Value {
    assert!(folder(Need::Browser).is_dir());
    let mut answer = browser::drive("page.mjs", WALK, task);
    assert_eq!(answer["problems"], value!([]), "{answer:#}");
    answer["found"].take()
}

fn base(host: &Host) -> String {
    format!("http://{}/", host.authority())
}

fn every_page_is_accessible_and_fits_its_window() {
    let store = tempfile::tempdir().unwrap();
    let azure = stage(613, store.path());
    let host = Host::start(&azure, store.path());
    let path = store.path().to_str().unwrap();
    let list = |options: &[&str]| {
        let line = [&["images", "list", "--top", "1", "-o", "json", "--store", path], options];
        json(&mut azure.azimg(&line.concat()))[0].clone()
    };
    let image = list(&["--kind", "marketplace", "--latest"]);
    let (id, publisher) = (image["id"].as_str().unwrap(), image["publisher"].as_str().unwrap());
    let of = |kind: &str| list(&["--kind", kind])["id"].as_str().unwrap().to_owned();
    let other = list(&["--kind", "marketplace", "--sku", image["sku"].as_str().unwrap()]);
    let encoded =
        |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let addresses = [
        "#/images".to_owned(),
        "#/images?search=nothing+has+this+name".to_owned(),
        format!("#/image?id={}", encoded(id)),
        format!("#/image?id={}", encoded(&of("gallery-version"))),
        format!("#/image?id={}", encoded(&of("container-manifest"))),
        format!("#/compare?id={}&id=a:b:c:1", encoded(other["id"].as_str().unwrap())),
        format!(
            "#/compare?id={}&id={}&in=eastus",
            encoded(id),
            encoded(other["id"].as_str().unwrap())
        ),
        "#/changes".to_owned(),
        "#/galleries".to_owned(),
        "#/registries".to_owned(),
        "#/registries?search=app".to_owned(),
        "#/plan".to_owned(),
        "#/runs".to_owned(),
        "#/run?run=current".to_owned(),
        "#/nowhere".to_owned(),
    ];
    let found = walk(&value!({
        "base": base(&host), "steps": ["visit", "keyboard", "facet", "key"], "addresses": addresses,
        "views": [[1440, "light"], [360, "dark"]],
        "word": publisher, "facet": "os=Linux", "key": host.key,
    }));
    for address in ["#/images", "#/galleries", "#/registries", "#/runs", "#/run?run=current"] {
        assert_ne!(found["visit"][address]["rows"], 0, "{address}: {found:#}");
    }
    let keyboard = &found["keyboard"];
    assert_eq!(keyboard["searched"]["hash"], format!("#/images?search={publisher}"));
    assert_eq!(keyboard["searched"]["focus"], "search", "{keyboard:#}");
    let command = keyboard["searched"]["command"].as_str().unwrap();
    assert!(command.starts_with("azimg skus --search "), "{command}");
    assert_eq!([&keyboard["selected"], &keyboard["help"], &keyboard["closed"]], [1, 1, 0]);
    assert!(keyboard["opened"].as_str().unwrap().starts_with("#/image?id="), "{keyboard:#}");
    let facet = &found["facet"];
    let promised = facet["promised"].as_str().unwrap();
    assert!(facet["count"].as_str().unwrap().starts_with(&format!("{promised} SKU")), "{facet:#}");
    assert_eq!(facet["hash"], "#/images?os=Linux");
    assert_eq!(found["key"]["isKept"], false);
    assert_ne!(found["key"]["rows"], 0, "{found:#}");
}

fn plans_are_reviewed_and_code_is_chosen_in_the_browser() {
    let store = tempfile::tempdir().unwrap();
    let azure = stage(616, store.path());
    let host = Host::start(&azure, store.path());
    let path = store.path().to_str().unwrap();
    let listed = |kind: &str| {
        let line = ["images", "list", "--top", "1", "-o", "json", "--store", path, "--kind", kind];
        json(&mut azure.azimg(&line))[0].clone()
    };
    let server = listed("container-manifest")["loginServer"].as_str().unwrap().to_owned();
    let file = store.path().join("purge.json");
    let purge = ["registry", "purge", &server, "--repository", "*", "--keep", "1", "--plan"];
    let line = [&purge[..], &[file.to_str().unwrap(), "--store", path]].concat();
    let (code, _, stderr) = finish(&mut azure.azimg(&line));
    assert_eq!(code, 0, "{stderr}");
    let plan: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let mut hostile = plan.clone();
    let name = "<img src=x onerror=alert(1)>";
    hostile["loginServer"] = name.into();
    hostile["notes"] = value!([name]);
    hostile["repositories"][0]["repository"] = name.into();
    hostile["expiresAt"] = "2020-01-01T00:00:00Z".into();
    let (edited, other) = (store.path().join("edited.json"), store.path().join("other.json"));
    std::fs::write(&edited, hostile.to_string()).unwrap();
    std::fs::write(&other, "{\"plan\": 1}").unwrap();
    let [urn, other_urn] = ["server", "server-arm64"].map(|sku| {
        let line =
            ["images", "latest", &format!("Canonical:ubuntu-24_04-lts:{sku}"), "--store", path];
        json(azure.azimg(&line).args(["-o", "json"]))[0]["id"].as_str().unwrap().to_owned()
    });
    let found = walk(&value!({
        "base": base(&host), "steps": ["plan", "snippets"], "plans": [file, edited, other],
        "image": format!("#/image?id={urn}"), "other": format!("#/image?id={other_urn}"),
    }));
    let text = |at: usize| found["plan"][at].as_str().unwrap();
    let all = plan["repositories"].as_array().unwrap();
    let busy = all.iter().filter(|one| !one["deletions"].as_array().unwrap().is_empty());
    let busy: Vec<&Value> = busy.collect();
    assert!(!busy.is_empty(), "{plan:#}");
    for one in busy {
        let first = &one["deletions"][0];
        let words = [&one["repository"], &first["reason"]].map(|word| word.as_str().unwrap());
        let digest = &first["digest"].as_str().unwrap()[..19];
        for word in words.into_iter().chain([digest]) {
            assert!(text(0).contains(word), "{word} is not in {}", text(0));
        }
    }
    assert!(text(0).contains("can be applied until"), "{}", text(0));
    assert!(text(1).contains("expired") && text(1).contains(name), "{}", text(1));
    assert!(text(2).contains("This is not a plan"), "{}", text(2));
    assert!(text(3).contains("can be applied until"), "{}", text(3));
    let code = &found["snippets"];
    assert!(code["first"].as_str().unwrap().starts_with("az vm create"), "{code:#}");
    assert_eq!([&code["chosen"], &code["kept"]], ["Bicep", "Bicep"]);
    assert!(code["text"].as_str().unwrap().contains("Microsoft.Compute/virtualMachines"));
    let compared = &code["compared"];
    let (version, command) =
        (urn.rsplit(':').next().unwrap(), compared["command"].as_str().unwrap());
    assert!(compared["rows"].as_str().unwrap().contains(version), "{compared:#}");
    assert!(
        command.starts_with("azimg images latest Canonical:ubuntu-24_04-lts:server "),
        "{command}"
    );
}

fn pages_of_an_empty_catalog_say_what_to_do() {
    let store = tempfile::tempdir().unwrap();
    let azure = Azure::start(generate(Scale::Small, 614));
    let host = Host::start(&azure, store.path());
    let addresses = ["#/images", "#/galleries", "#/changes", "#/run?run=current"];
    let task = value!({"base": base(&host), "steps": ["visit"], "addresses": addresses,
                       "views": [[1440, "light"]]});
    // The browser itself reports each answer that is an error.
    let mut answer = browser::drive("page.mjs", WALK, &task);
    let problems = answer["problems"].as_array().unwrap().iter().map(|p| p.as_str().unwrap());
    let others: Vec<&str> = problems.filter(|p| !p.contains("Failed to load resource")).collect();
    assert!(others.is_empty(), "{others:#?}");
    let found = answer["found"]["visit"].take();
    for address in addresses {
        let text = found[address]["text"].as_str().unwrap();
        assert!(text.contains("azimg crawl"), "{address}: {text}");
    }
}

fn hostile_names_run_no_script() {
    const NAMES: [&str; 6] = [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "\"><svg onload=alert(1)>",
        "javascript:alert(1)",
        "x\u{202e}gnp",
        "a'b`c${alert(1)}",
    ];
    let image = value!({"osDiskImage": {"operatingSystem": "Linux"}, "hyperVGeneration": "V2",
                        "architecture": "x64"});
    let skus = |name: &str| value!({ name: [version("1.0.0", &image)] });
    let offers: Value = NAMES
        .iter()
        .filter(|name| !name.contains(':'))
        .map(|name| ((*name).to_owned(), skus(name)))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let tenant = value!({"locations": ["eastus"], "marketplace": {"eastus": {"p": offers}}});
    let crawled = Crawled::of(Case::serve(tenant), &["--details", "all"]);
    let ids = crawled.listed(&[]);
    assert!(ids.len() > 2, "{}", crawled.end.1);
    let mut addresses = vec!["#/images".to_owned()];
    for text in NAMES.iter().copied().chain(ids.iter().map(String::as_str)) {
        let text: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
        addresses.push(format!("#/images?search={text}"));
        addresses.push(format!("#/image?id={text}"));
        addresses.push(format!("#/changes?search={text}"));
    }
    let azure = Azure::start(generate(Scale::Small, 615));
    let host = Host::start(&azure, crawled.folder.path());
    let task = value!({"base": base(&host), "steps": ["visit"], "addresses": addresses,
                       "views": [[1440, "light"]], "fast": true});
    let answer = browser::drive("page.mjs", WALK, &task);
    let problems = answer["problems"].as_array().unwrap().iter().map(|p| p.as_str().unwrap());
    let others: Vec<&str> = problems.filter(|p| !p.contains("Failed to load resource")).collect();
    assert!(others.is_empty(), "{others:#?}");
    let shown = answer["found"]["visit"]["#/images"]["text"].as_str().unwrap();
    let skus = Client::new().get(format!("{}/skus", host.address)).send().unwrap().text().unwrap();
    let skus: Value = serde_json::from_str(&skus).unwrap();
    assert_eq!(skus["value"].as_array().unwrap().len(), ids.len(), "one version each: {skus}");
    for row in skus["value"].as_array().unwrap() {
        let sku = row["sku"].as_str().unwrap();
        assert!(shown.contains(sku), "{sku}: {shown}");
    }
}
