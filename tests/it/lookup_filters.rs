//! Filters of lookups: by properties, dates and places, of the marketplace and of galleries, on the command line and over
//! HTTP.

use crate::support::case::Case;
use crate::support::crawled::{Crawled, over_http, version};
use crate::support::dated::gallery;
use crate::support::finish;
use crate::tests;
use serde_json::{Value, json};

tests![
    every_filter_of_properties_dates_and_places_is_the_same_everywhere,
    the_same_filters_hold_for_images_of_galleries,
    a_filter_that_is_none_is_refused_by_name,
];

/// A tenant of images that differ in all that can be asked for.
fn varied() -> Value {
    let features = |list: &[(&str, &str)]| -> Value {
        list.iter().map(|(name, value)| json!({"name": name, "value": value})).collect()
    };
    let image = |os: &str, generation: &str, architecture: &str, list: &[(&str, &str)]| {
        json!({"osDiskImage": {"operatingSystem": os}, "hyperVGeneration": generation,
            "architecture": architecture, "features": features(list)})
    };
    let hibernates = ("IsHibernateSupported", "True");
    let trusted = ("SecurityType", "TrustedLaunchSupported");
    let mut planned = image("Linux", "V2", "Arm64", &[hibernates]);
    planned["plan"] = json!({"publisher": "p", "product": "o", "name": "planned"});
    let mut ending = version("1.0.0", &image("Linux", "V1", "x64", &[]));
    ending["properties"]["imageDeprecationStatus"] = json!(
        {"imageState": "ScheduledForDeprecation", "scheduledDeprecationTime": "2999-06-30T00:00:00Z"});
    let mut ended = version("1.0.0", &image("Windows", "V1", "x64", &[]));
    ended["properties"]["imageDeprecationStatus"] = json!({"imageState": "Deprecated"});
    let trusted = version("1.0.0", &image("Windows", "V2", "x64", &[trusted, hibernates]));
    let plain = json!({"ending": [ending], "ended": [ended]});
    json!({"locations": ["eastus", "westeurope", "westus2"], "marketplace": {
        "eastus": {"p": {"o": plain}, "q": {"o": {"trusted": [trusted]}}},
        "westeurope": {"p": {"o": {"ending": plain["ending"], "planned": [version("2.0.0", &planned)]}}},
        "westus2": {"p": {"o": {"planned": [version("2.0.0", &planned)]}}}}})
}

/// What is asked for on the command line, the same over HTTP, and the SKUs of [`varied`] that fit.
const ASKED: [(&[&str], &str, &[&str]); 20] = [
    (&["--generation", "v2"], "generation=v2", &["planned", "trusted"]),
    (&["--generation", "V1"], "generation=V1", &["ended", "ending"]),
    (
        &["--feature", "ishibernatesupported"],
        "feature=ishibernatesupported",
        &["planned", "trusted"],
    ),
    (
        &["--feature", "IsHibernateSupported=true"],
        "feature=IsHibernateSupported%3Dtrue",
        &["planned", "trusted"],
    ),
    (&["--feature", "IsHibernateSupported=False"], "feature=IsHibernateSupported%3DFalse", &[]),
    (&["--feature", "IsHibernate"], "feature=IsHibernate", &[]),
    (
        &["--feature", "IsHibernateSupported", "--feature", "SecurityType"],
        "feature=IsHibernateSupported&feature=SecurityType",
        &["trusted"],
    ),
    (
        &["--security-type", "trustedlaunchsupported"],
        "securityType=trustedlaunchsupported",
        &["trusted"],
    ),
    (&["--security-type", "TrustedLaunch"], "securityType=TrustedLaunch", &[]),
    (&["--plan", "yes"], "plan=yes", &["planned"]),
    (&["--plan", "NO"], "plan=NO", &["ended", "ending", "trusted"]),
    // What has ended without saying when ended before anybody asked.
    (&["--ends-before", "2999-07-01"], "endsBefore=2999-07-01", &["ended", "ending"]),
    (&["--ends-before", "2999-06-30"], "endsBefore=2999-06-30", &["ended"]),
    (
        &["--first-seen-after", "2020-01-01"],
        "firstSeenAfter=2020-01-01",
        &["ended", "ending", "planned", "trusted"],
    ),
    (&["--first-seen-after", "2999-01-01"], "firstSeenAfter=2999-01-01", &[]),
    (&["--in", "westeurope"], "in=westeurope", &["ending", "planned"]),
    (&["--in", "East US", "--in", "westeurope"], "in=East%20US&location=westeurope", &["ending"]),
    (&["--not-in", "westeurope"], "notIn=westeurope", &["ended", "trusted"]),
    (&["--not-in", "eastus", "--not-in", "westus2"], "notIn=eastus&notIn=westus2", &[]),
    (
        &["--in", "eastus", "--not-in", "West Europe", "--os", "windows", "--generation", "V2"],
        "in=eastus&notIn=West%20Europe&os=windows&generation=V2",
        &["trusted"],
    ),
];

fn every_filter_of_properties_dates_and_places_is_the_same_everywhere() {
    let crawled = Crawled::of(Case::serve(varied()), &["--details", "all"]);
    assert_eq!(crawled.end.0, 0, "{}", crawled.end.1);
    let sku = |id: &str| id.split(':').nth(2).unwrap().to_owned();
    for (options, _, expected) in ASKED {
        let found: Vec<String> = crawled.listed(options).iter().map(|id| sku(id)).collect();
        assert_eq!(found, expected, "{options:?}");
    }
    over_http(crawled.folder.path(), |get| {
        for (_, query, expected) in ASKED {
            let list = get(&format!("images?{query}"));
            let found =
                list["value"].as_array().unwrap_or_else(|| panic!("{query}: {list}")).iter();
            let found: Vec<String> = found.map(|row| sku(row["id"].as_str().unwrap())).collect();
            assert_eq!(found, expected, "{query}");
            assert!(list["unknown"].is_null());
        }
    });
    // Azure says of versions, and not of single images: what it cannot tell is refused.
    let live = |options: &[&str]| {
        let live =
            ["images", "list", "--live", "--publisher", "p", "-o", "json", "--query", "[].sku"];
        finish(&mut crawled.azimg(&[&live[..], options].concat()))
    };
    let (code, stdout, stderr) =
        live(&["--generation", "V2", "--in", "westus2", "--not-in", "eastus"]);
    assert_eq!(
        (code, serde_json::from_str(&stdout).unwrap_or_default()),
        (0, json!(["planned"])),
        "{stderr}"
    );
    let (_, stdout, _) =
        live(&["--ends-before", "2999-07-01", "--in", "eastus", "--not-in", "westeurope"]);
    assert_eq!(serde_json::from_str::<Value>(&stdout).unwrap(), json!(["ended"]));
    for (options, why) in [
        (["--plan", "yes"], "cannot filter by details"),
        (["--feature", "x"], "cannot filter by details"),
        (["--first-seen-after", "2020-01-01"], "cannot filter by an earlier state"),
    ] {
        let (code, _, stderr) = live(&options);
        assert!(code == 2 && stderr.contains(why), "{stderr}");
    }
}

fn the_same_filters_hold_for_images_of_galleries() {
    let mut tenant = gallery(&[("1.0.0", Some("2999-06-30T00:00:00Z")), ("2.0.0", None)], "");
    let definition = &mut tenant["definitions"][0]["properties"];
    definition["features"] = json!([{"name": "SecurityType", "value": "TrustedLaunch"},
        {"name": "IsHibernateSupported", "value": "True"}]);
    definition["purchasePlan"] = json!({"publisher": "p", "product": "o", "name": "s"});
    let mut other = tenant["definitions"][0].clone();
    other["id"] = other["id"].as_str().unwrap().replace("/images/d", "/images/other").into();
    for (name, value) in
        [("hyperVGeneration", json!("V1")), ("features", json!([])), ("purchasePlan", Value::Null)]
    {
        other["properties"][name] = value;
    }
    let mut version = tenant["versions"][1].clone();
    version["id"] = version["id"].as_str().unwrap().replace("/images/d/", "/images/other/").into();
    version["properties"]["publishingProfile"]["targetRegions"] =
        json!([{"name": "West Europe", "regionalReplicaCount": 1}]);
    tenant["definitions"].as_array_mut().unwrap().push(other);
    tenant["versions"].as_array_mut().unwrap().push(version);
    tenant["locations"] = json!(["eastus", "westeurope"]);
    let crawled = Crawled::of(Case::serve(tenant), &["--source", "gallery"]);
    assert_eq!(crawled.end.0, 0, "{}", crawled.end.1);
    let (one, two, other) = ("d/versions/1.0.0", "d/versions/2.0.0", "other/versions/2.0.0");
    let asked: [(&[&str], &[&str]); 12] = [
        (&["--generation", "v2"], &[one, two]),
        (&["--feature", "ishibernatesupported=true"], &[one, two]),
        (&["--feature", "IsHibernateSupported=False"], &[]),
        (&["--security-type", "trustedlaunch"], &[one, two]),
        (&["--plan", "yes"], &[one, two]),
        (&["--plan", "no"], &[other]),
        (&["--ends-before", "2999-07-01"], &[one]),
        (&["--ends-before", "2999-06-30"], &[]),
        (&["--first-seen-after", "2020-01-01"], &[one, two, other]),
        (&["--first-seen-after", "2999-01-01"], &[]),
        (&["--in", "West Europe"], &[other]),
        (&["--not-in", "westeurope"], &[one, two]),
    ];
    for (options, expected) in asked {
        let found = crawled.listed(&[&["--kind", "gallery-version"], options].concat());
        let found = found.iter().map(|id| id.split_once("/images/").unwrap().1);
        assert_eq!(found.collect::<Vec<_>>(), expected, "{options:?}");
    }
}

fn a_filter_that_is_none_is_refused_by_name() {
    let crawled = Crawled::of(Case::start("rhel-stray-9.4"), &[]);
    for (options, words) in [
        (["--generation", "V3"], ["--generation", "V1"]),
        (["--security-type", "trusted"], ["--security-type", "TrustedLaunch"]),
        (["--plan", "maybe"], ["--plan", "yes"]),
        (["--feature", "=x"], ["--feature", "is not a feature"]),
        (["--ends-before", "soon"], ["'soon'", "2027-01-01"]),
        (["--first-seen-after", "1.1.2026"], ["'1.1.2026'", "2027-01-01"]),
    ] {
        let (code, _, stderr) =
            finish(&mut crawled.azimg(&[&["images", "list"][..], &options].concat()));
        assert_eq!(code, 2, "{stderr}");
        assert!(words.iter().all(|word| stderr.contains(word)), "{stderr}");
    }
    over_http(crawled.folder.path(), |get| {
        for (query, target) in [
            ("generation=V3", "generation"),
            ("securityType=trusted", "securityType"),
            ("plan=maybe", "plan"),
            ("feature=%3Dx", "feature"),
            ("endsBefore=soon", "endsBefore"),
            ("firstSeenAfter=1.1.2026", "firstSeenAfter"),
        ] {
            assert_eq!(get(&format!("images?{query}"))["error"]["target"], target);
        }
    });
}
