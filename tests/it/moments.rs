//! What was to come when a snapshot was made, and has come since: status and latest are those of the moment of the
//! question, wherever it is asked; the tables keep what held when the run began.

use crate::support::blocks::{blocks, program};
use crate::support::case::{Tenant, tenant};
use crate::support::dated::gallery;
use crate::support::needs::Need;
use crate::support::web::{self, Host};
use crate::support::{Azure, azimg, finish, fleet, json, paused, read_json, root, rows, threads};
use crate::tests;
use axum::http::Uri;
use azimg::testing::catalog::{Catalog, Filter, LatestQuestion, aliases};
use azimg::testing::image::nanoseconds;
use azimg::testing::sim::{Scale, generate};
use azimg::testing::store::Store;
use azimg::testing::store::local::LocalStore;
use azimg::testing::web::token::Token;
use reqwest::Client;
use reqwest::header::{ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use time::OffsetDateTime;
use time::macros::datetime;

tests![
    status_and_latest_are_those_of_the_moment_of_the_request,
    versions_of_a_gallery_end_in_the_same_way,
    lookups_over_http_and_on_the_command_line_know_what_has_ended_since,
    pages_of_a_list_share_one_moment,
    the_tables_say_what_held_when_the_run_began,
    the_query_of_the_documentation_says_what_lookups_say needs [Readers],
];

/// Before and behind the dates of the cases.
const BEFORE: OffsetDateTime = datetime!(2026-01-01 00:00 UTC);
const AFTER: OffsetDateTime = datetime!(2026-07-01 00:00 UTC);
const END: &str = "2026-06-30T00:00:00Z";

/// A store in `folder` that has what a tenant had at `now`.
async fn crawled(tenant: Value, folder: &Path, now: OffsetDateTime) -> Arc<dyn Store> {
    let store: Arc<dyn Store> = Arc::new(LocalStore::new(folder));
    let app = fleet::app(Arc::new(Tenant(tenant)), Arc::clone(&store), "http://127.0.0.1:1");
    fleet::run(&app, json!({}).to_string(), now).await;
    store
}

/// Version, status and latest of the rows that a filter accepts at `now`.
fn listed(catalog: &Catalog, filter: &Filter, now: OffsetDateTime) -> Vec<String> {
    let rows = catalog.values(&catalog.list(filter, 0, usize::MAX, now), now).unwrap();
    let reported =
        |row: &Value| format!("{} {} {}", row["version"], row["status"], row["isLatest"]);
    rows.iter().map(|row| reported(row).replace('"', "")).collect()
}

fn status_and_latest_are_those_of_the_moment_of_the_request() {
    let folder = tempfile::tempdir().unwrap();
    paused(async {
        let store = crawled(tenant("scheduled-date-passed"), folder.path(), BEFORE).await;
        let catalog = Catalog::open_with_others(store.as_ref()).await.unwrap();
        let all = Filter::default();
        let before = [
            "14393.4000.1 scheduled true",
            "20348.4000.250101 active false",
            "20348.5000.260101 scheduled true",
        ];
        let after = [
            "14393.4000.1 deprecated false",
            "20348.4000.250101 active true",
            "20348.5000.260101 deprecated false",
        ];
        let end = datetime!(2026-06-30 00:00 UTC);
        for (now, expected) in [
            (BEFORE, before),
            (end - time::Duration::NANOSECOND, before),
            (end, after),
            (AFTER, after),
        ] {
            assert_eq!(listed(&catalog, &all, now), expected, "{now}");
            let words = Filter { search: Some("windowsserver".to_owned()), ..Filter::default() };
            let mut ranked = expected.to_vec();
            ranked.sort_by_key(|row| !row.ends_with("true"));
            assert_eq!(listed(&catalog, &words, now), ranked, "{now}");
            for status in ["active", "scheduled", "deprecated"] {
                let filter = Filter { statuses: vec![status.to_owned()], ..Filter::default() };
                let expected = expected.iter().filter(|row| row.contains(status));
                let expected: Vec<&str> = expected.copied().collect();
                assert_eq!(listed(&catalog, &filter, now), expected, "{now}");
            }
            let latest = |sku: &str| {
                let sku = format!("MicrosoftWindowsServer:WindowsServer:{sku}");
                let question = LatestQuestion::parse(&sku, &[], None).unwrap();
                let row =
                    question.answer(&catalog.index, now).map_err(|error| error.to_string())?;
                let row: Value = catalog.read(catalog.at(row), now).unwrap();
                Ok::<_, String>(row["version"].as_str().unwrap().to_owned())
            };
            let aliases = aliases::document(&catalog, now).unwrap();
            let alias = &aliases["outputs"]["aliases"]["value"]["Windows"]["Win2022Datacenter"];
            if now < end {
                assert_eq!(latest("2022-datacenter-g2").unwrap(), "20348.5000.260101");
                assert_eq!(latest("2016-Datacenter").unwrap(), "14393.4000.1");
                assert_eq!(alias["version"], "20348.5000.260101");
            } else {
                assert_eq!(latest("2022-datacenter-g2").unwrap(), "20348.4000.250101");
                let none = latest("2016-Datacenter").unwrap_err();
                assert!(none.ends_with("14393.4000.1, was deprecated on 2026-06-30"), "{none}");
                assert_eq!(alias["version"], "20348.4000.250101");
            }
        }
    });
}

fn versions_of_a_gallery_end_in_the_same_way() {
    let folder = tempfile::tempdir().unwrap();
    paused(async {
        let versions = [
            ("1.0.0", None),
            ("2.0.0", Some("2026-09-01T00:00:00Z")),
            ("3.0.0", Some(END)),
            ("4.0.0", None),
        ];
        let store = crawled(gallery(&versions, "4.0.0"), folder.path(), BEFORE).await;
        let catalog = Catalog::open_with_others(store.as_ref()).await.unwrap();
        let filter = Filter { kinds: vec!["gallery-version".to_owned()], ..Filter::default() };
        for (now, expected) in [
            (BEFORE, ["1.0.0 active false", "2.0.0 scheduled false", "3.0.0 scheduled true"]),
            (AFTER, ["1.0.0 active false", "2.0.0 scheduled true", "3.0.0 end-of-life false"]),
            (
                datetime!(2026-09-01 00:00 UTC),
                ["1.0.0 active true", "2.0.0 end-of-life false", "3.0.0 end-of-life false"],
            ),
        ] {
            let reported = [&expected[..], &["4.0.0 active false"]].concat();
            assert_eq!(listed(&catalog, &filter, now), reported, "{now}");
            let only = Filter { latest: true, ..filter.clone() };
            let of_it: Vec<&str> =
                reported.iter().filter(|row| row.ends_with("true")).copied().collect();
            assert_eq!(listed(&catalog, &only, now), of_it, "{now}");
            let table = catalog.others(store.as_ref()).await.unwrap();
            let latest = table.latest("g/d", &Filter::default(), None, now).unwrap();
            let expected = expected.iter().find(|row| row.ends_with("true")).unwrap();
            assert_eq!(latest.version.as_deref(), expected.split(' ').next());
            assert!(latest.is_latest);
            let ended = Filter { statuses: vec!["end-of-life".to_owned()], ..Filter::default() };
            let ended = listed(&catalog, &ended, now);
            assert!(ended.iter().all(|row| row.contains("end-of-life")), "{ended:?}");
        }
        // Every byte but those is the table's.
        let page = catalog.list(&filter, 0, usize::MAX, AFTER);
        let (then, now) =
            (catalog.values(&page, BEFORE).unwrap(), catalog.values(&page, AFTER).unwrap());
        for (then, mut now) in then.into_iter().zip(now) {
            (now["status"], now["isLatest"]) = (then["status"].clone(), then["isLatest"].clone());
            assert_eq!(now, then);
        }
    });
}

fn lookups_over_http_and_on_the_command_line_know_what_has_ended_since() {
    let folder = tempfile::tempdir().unwrap();
    paused(async { crawled(tenant("scheduled-date-passed"), folder.path(), BEFORE).await });
    let store = folder.path().to_str().unwrap();
    // The table keeps what held when the run began.
    assert_eq!(rows(folder.path())[2]["status"], "scheduled");
    let sku = |name: &str| format!("MicrosoftWindowsServer:WindowsServer:{name}");
    let reported =
        |arguments: &[&str]| json(azimg(arguments).args(["--store", store, "-o", "json"]));
    let listed = reported(&["images", "list", "--status", "deprecated", "--query", "[].version"]);
    assert_eq!(listed, json!(["14393.4000.1", "20348.5000.260101"]));
    let shown =
        reported(&["images", "show", &format!("{}:20348.5000.260101", sku("2022-datacenter-g2"))]);
    assert_eq!((&shown["status"], &shown["isLatest"]), (&json!("deprecated"), &json!(false)));
    let latest = reported(&["images", "latest", "Win2022Datacenter", "--query", "[].version"]);
    assert_eq!(latest, json!(["20348.4000.250101"]));
    let (code, _, stderr) =
        finish(azimg(&["images", "latest", &sku("2016-Datacenter")]).args(["--store", store]));
    assert_eq!(code, 4);
    assert!(stderr.contains("was deprecated on 2026-06-30"), "{stderr}");

    let azure = Azure::start(generate(Scale::Small, 5));
    let host = Host::start(&azure, folder.path());
    let api = host.address.clone();
    threads(async {
        let client = Client::new();
        let get = async |path: &str| {
            let answer = client.get(format!("{api}/{path}")).send().await.unwrap();
            let status = answer.status().as_u16();
            (
                status,
                answer.headers().clone(),
                serde_json::from_slice::<Value>(&answer.bytes().await.unwrap()).unwrap_or_default(),
            )
        };
        let (_, headers, list) = get("images?status=deprecated").await;
        let versions = list["value"].as_array().unwrap().iter().map(|row| &row["version"]);
        assert_eq!(versions.collect::<Vec<_>>(), ["14393.4000.1", "20348.5000.260101"]);
        let (_, _, latest) = get(&format!("images/latest?urn={}", sku("2022-datacenter-g2"))).await;
        assert_eq!(latest["version"], "20348.4000.250101");
        assert_eq!(latest["isLatest"], true);
        let (status, _, none) = get(&format!("images/latest?urn={}", sku("2016-Datacenter"))).await;
        assert_eq!(status, 404);
        assert!(
            none["error"]["message"].as_str().unwrap().contains("was deprecated on 2026-06-30")
        );
        let (_, _, shown) = get(&format!("images/{}:14393.4000.1", sku("2016-Datacenter"))).await;
        assert_eq!(shown["status"], "deprecated");
        let (_, _, aliases) = get("images/aliases").await;
        let alias = &aliases["outputs"]["aliases"]["value"]["Windows"]["Win2022Datacenter"];
        assert_eq!(alias["version"], "20348.4000.250101");
        // Who has the answer of before the end has it no more; who has this one does.
        let current = read_json(&folder.path().join("current.json"));
        let before = format!("W/\"{}\"", current["run"].as_str().unwrap());
        assert_ne!(headers[ETAG], before.as_str());
        for (name, value, expected) in [
            (IF_NONE_MATCH, before.as_str(), 200),
            (IF_NONE_MATCH, headers[ETAG].to_str().unwrap(), 304),
            (IF_MODIFIED_SINCE, "Wed, 24 Jun 2026 00:00:00 GMT", 200),
            (IF_MODIFIED_SINCE, headers[LAST_MODIFIED].to_str().unwrap(), 304),
        ] {
            let request = client.get(format!("{api}/images?status=deprecated")).header(name, value);
            assert_eq!(request.send().await.unwrap().status().as_u16(), expected, "{value}");
        }
    });
}

fn pages_of_a_list_share_one_moment() {
    // Whatever ends while somebody goes through a list, nothing is left out or given twice.
    let folder = tempfile::tempdir().unwrap();
    paused(async {
        let store = crawled(tenant("scheduled-date-passed"), folder.path(), BEFORE).await;
        let catalog = Catalog::open(store.as_ref()).await.unwrap();
        assert_eq!(catalog.moment(BEFORE), BEFORE);
        assert_eq!(catalog.moment(datetime!(2026-06-29 00:00 UTC)), BEFORE);
        assert_eq!(catalog.moment(AFTER), datetime!(2026-06-30 00:00 UTC));
        // A clock that is behind the one that made the snapshot.
        assert_eq!(catalog.moment(datetime!(2025-01-01 00:00 UTC)), BEFORE);
    });
    let azure = Azure::start(generate(Scale::Small, 5));
    let host = Host::start(&azure, folder.path());
    threads(async {
        let client = Client::new();
        let get = async |url: &str| web::get(&client, url).await.1;
        let mut page = get(&format!("{}/images?search=windowsserver&top=1", host.address)).await;
        let mut versions = vec![page["value"][0]["version"].clone()];
        while let Some(next) = page["nextLink"].as_str() {
            page = get(next).await;
            versions.push(page["value"][0]["version"].clone());
        }
        assert_eq!(versions, ["20348.4000.250101", "14393.4000.1", "20348.5000.260101"]);
        // The second page of a list whose first was given before the end.
        let asked: Uri = "/api/images?search=windowsserver&top=1".parse().unwrap();
        let run = read_json(&folder.path().join("current.json"))["run"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        let token = Token { run, at: 1, moment: nanoseconds(BEFORE) }.write(&asked);
        let page =
            get(&format!("{}/images?search=windowsserver&top=1&skipToken={token}", host.address))
                .await;
        let row = &page["value"][0];
        let reported = ["version", "status"].map(|name| row[name].as_str().unwrap());
        assert_eq!(
            (reported, &row["isLatest"]),
            (["20348.5000.260101", "scheduled"], &json!(true))
        );
    });
}

fn the_tables_say_what_held_when_the_run_began() {
    let folder = tempfile::tempdir().unwrap();
    paused(async { crawled(tenant("scheduled-date-passed"), folder.path(), AFTER).await });
    let reported = rows(folder.path());
    let reported =
        reported.iter().map(|row| (row["status"].as_str().unwrap(), row["isLatest"] == true));
    assert_eq!(
        reported.collect::<Vec<_>>(),
        [("deprecated", false), ("active", true), ("deprecated", false)]
    );
    // The next run tells what has come since the one before.
    let folder = tempfile::tempdir().unwrap();
    paused(async {
        crawled(tenant("scheduled-date-passed"), folder.path(), BEFORE).await;
        crawled(tenant("scheduled-date-passed"), folder.path(), AFTER).await;
    });
    let store = folder.path().to_str().unwrap();
    let feed = json(&mut azimg(&["changes", "--store", store, "-o", "json"]));
    let feed = feed.as_array().unwrap().iter().map(|row| {
        let version = row["id"].as_str().unwrap().rsplit(':').next().unwrap();
        format!("{version} {} {} {}", row["change"], row["before"], row["after"]).replace('"', "")
    });
    assert_eq!(
        feed.collect::<Vec<_>>(),
        [
            "14393.4000.1 status scheduled deprecated",
            "14393.4000.1 latest true false",
            "20348.4000.250101 latest false true",
            "20348.5000.260101 status scheduled deprecated",
            "20348.5000.260101 latest true false",
        ]
    );
}

fn the_query_of_the_documentation_says_what_lookups_say() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("azimg-data");
    paused(async { crawled(tenant("scheduled-date-passed"), &store, BEFORE).await });
    let text = std::fs::read_to_string(root().join("docs/consuming.md")).unwrap();
    let (_, query) =
        blocks(&text).into_iter().find(|(_, body)| body.contains("latest_now")).unwrap();
    let query = format!("{query}\nprint(json.dumps(now.fetchall()))");
    let (code, stdout, stderr) =
        finish(program(Need::Readers, "python", folder.path()).args(["-c", &query]));
    assert_eq!(code, 0, "{stderr}");
    let reported: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    let listed = ["images", "list", "-o", "json", "--query", "[].[id, status, isLatest]"];
    let listed = json(azimg(&listed).args(["--store", store.to_str().unwrap()]));
    assert_eq!(reported, listed);
    assert_eq!(reported[1][2], true, "{reported}");
}
