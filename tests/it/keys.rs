//! The key of the embedded host: which routes need it, how it is made and kept, and a host without one.

use crate::support::callers::{asked, paths, refused, runs};
use crate::support::http::stage;
use crate::support::web::Host;
use crate::support::{Azure, finish, threads};
use crate::tests;
use azimg::testing::sim::{Scale, generate};
use reqwest::Client;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

tests![
    only_routes_that_start_runs_need_the_key,
    a_key_is_created_once_and_is_private,
    a_host_without_a_key_warns_and_still_refuses_other_origins,
];

fn only_routes_that_start_runs_need_the_key() {
    let (azure, folder, host) = stage(503);
    let (before, runs_before) = (asked(&azure), runs(folder.path()));
    let wrong = format!("{}x", host.key);
    threads(async {
        let (client, at) = (Client::new(), |path: &str| format!("{}/{path}", host.address));
        let post =
            |url: String| client.post(url).header("content-type", "application/json").body("{}");
        for answer in [
            post(at("runs")).send().await.unwrap(),
            post(at(&format!("runs?code={wrong}"))).send().await.unwrap(),
            post(at("runs?code=")).send().await.unwrap(),
            post(at("runs")).header("x-functions-key", &wrong).send().await.unwrap(),
            post(at("runs")).header("x-functions-key", &host.key[1..]).send().await.unwrap(),
            post(at("runs")).header("authorization", &host.key).send().await.unwrap(),
            // The header comes before the address, as in Azure.
            post(at(&format!("runs?code={}", host.key)))
                .header("x-functions-key", "")
                .send()
                .await
                .unwrap(),
            client.put(at("images")).send().await.unwrap(),
            client.delete(at("runs")).send().await.unwrap(),
            client.get(at("images/usage")).send().await.unwrap(),
            client.head(at("images/usage?top=1")).send().await.unwrap(),
            client
                .get(at("images?live=true&publisher=debian&location=eastus"))
                .send()
                .await
                .unwrap(),
            client.get(at("images?publisher=debian&%6Cive=TRUE")).send().await.unwrap(),
        ] {
            let at = answer.url().to_string();
            assert!(answer.headers().contains_key("www-authenticate"), "{at}");
            let text = refused(answer).await;
            assert_eq!(text, (401, "AuthenticationFailed".into()), "{at}");
        }
        let answer = post(at("runs")).send().await.unwrap().text().await.unwrap();
        assert!(answer.contains("host.key") && answer.contains("x-functions-key"), "{answer}");
        assert!(!answer.contains(folder.path().to_str().unwrap()), "{answer}");
        // Whatever can be read without it, nothing of it asks Azure.
        for path in paths(&host).await {
            for query in
                ["", "?top=1", "?urn=Ubuntu2404", "?live=true&publisher=debian&location=eastus"]
            {
                let url = format!("http://{}{path}{query}", host.authority());
                let answer = client.get(&url).send().await.unwrap();
                let takes = path.ends_with("/usage")
                    || (path.ends_with("/images") && query.contains("live"));
                assert_eq!(answer.status() == 401, takes, "{url}");
            }
        }
        assert_eq!((asked(&azure), runs(folder.path())), (before, runs_before.clone()));
        // With it: in the header, or in the address under a name of any case.
        let started =
            client.post(at("runs")).headers(host.starting()).body("{\"locations\":[\"eastus\"]}");
        assert_eq!(started.send().await.unwrap().status(), 202);
        let started = post(at(&format!("runs?Code={}", host.key))).body("{\"force\":true}");
        assert_eq!(started.send().await.unwrap().status(), 202);
        let usage = client.get(at(&format!("images/usage?code={}", host.key)));
        assert_ne!(usage.send().await.unwrap().status(), 401);
    });
    assert_eq!(runs(folder.path()).len(), runs_before.len() + 2);
    assert!(asked(&azure) > before);
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

fn a_key_is_created_once_and_is_private() {
    let azure = Azure::start(generate(Scale::Small, 504));
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let file = store.join("host.key");
    let first = Host::start(&azure, &store);
    let kept = std::fs::read_to_string(&file).unwrap();
    assert_eq!((kept.trim_end(), mode(&file)), (first.key.as_str(), 0o600));
    assert!(first.key.len() >= 43, "{}", first.key);
    assert!(
        first.said.iter().any(|line| line.contains(file.to_str().unwrap())),
        "{:?}",
        first.said
    );
    drop(first);
    let again = Host::start(&azure, &store);
    assert_eq!(again.key, kept.trim_end(), "the next start takes the same");
    drop(again);
    // Another store has another.
    let other = Host::start(&azure, &folder.path().join("other"));
    assert_ne!(other.key, kept.trim_end());
    drop(other);

    let refuses = |why: &str| {
        let (code, _, stderr) = finish(&mut Host::command(&azure, &store));
        assert_eq!(code, 1, "{stderr}");
        assert!(stderr.contains("host.key") && stderr.contains(why), "{stderr}");
        let what_to_do = ["emove the file", "specify the file that it points to"];
        assert!(what_to_do.iter().any(|text| stderr.contains(text)), "{stderr}");
        assert!(
            !stderr.contains(kept.trim_end()) && !stderr.contains("functions are at"),
            "{stderr}"
        );
    };
    for others in [0o640, 0o604, 0o620, 0o602, 0o644, 0o666] {
        std::fs::set_permissions(&file, PermissionsExt::from_mode(others)).unwrap();
        refuses("other users can read or change it");
    }
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    for text in [
        "",
        "short\n",
        "x".repeat(300).as_str(),
        "a key with spaces in it is no key at all, or is it\n",
    ] {
        std::fs::write(&file, text).unwrap();
        refuses("32 to 256");
    }
    let elsewhere = folder.path().join("elsewhere");
    std::fs::write(&elsewhere, &kept).unwrap();
    std::fs::set_permissions(&elsewhere, PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::remove_file(&file).unwrap();
    symlink(&elsewhere, &file).unwrap();
    refuses("it is a link");
    std::fs::remove_file(&file).unwrap();
    symlink(folder.path().join("nothing"), &file).unwrap();
    refuses("it is a link");
    assert!(!folder.path().join("nothing").exists(), "nothing is made through a link");
    // A key of one's own, where one wants it.
    std::fs::remove_file(&file).unwrap();
    let mut command = Host::command(&azure, &store);
    let host = Host::of(command.args(["--key-file", elsewhere.to_str().unwrap()]));
    assert_eq!((host.key.as_str(), file.exists()), (kept.trim_end(), false));
}

fn a_host_without_a_key_warns_and_still_refuses_other_origins() {
    let azure = Azure::start(generate(Scale::Small, 505));
    let folder = tempfile::tempdir().unwrap();
    let host = Host::of(Host::command(&azure, folder.path()).arg("--no-key"));
    let said = host.said.join("\n");
    assert!(said.contains("--no-key") && said.contains("every user of this machine"), "{said}");
    assert!(host.key.is_empty() && !folder.path().join("host.key").exists());
    threads(async {
        let start = || Client::new().post(format!("{}/runs", host.address));
        let foreign = start().header("origin", "http://evil.example").send().await.unwrap();
        assert_eq!(refused(foreign).await.0, 403, "pages are refused all the same");
        let form = start().header("content-type", "text/plain").body("{}").send().await.unwrap();
        assert_eq!(form.status(), 415);
        assert_eq!(start().send().await.unwrap().status(), 202);
    });
    let help = finish(&mut azure.azimg(&["host", "--help"])).1;
    for word in
        ["--no-key", "x-functions-key", "curl -X POST", "host.key", "AZIMG_CORS_ORIGINS", "--name"]
    {
        assert!(help.contains(word), "{word}: {help}");
    }
}
