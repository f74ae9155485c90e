//! Registries that lie: no answer leads a credential away, and nothing is believed that does not hash.

use crate::support::answering::{Answer, reply, server, token};
use crate::support::registries::entra;
use crate::tests;
use axum::response::Response;
use azimg::testing::error::ErrorKind;
use azimg::testing::registry::{Login, Name, Registry};
use serde_json::Value;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::runtime::Runtime;

tests![
    a_throttled_registry_is_retried_after_a_wait,
    no_response_sends_a_credential_elsewhere,
    endless_lists_and_bodies_are_bounded,
    invalid_registry_names_are_refused,
    pages_of_referrers_are_followed_within_their_list,
    a_manifest_that_lies_is_not_believed,
    a_redirected_blob_is_downloaded_without_a_credential,
];

/// A registry that wants to be left alone is left alone, by everyone, and asked again.
fn a_throttled_registry_is_retried_after_a_wait() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    Runtime::new().unwrap().block_on(async {
        let busy = server(
            |path, _| {
                let wait = [("retry-after", "1".to_owned())];
                let body = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#;
                token(path).unwrap_or_else(|| match ASKED.fetch_add(1, Ordering::SeqCst) {
                    0 => reply(429, &wait, body),
                    _ => reply(200, &[], r#"{"repositories":["a"]}"#),
                })
            },
            String::new(),
        )
        .await;
        let registry = Registry::new(&busy.address, entra(&busy.address)).unwrap();
        assert_eq!(registry.repositories().await.unwrap(), ["a"]);
        assert_eq!(ASKED.load(Ordering::SeqCst), 2);
    });
}

/// What a registry may answer to lead a client elsewhere; the attacker must never be asked anything.
const LEADING_AWAY: [(&str, Answer); 7] = [
    ("a realm elsewhere", |path, other| {
        let realm =
            format!("Bearer realm=\"http://{other}/oauth2/token\",service=\"x\",scope=\"y&z\"");
        token(path).unwrap_or_else(|| reply(401, &[("www-authenticate", realm)], "{}"))
    }),
    ("a realm from the beginning", |_, other| {
        let realm = format!("Basic realm=\"http://user:pw@{other}/\"");
        reply(401, &[("www-authenticate", realm)], "{}")
    }),
    ("a redirect of a listing", |path, other| {
        let to = format!("http://{other}/stolen");
        token(path).unwrap_or_else(|| reply(307, &[("location", to)], ""))
    }),
    ("a redirect of the token request", |_, other| {
        reply(308, &[("location", format!("http://{other}/oauth2/token"))], "")
    }),
    ("a next page elsewhere", |path, other| {
        let link = format!("<http://{other}/acr/v1/_catalog?n=1>; rel=\"next\"");
        token(path).unwrap_or_else(|| reply(200, &[("link", link)], r#"{"repositories":["a"]}"#))
    }),
    ("a next page without a scheme", |path, other| {
        let link = format!("<//{other}/acr/v1/_catalog?n=1>; rel=\"next\"");
        token(path).unwrap_or_else(|| reply(200, &[("link", link)], r#"{"repositories":["a"]}"#))
    }),
    ("a next page of another list", |path, _| {
        let link = "</acr/v1/secret/_tags?n=1>; rel=\"next\"".to_owned();
        token(path).unwrap_or_else(|| reply(200, &[("link", link)], r#"{"repositories":["a"]}"#))
    }),
];

fn no_response_sends_a_credential_elsewhere() {
    Runtime::new().unwrap().block_on(async {
        for (what, answer) in LEADING_AWAY {
            let attacker = server(|_, _| reply(200, &[], "{}"), String::new()).await;
            let evil = server(answer, attacker.address.clone()).await;
            let registry = Registry::new(&evil.address, entra(&evil.address)).unwrap();
            let error = registry.repositories().await.unwrap_err();
            assert!(attacker.seen.lock().unwrap().is_empty(), "{what}: {:?}", attacker.seen);
            assert!(!error.to_string().contains("eyJ"), "{what}: {error}");
            assert!(!error.to_string().contains("ACCESS"), "{what}: {error}");
            let seen = evil.seen.lock().unwrap().clone();
            assert!(seen.iter().all(|asked| !asked.contains("secret")), "{what}: {seen:?}");
            // The Entra token goes to the exchange alone, the refresh token to the token service.
            for asked in seen.iter().filter(|asked| !asked.contains("/oauth2/")) {
                assert!(!asked.contains("eyJ") && !asked.contains("REFRESH"), "{what}: {asked}");
            }
        }
    });
}

/// A page of repositories that all have one name.
fn names(count: usize, link: String) -> Response {
    let body = format!("{{\"repositories\":[{}\"a\"]}}", "\"a\",".repeat(count - 1));
    reply(200, &[("link", link)], &body)
}

fn endless_lists_and_bodies_are_bounded() {
    let cases: [(&str, Answer, &str); 6] = [
        (
            "a page of very many rows",
            |path, _| token(path).unwrap_or_else(|| names(100_001, String::new())),
            "a page of more than 100000 rows",
        ),
        (
            "pages that are each small enough",
            |path, _| {
                let number = path.split("last=").nth(1).and_then(|last| last.parse::<u32>().ok());
                let next = number.unwrap_or_default() + 1;
                let link = format!("</acr/v1/_catalog?last={next}>; rel=\"next\"");
                token(path).unwrap_or_else(|| names(90_000, link))
            },
            "the list has more than 300000 rows or 192 MiB",
        ),
        (
            "pages that go round",
            |path, _| {
                let link = "</acr/v1/_catalog?last=a&n=1>; rel=\"next\"".to_owned();
                token(path)
                    .unwrap_or_else(|| reply(200, &[("link", link)], r#"{"repositories":["a"]}"#))
            },
            "repeat",
        ),
        (
            "a listing that is too long",
            |path, _| token(path).unwrap_or_else(|| reply(200, &[], &" ".repeat(17 << 20))),
            "longer than 16 MiB",
        ),
        (
            "a token that is too long",
            |_, _| reply(200, &[], &format!("{{\"refresh_token\":\"{}\"}}", "x".repeat(2 << 20))),
            "longer than 1 MiB",
        ),
        (
            "another document",
            |path, _| token(path).unwrap_or_else(|| reply(404, &[], "404 page not found")),
            "404 page not found",
        ),
    ];
    Runtime::new().unwrap().block_on(async {
        for (what, answer, expected) in cases {
            let evil = server(answer, String::new()).await;
            let registry = Registry::new(&evil.address, entra(&evil.address)).unwrap();
            let error = registry.repositories().await.unwrap_err().to_string();
            assert!(error.contains(expected), "{what}: {error}");
        }
    });
}

fn invalid_registry_names_are_refused() {
    Runtime::new().unwrap().block_on(async {
        let evil = server(
            |path, _| {
                let tags =
                    r#"{"imageName":"a","tags":[{"name":"../x","digest":"sha256:../../x"}]}"#;
                token(path).unwrap_or_else(|| reply(200, &[], tags))
            },
            String::new(),
        )
        .await;
        let registry = Registry::new(&evil.address, entra(&evil.address)).unwrap();
        let error = registry.tags("a", None).await.unwrap_err();
        assert!(error.to_string().contains("contains invalid names"), "{error}");
    });
    for bad in ["", "a/b", "user@host", "host?x", "http://x", "a b", "h#f"] {
        assert!(Registry::new(bad, Login::Anonymous).is_err(), "{bad}");
    }
}

fn pages_of_referrers_are_followed_within_their_list() {
    const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    fn page(link: &str, digest: &str) -> Response {
        let row =
            format!(r#"{{"mediaType":"m","digest":"sha256:{}","size":1}}"#, digest.repeat(64));
        reply(200, &[("link", link.to_owned())], &format!(r#"{{"manifests":[{row}]}}"#))
    }
    let cases: [(&str, Answer, Result<usize, &str>); 5] = [
        (
            "three pages",
            |path, _| {
                token(path).unwrap_or_else(|| match path.split("last=").nth(1) {
                    None => page(&format!("<{path}?last=1>; rel=\"next\""), "1"),
                    Some("1") => page("<?last=2>; rel=\"next\"", "2"),
                    Some(_) => page("", "3"),
                })
            },
            Ok(3),
        ),
        (
            "pages that go round",
            |path, _| token(path).unwrap_or_else(|| page("<?last=1>; rel=\"next\"", "1")),
            Err("repeat"),
        ),
        (
            "a next page elsewhere",
            |path, other| {
                let link = format!("<http://{other}/v2/a/referrers/x>; rel=\"next\"");
                token(path).unwrap_or_else(|| page(&link, "1"))
            },
            Err("points to another resource"),
        ),
        (
            "the referrers of another repository",
            |path, _| {
                let link = format!("</v2/secret/referrers/{DIGEST}>; rel=\"next\"");
                token(path).unwrap_or_else(|| page(&link, "1"))
            },
            Err("points to another resource"),
        ),
        (
            "no list",
            |path, _| token(path).unwrap_or_else(|| reply(200, &[], r#"{"manifests":null}"#)),
            Err("cannot be read"),
        ),
    ];
    Runtime::new().unwrap().block_on(async {
        for (what, answer, expected) in cases {
            let attacker = server(|_, _| reply(200, &[], "{}"), String::new()).await;
            let evil = server(answer, attacker.address.clone()).await;
            let registry = Registry::new(&evil.address, entra(&evil.address)).unwrap();
            match (registry.referrers("a", DIGEST).await, expected) {
                (Ok(found), Ok(count)) => assert_eq!(found.len(), count, "{what}"),
                (Err(error), Err(part)) => {
                    assert!(error.to_string().contains(part), "{what}: {error}");
                }
                (found, _) => panic!("{what}: {found:?}"),
            }
            assert!(attacker.seen.lock().unwrap().is_empty(), "{what}");
        }
    });
}

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";

fn sha256(text: &str) -> String {
    use sha2::{Digest, Sha256};
    let hash = Sha256::digest(text.as_bytes());
    format!("sha256:{}", hash.iter().map(|b| format!("{b:02x}")).collect::<String>())
}

fn a_manifest_that_lies_is_not_believed() {
    const PLAIN: &str = r#"{"schemaVersion":2,"layers":[]}"#;
    let cases: [(&str, Answer, &str); 6] = [
        (
            "other bytes",
            |path, _| {
                let kind = [("content-type", IMAGE.to_owned())];
                token(path)
                    .unwrap_or_else(|| reply(200, &kind, r#"{"schemaVersion":2,"layers":[1]}"#))
            },
            "whose digest is",
        ),
        (
            "another digest in its header",
            |path, _| {
                let other = format!("sha256:{}", "a".repeat(64));
                let kind = [("content-type", IMAGE.to_owned()), ("docker-content-digest", other)];
                token(path).unwrap_or_else(|| reply(200, &kind, PLAIN))
            },
            "but declared sha256:aaaa",
        ),
        (
            "another type",
            |path, _| {
                let kind = [("content-type", IMAGE.to_owned())];
                let body =
                    r#"{"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
                token(path).unwrap_or_else(|| reply(200, &kind, body))
            },
            "but was served as application/vnd.oci.image.manifest",
        ),
        (
            "an image and an index",
            |path, _| {
                let kind = [("content-type", IMAGE.to_owned())];
                token(path).unwrap_or_else(|| reply(200, &kind, r#"{"layers":[],"manifests":[]}"#))
            },
            "an image and an index",
        ),
        (
            "not JSON",
            |path, _| {
                let deep = "[".repeat(100_000);
                token(path).unwrap_or_else(|| reply(200, &[], &deep))
            },
            "not JSON",
        ),
        (
            "too long",
            |path, _| token(path).unwrap_or_else(|| reply(200, &[], &" ".repeat(5 << 20))),
            "longer than 4 MiB",
        ),
    ];
    Runtime::new().unwrap().block_on(async {
        for (what, answer, expected) in cases {
            let evil = server(answer, String::new()).await;
            let registry = Registry::new(&evil.address, entra(&evil.address)).unwrap();
            let name = match what {
                "other bytes" => Name::Digest(sha256(PLAIN)),
                _ => Name::Tag("x".into()),
            };
            let error = registry.content("a", &name).await.unwrap_err().to_string();
            assert!(error.contains(expected), "{what}: {error}");
        }
    });
}

fn a_redirected_blob_is_downloaded_without_a_credential() {
    let config = r#"{"os":"linux"}"#;
    let descriptor = |size: usize| azimg::testing::registry::Descriptor {
        media_type: "application/vnd.oci.image.config.v1+json".into(),
        digest: sha256(config),
        size: size as u64,
        artifact_type: None,
        annotations: Value::Null,
        platform: Value::Null,
        urls: Vec::new(),
    };
    Runtime::new().unwrap().block_on(async {
        let storage = server(|_, _| reply(200, &[], r#"{"os":"linux"}"#), String::new()).await;
        let front: Answer = |path, other| {
            let to = [("location", format!("http://{other}/blob?sig=SECRET"))];
            token(path).unwrap_or_else(|| reply(307, &to, ""))
        };
        let good = server(front, storage.address.clone()).await;
        let registry = Registry::new(&good.address, entra(&good.address)).unwrap();
        let found = registry.config("a", &descriptor(config.len())).await.unwrap();
        assert_eq!(found["os"], "linux");
        let seen = storage.seen.lock().unwrap().clone();
        assert!(seen.iter().all(|asked| asked.contains("None")), "{seen:?}");
        // A size that lies, bytes that are others, a place that is none, a configuration without end.
        let error = registry.config("a", &descriptor(config.len() - 1)).await.unwrap_err();
        assert!(error.to_string().contains("does not match the digest"), "{error}");
        let error = registry.config("a", &descriptor(9 << 20)).await.unwrap_err();
        assert!(error.to_string().contains("more than 8 MiB"), "{error}");
        let away = server(front, "169.254.169.254".to_owned()).await;
        let registry = Registry::new(&away.address, entra(&away.address)).unwrap();
        let error = registry.config("a", &descriptor(config.len())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        assert!(!error.to_string().contains("SECRET"), "{error}");
    });
}
