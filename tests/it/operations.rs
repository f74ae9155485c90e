//! Changes of galleries: made once, followed to their end, never half done without saying so.

use crate::galleries::tenant;
use crate::support::faulty::{Fault, Faulty, How};
use crate::support::{Azure, finish, json, paused};
use crate::tests;
use azimg::client::{Client, Tokens, Wire, WireRequest};
use azimg::gallery::{
    ChangeOutcome, Changes, Galleries, Name, ShareWith, SharingChange, WaitLimits,
};
use azimg::sim::{Conditions, OrganisationSize, Sim, SimCredential};
use reqwest::header::HeaderValue;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use time::OffsetDateTime;

tests![
    an_update_whose_answer_is_lost_is_made_once,
    a_change_that_never_arrives_is_given_up_and_says_so,
    sharing_whose_answer_is_lost_is_made_once,
    the_command_line_shows_makes_and_follows_a_change,
    no_signature_is_ever_said,
];

pub const SIZE: OrganisationSize =
    OrganisationSize { versions: 120, machines: 0, ..OrganisationSize::FEW };

/// How the answer to a request that changes something is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The request never arrives.
    Before,
    /// It is done, and the answer never arrives.
    After,
}

/// A wire on which the n-th change is lost, and that can stop altogether.
#[derive(Debug)]
pub struct Losing {
    inner: crate::support::fleet::Direct,
    lose: Vec<Loss>,
    pub changes: AtomicUsize,
    /// The process dies instead of sending another change after so many.
    dies_after: usize,
    pub dies: tokio::sync::Notify,
}

#[async_trait::async_trait]
impl Wire for Losing {
    async fn send(
        &self,
        request: &WireRequest,
        authorized: Option<HeaderValue>,
    ) -> azimg::error::Result<azimg::client::WireResponse> {
        let lost = || azimg::error::Error::transient("the connection broke");
        let changes =
            request.method != reqwest::Method::GET && !request.url.path().contains("Graph");
        if !changes {
            return self.inner.send(request, authorized).await;
        }
        let number = self.changes.fetch_add(1, Ordering::SeqCst);
        if number >= self.dies_after {
            self.dies.notify_one();
            std::future::pending::<()>().await;
        }
        match self.lose.get(number) {
            Some(Loss::Before) => Err(lost()),
            Some(Loss::After) => {
                self.inner.send(request, authorized).await?;
                Err(lost())
            }
            None => self.inner.send(request, authorized).await,
        }
    }
}

pub struct Stage {
    pub sim: Arc<Sim>,
    pub wire: Arc<Losing>,
    pub galleries: Galleries,
}

pub fn stage(lose: &[Loss]) -> Stage {
    let sim = Sim::new(tenant(SIZE), Conditions::default());
    on(&sim, lose, usize::MAX)
}

pub fn on(sim: &Arc<Sim>, lose: &[Loss], dies_after: usize) -> Stage {
    let sim = Arc::clone(sim);
    let inner = crate::support::fleet::Direct {
        sim: Arc::clone(&sim),
        latency: Duration::from_millis(50),
        random: None,
    };
    let changes = AtomicUsize::new(0);
    let wire = Arc::new(Losing {
        inner,
        lose: lose.to_vec(),
        changes,
        dies_after,
        dies: tokio::sync::Notify::new(),
    });
    let endpoint = "http://127.0.0.1:1".parse().unwrap();
    let client = Client::over(
        Arc::clone(&wire) as Arc<dyn Wire>,
        endpoint,
        "scope".into(),
        vec![Tokens::of(SimCredential)],
    );
    let galleries = Galleries::new(client.unwrap()).with_patience(WaitLimits::default());
    Stage { sim, wire, galleries }
}

/// The first gallery, its first definition and that one's first version.
pub fn first(sim: &Sim) -> [Name; 3] {
    nth(sim, 0)
}

/// The same of the n-th gallery; the one behind the first is there to be shared.
pub fn nth(sim: &Sim, number: usize) -> [Name; 3] {
    let all = sim.organisation();
    let gallery = all.galleries.values().nth(number).unwrap();
    let definition = gallery.definitions.values().next().unwrap();
    let version = definition.versions.values().find(|v| v.state == "Succeeded").unwrap();
    let id = gallery.id();
    let names = [
        id.clone(),
        format!("{id}/images/{}", definition.name),
        format!("{id}/images/{}/versions/{}", definition.name, version.name),
    ];
    names.map(|id| Name::from_id(&id).unwrap())
}

pub fn changed(sim: &Sim, operation: &str) -> u64 {
    let stats = sim.stats.to_json();
    let counts = stats["operations"][operation].as_object().cloned().unwrap_or_default();
    counts.values().filter_map(Value::as_u64).sum()
}

fn an_update_whose_answer_is_lost_is_made_once() {
    for lose in [&[][..], &[Loss::After], &[Loss::Before], &[Loss::Before, Loss::After]] {
        let stage = stage(lose);
        let [.., version] = first(&stage.sim);
        let changes = Changes {
            exclude_from_latest: Some(true),
            end_of_life: Some(Some(OffsetDateTime::UNIX_EPOCH)),
            add_regions: vec!["japaneast=2".parse().unwrap()],
            ..Changes::default()
        };
        paused(async {
            let change = stage.galleries.plan_update(&version, &changes).await.unwrap().unwrap();
            let ended =
                stage.galleries.update(&version, &changes, &change, true, &|_| {}).await.unwrap();
            assert!(matches!(ended, ChangeOutcome::Done));
            let again = stage.galleries.plan_update(&version, &changes).await.unwrap();
            assert!(again.is_none(), "it is so already");
        });
        assert_eq!(changed(&stage.sim, "UpdateGalleryVersion"), 1, "{lose:?}");
        let sent = stage.wire.changes.load(Ordering::SeqCst);
        let before = lose.iter().filter(|loss| **loss == Loss::Before).count();
        assert_eq!(sent, before + 1, "{lose:?}");
    }
}

fn a_change_that_never_arrives_is_given_up_and_says_so() {
    let stage = stage(&[Loss::Before; 9]);
    let [gallery, ..] = first(&stage.sim);
    let changes = Changes { description: Some("new".into()), ..Changes::default() };
    let error = paused(async {
        let change = stage.galleries.plan_update(&gallery, &changes).await.unwrap().unwrap();
        stage.galleries.update(&gallery, &changes, &change, true, &|_| {}).await.unwrap_err()
    });
    assert!(error.to_string().contains("look at it again"), "{error}");
    assert_eq!(changed(&stage.sim, "UpdateGallery"), 0);
}

fn sharing_whose_answer_is_lost_is_made_once() {
    let with = ShareWith {
        subscriptions: vec!["12345678-1234-4234-8234-123456789012".into()],
        tenants: vec!["22345678-1234-4234-8234-123456789012".into()],
    };
    for lose in [&[][..], &[Loss::After], &[Loss::Before]] {
        let stage = stage(lose);
        let [gallery, definition, _] = nth(&stage.sim, 1);
        paused(async {
            let add = SharingChange::Add(with.clone());
            let change = stage.galleries.plan_sharing(&gallery, &add).await.unwrap().unwrap();
            stage.galleries.share(&gallery, &add, &change, true, &|_| {}).await.unwrap();
            assert!(stage.galleries.plan_sharing(&gallery, &add).await.unwrap().is_none());
            let remove = SharingChange::Remove(with.clone());
            let change = stage.galleries.plan_sharing(&gallery, &remove).await.unwrap().unwrap();
            stage.galleries.share(&gallery, &remove, &change, true, &|_| {}).await.unwrap();
            let refused = stage.galleries.plan_sharing(&definition, &SharingChange::Reset).await;
            assert!(refused.is_err());
        });
        assert_eq!(changed(&stage.sim, "PostShareGallery"), 2, "{lose:?}");
    }
}

fn the_command_line_shows_makes_and_follows_a_change() {
    let azure = Azure::start(tenant(SIZE));
    let [gallery, definition, version] = first(&azure.sim).map(|name| name.id());
    let with = |arguments: &[&str]| json(&mut azure.azimg(arguments));
    let arguments = ["gallery", "update", &version, "--end-of-life", "2030-01-01"];
    let shown = with(&[&arguments[..], &["--dry-run", "-o", "json"]].concat());
    assert_eq!(shown["method"], "PATCH");
    let end = &shown["body"]["properties"]["publishingProfile"]["endOfLifeDate"];
    assert_eq!(end, "2030-01-01T00:00:00Z");
    assert_eq!(changed(&azure.sim, "UpdateGalleryVersion"), 0);
    let begun = with(&[&arguments[..], &["--no-wait", "-o", "json"]].concat());
    let operation = begun["operation"].as_str().unwrap();
    let ended = with(&["gallery", "wait", operation, "-o", "json"]);
    assert_eq!(ended["state"], "succeeded");
    // By its short name, as people call it.
    let short = |id: &str, parts: &[usize]| {
        let all: Vec<&str> = id.split('/').collect();
        parts.iter().map(|at| all[*at]).collect::<Vec<_>>().join("/")
    };
    let name = short(&definition, &[8, 10]);
    let after = with(&["gallery", "update", &name, "--max-vcpus", "32", "-o", "json"]);
    assert_eq!(after["properties"]["recommended"]["vCPUs"]["max"], 32);
    let refused = |arguments: &[&str], code: i32, part: &str| {
        let (found, _, stderr) = finish(&mut azure.azimg(arguments));
        assert_eq!(found, code, "{stderr}");
        assert!(stderr.contains(part), "{stderr}");
    };
    refused(&["gallery", "update", &definition, "--os", "Windows"], 2, "make a new definition");
    refused(&["gallery", "update", &gallery, "--end-of-life", "none"], 2, "what can be is");
    refused(&["gallery", "update", &version, "--description", "x"], 2, "--target-region");
    refused(&["gallery", "update", "nobody/x", "--description", "x"], 4, "no gallery 'nobody'");
    refused(&["gallery", "share", &gallery, "--tenant", "me"], 2, "'me' is the id of no");
    refused(&["gallery", "wait", "https://example.com/x"], 1, "refused to send the token");
    refused(&["gallery", "retire", "--keep", "1", "--action", "delete"], 1, "--max-percent");
}

/// The address of an operation is signed: it reaches no log and no error, but the one line that says how to go on.
fn no_signature_is_ever_said() {
    let faults = vec![Fault::new("capsoperations", usize::MAX, How::Answer(403, &[], "{}"))];
    let faulty = Faulty::start(Azure::start(tenant(SIZE)), faults);
    let [gallery, ..] = first(&faulty.azure.sim).map(|name| name.id());
    let arguments = ["-vv", "gallery", "update", &gallery, "--description", "x"];
    let (code, stdout, stderr) = finish(&mut faulty.azimg(&arguments));
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("403"), "{stderr}");
    let lines: Vec<&str> = stdout.lines().chain(stderr.lines()).collect();
    let (advice, others): (Vec<&str>, Vec<&str>) =
        lines.into_iter().partition(|line| line.contains("azimg gallery wait '"));
    assert_eq!(advice.len(), 1, "{stderr}");
    for line in others {
        for secret in ["SIGNATURE", "CERTIFICATE", "HASH"] {
            assert!(!line.contains(secret), "{line}");
        }
    }
}
