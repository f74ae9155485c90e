//! What a run asks through which subscription, and what becomes of those that cannot be asked, of entries without
//! a name, and of states that cannot be read.

use crate::support::arm::{
    Found, ONE, TWO, Tenant, lists, locations, publishers, refused, subscriptions, versions,
};
use crate::support::fleet::call;
use crate::support::paused;
use crate::tests;
use azimg::testing::error::ErrorKind;
use azimg::testing::functions::{self, PUBLISH, Trigger, WORK};
use azimg::testing::pipeline::snapshot::Completeness;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

tests![
    a_denied_list_is_requested_through_another_subscription,
    a_provider_that_is_nowhere_registered_is_reported_with_the_remedy,
    a_disabled_subscription_is_reported_and_its_rows_are_covered,
    an_unsupported_api_version_is_replaced_once_for_each_kind,
    an_entry_without_a_name_is_skipped,
    an_unreadable_state_is_unknown_and_never_the_latest,
    a_run_resumed_without_a_sign_in_denies_nothing,
];

fn a_denied_list_is_requested_through_another_subscription() {
    let whole = Tenant::new().run();
    assert_eq!((whole.state, whole.of("marketplace").len()), (Completeness::Complete, 24));
    let codes = [
        (403, "AuthorizationFailed"),
        (409, "MissingSubscriptionRegistration"),
        (409, "ReadOnlyDisabledSubscription"),
        (404, "SubscriptionNotFound"),
    ];
    for (status, code) in codes {
        for (closed, from) in
            [(ONE, ""), (TWO, ""), (TWO, "/offers"), (ONE, "/skus"), (TWO, "/westus/publishers")]
        {
            let tenant = Tenant::new();
            tenant.arm.instead(move |path| {
                let is_refused = lists(path, closed) && path.contains(from);
                is_refused.then(|| (status, refused(code, "no")))
            });
            let found = tenant.run();
            let about = format!("{status} {code} {closed} {from}: {:?}", found.reported());
            assert_eq!(found.state, Completeness::Complete, "{about}");
            assert_eq!(found.of("marketplace").len(), 24, "{about}");
            let with_details =
                found.of("marketplace").iter().filter(|row| row["detailsFrom"] == "this").count();
            assert_eq!(with_details, 12, "{about}");
            // One that is closed from the beginning is asked once, and nothing is spread over it.
            if from.is_empty() {
                assert_eq!(
                    tenant.arm.times(&format!(
                        "{closed}/providers/microsoft.compute/locations/eastus/publishers"
                    )),
                    1
                );
            }
        }
    }
}

fn a_provider_that_is_nowhere_registered_is_reported_with_the_remedy() {
    let tenant = Tenant::new();
    tenant.arm.instead(|path| {
        let text = "The subscription is not registered to use namespace 'Microsoft.Compute'.";
        let is_compute =
            path.contains("/publishers") || path.contains("/galleries") || path.contains("/images");
        match path {
            _ if path.starts_with("/subscriptions?") => {
                Some((200, json!({"value": [{"subscriptionId": ONE, "state": "Enabled"}]})))
            }
            _ => is_compute.then(|| (409, refused("MissingSubscriptionRegistration", text))),
        }
    });
    let found = tenant.run();
    assert_eq!(found.state, Completeness::Partial);
    let denied: Vec<&Value> = found.lines.iter().filter(|line| line["state"] == "denied").collect();
    assert_eq!(denied.len(), 2, "{:?}", found.reported());
    let words = format!("az provider register --namespace Microsoft.Compute --subscription {ONE}");
    assert!(
        denied.iter().all(|line| line["reason"].as_str().unwrap().contains(&words)),
        "{denied:?}"
    );
    let galleries = found
        .lines
        .iter()
        .filter(|line| line["source"] == "gallery" && line["subscription"] == ONE);
    assert!(
        galleries.clone().count() > 0 && galleries.clone().all(|line| line["state"] == "empty")
    );
}

fn a_disabled_subscription_is_reported_and_its_rows_are_covered() {
    let tenant = Tenant::new();
    let own = |found: &Found| {
        let rows = found
            .of("gallery-version")
            .into_iter()
            .map(|row| (row["subscriptionId"].as_str().unwrap().to_owned(), row["stale"] == true));
        rows.collect::<BTreeMap<_, _>>()
    };
    let line = |found: &Found| {
        let mut lines = found.lines.iter().filter(|line| {
            line["source"] == "gallery" && line["subscription"] == TWO && line["gallery"].is_null()
        });
        let line = lines.next().unwrap();
        (
            line["state"].as_str().unwrap().to_owned(),
            line["reason"].as_str().unwrap_or_default().to_owned(),
        )
    };
    let both = |stale| BTreeMap::from([(ONE.to_owned(), false), (TWO.to_owned(), stale)]);
    assert_eq!(own(&tenant.run()), both(false));
    // Azure still says what is there.
    for state in ["Warned", "PastDue", "Disabled"] {
        tenant.arm.instead(move |path| {
            path.starts_with("/subscriptions?").then(|| (200, subscriptions(state)))
        });
        let found = tenant.run();
        assert_eq!((found.state, own(&found)), (Completeness::Complete, both(false)), "{state}");
        assert_eq!(line(&found), ("done".into(), format!("the subscription is {state}")));
        let asked = tenant.arm.times(&format!("{TWO}/providers/microsoft.compute/locations"));
        assert_eq!(
            asked > 2,
            state != "Disabled",
            "{state}: marketplace images are asked through it"
        );
    }
    // It says nothing any more.
    for (status, code) in [(403, "AuthorizationFailed"), (409, "ReadOnlyDisabledSubscription")] {
        tenant.arm.instead(move |path| match path {
            _ if path.starts_with("/subscriptions?") => Some((200, subscriptions("Disabled"))),
            _ => path.contains(TWO).then(|| (status, refused(code, "no"))),
        });
        let found = tenant.run();
        assert_eq!((found.state, own(&found)), (Completeness::Partial, both(true)), "{code}");
        let (state, reason) = line(&found);
        assert_eq!(state, "denied");
        assert!(reason.contains("the subscription is Disabled"), "{reason}");
    }
    tenant.arm.instead(|path| match path {
        _ if path.starts_with("/subscriptions?") => Some((200, subscriptions("Deleted"))),
        _ => path.contains(TWO).then(|| (404, refused("SubscriptionNotFound", "no"))),
    });
    let found = tenant.run();
    assert_eq!(own(&found), BTreeMap::from([(ONE.to_owned(), false)]));
    assert_eq!(line(&found), ("gone".into(), "the subscription is Deleted".into()));
    assert_eq!(found.state, Completeness::Complete, "{:?}", found.reported());
}

fn an_unsupported_api_version_is_replaced_once_for_each_kind() {
    let tenant = Tenant::new();
    tenant.arm.instead(|path| {
        let is_old = ["2015-06-15", "2022-08-01", "2023-03-01"].iter().any(|old| path.contains(old));
        let is_compute = path.contains("microsoft.compute/");
        let text = "could not be found. The supported api-versions are '2015-06-15,2022-08-01,2023-03-01'.";
        (is_compute && !is_old).then(|| (404, refused("InvalidResourceType", text)))
    });
    let found = tenant.run();
    assert_eq!(found.state, Completeness::Complete, "{:?}", found.reported());
    assert_eq!((found.of("marketplace").len(), found.of("gallery-version").len()), (24, 2));
    let refused = tenant.arm.times("/offers?api-version=2024-07-01");
    // Those that were under way together.
    assert!((1..=12).contains(&refused), "{refused}");
    assert!(tenant.arm.times("/offers?api-version=2023-03-01") >= 24);
}
/// A case: what it is called, what is answered, and what is said.
type Case = (&'static str, fn() -> Value, &'static str);

fn an_entry_without_a_name_is_skipped() {
    let whole = Tenant::new().run();
    let count = |found: &Found| (found.of("marketplace").len(), found.of("gallery-version").len());
    assert_eq!(count(&whole), (24, 2));
    // What answers with the entry, the entry, and what its line is about.
    let cases: [Case; 6] = [
        ("/subscriptions?", || json!({"state": "Enabled"}), "@unnamed"),
        ("/subscriptions?", || json!(7), "@unnamed"),
        ("/locations?", || json!({"name": null}), "@unnamed"),
        ("/locations?", || json!("westus"), "@unnamed"),
        ("/eastus/publishers?", || json!({"name": ""}), "no name"),
        ("/eastus/publishers?", || json!(null), "no name"),
    ];
    for (part, entry, about) in cases {
        let tenant = Tenant::new();
        tenant.run();
        tenant.arm.instead(move |path| {
            if !path.contains(part) {
                return None;
            }
            let body = match part {
                "/subscriptions?" if !path.starts_with(part) => return None,
                "/subscriptions?" => {
                    json!({"value": [{"subscriptionId": ONE, "state": "Enabled"}, entry()]})
                }
                "/locations?" => json!({"value": [locations()["value"][0], entry()]}),
                _ => publishers().into_iter().skip(1).chain([entry()]).collect(),
            };
            Some((200, body))
        });
        let found = tenant.run();
        let reported = found.reported();
        assert_eq!(count(&found), (24, 2), "nothing is gone: {part} {} {reported:?}", entry());
        assert_eq!(found.state, Completeness::Partial, "{part} {}", entry());
        assert!(
            reported.iter().any(|line| line.contains(about)),
            "{part} {}: {reported:?}",
            entry()
        );
        if part.contains("publishers") {
            // Those of the one that is not named any more, and no others.
            assert_eq!(found.stale("marketplace"), 2, "{part} {}: {reported:?}", entry());
        }
    }
}

fn an_unreadable_state_is_unknown_and_never_the_latest() {
    let odd: [fn() -> Value; 6] = [
        || json!({"imageDeprecationStatus": "x"}),
        || json!({"imageDeprecationStatus": {"imageState": 7}}),
        || json!({"imageDeprecationStatus": {"imageState": "Frozen"}}),
        || json!({"imageDeprecationStatus": {}}),
        || json!({"imageDeprecationStatus": []}),
        || json!("x"),
    ];
    for (number, properties) in odd.into_iter().enumerate() {
        let tenant = Tenant::new();
        let everywhere = number % 2 == 0;
        tenant.arm.instead(move |path| {
            let is_it = path.contains("/pub00/") && path.contains("/versions?");
            (is_it && (everywhere || path.contains("/eastus/"))).then(|| {
                let newest = json!({"name": "2.0.0", "properties": properties()});
                (200, json!([versions()[0], newest]))
            })
        });
        let found = tenant.run();
        let row = |version: &str| {
            let id = format!("pub00:o:s:{version}");
            found.rows.iter().find(|row| row["id"] == *id).unwrap_or_else(|| panic!("{id}"))
        };
        let (old, new) = (row("1.0.0"), row("2.0.0"));
        let about = format!("{}: {new}", properties());
        assert_eq!(
            new["status"],
            if everywhere { json!(null) } else { json!("active") },
            "{about}"
        );
        assert_eq!(
            (old["isLatest"] == true, new["isLatest"] == true),
            (everywhere, !everywhere),
            "{about}"
        );
        let odd: Vec<&Value> =
            found.lines.iter().filter(|line| !line["malformed"].is_null()).collect();
        assert!(
            !odd.is_empty() && odd.iter().all(|line| line["publisher"] == "pub00"),
            "{about} {odd:?}"
        );
        assert_eq!(found.state, Completeness::Complete, "{:?}", found.reported());
    }
    // Nothing is said of it: that is no state.
    for properties in [json!(null), json!({}), json!({"imageDeprecationStatus": null})] {
        let tenant = Tenant::new();
        tenant.arm.instead(move |path| {
            let is_it = path.contains("/pub00/") && path.contains("/versions?");
            is_it.then(|| (200, json!([{"name": "2.0.0", "properties": properties}])))
        });
        let found = tenant.run();
        let row = found.rows.iter().find(|row| row["id"] == "pub00:o:s:2.0.0").unwrap();
        assert_eq!((&row["status"], &row["isLatest"]), (&json!("active"), &json!(true)));
    }
}

fn a_run_resumed_without_a_sign_in_denies_nothing() {
    let tenant = Tenant::new();
    paused(async {
        let (app, now) = (tenant.app(), tenant.now());
        let body = r#"{"sources": ["marketplace", "gallery", "registry"]}"#.to_owned();
        let begun = call(&app, "start", Trigger::Http { body }, now).await.unwrap();
        let items = begun.iter().filter(|message| message.queue == WORK).count();
        let text = &begun.iter().find(|message| message.queue == PUBLISH).unwrap().text;
        let run =
            serde_json::from_str::<Value>(text).unwrap()["run"].as_str().unwrap().parse().unwrap();
        tenant.arm.is_signed_out.store(true, Ordering::SeqCst);
        let app = tenant.app();
        let mut open = functions::resume(&app, run).await.unwrap().messages;
        open.retain(|message| message.queue == WORK);
        assert_eq!(open.len(), items);
        // Whatever delivery it is, the items stay.
        for delivery in [1, 4, 4, 4, 4, 4, 4] {
            let mut again = Vec::new();
            for message in open {
                let trigger = Trigger::Queue { text: message.text, delivery };
                again.extend(call(&app, "crawl", trigger, now).await.unwrap());
            }
            open = again;
            assert_eq!(open.len(), items);
            tokio::time::advance(std::time::Duration::from_secs(15)).await;
        }
        let ended = tenant.store.contents();
        assert!(!ended.keys().any(|name| name.contains("/outcomes/")), "{:?}", ended.keys());
        let failure = app.progress.of(run).unwrap().failure.unwrap();
        assert_eq!(failure.0, ErrorKind::SignedOut, "{failure:?}");
    });
    // With a sign-in it goes on as if nothing had been.
    tenant.arm.is_signed_out.store(false, Ordering::SeqCst);
    assert_eq!(tenant.run().state, Completeness::Complete);
}
