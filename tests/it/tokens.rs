//! Tokens of an identity: how often its endpoint is requested, which callers wait, and what happens when the endpoint is
//! unreachable or refuses.

use crate::support::paused;
use crate::tests;
use async_trait::async_trait;
use azimg::testing::client::Tokens;
use azimg::testing::error::{Error, ErrorKind, Result};
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use futures::future::join_all;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;
use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

tests![
    concurrent_requests_share_one_token_request,
    a_token_request_survives_its_cancelled_caller,
    a_dropped_token_request_does_not_block_the_next,
    a_refused_token_is_not_requested_from_the_same_credential_again,
    a_token_is_renewed_before_expiry_and_serves_meanwhile,
    a_failed_renewal_blocks_no_request_and_backs_off,
    short_lived_and_seemingly_expired_tokens_are_used,
    an_unreachable_endpoint_is_retried_and_a_refusal_is_not,
    a_refused_token_and_its_credential_are_renewed_once_a_minute,
];

const SCOPE: &str = "https://management.azure.com/.default";

/// A credential that does as it is told.
#[derive(Debug, Default)]
struct Script {
    asked: AtomicUsize,
    /// How long its tokens live, in seconds.
    life: Mutex<i64>,
    /// What it fails with.
    fails: Mutex<Option<ErrorKind>>,
    /// Whether it waits for `gate`.
    holds: AtomicBool,
    gate: Notify,
}

impl Script {
    fn new(life: i64) -> Arc<Self> {
        Arc::new(Self { life: Mutex::new(life), ..Self::default() })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    fn fail(&self, kind: Option<ErrorKind>) {
        *self.fails.lock().unwrap() = kind;
    }

    fn tokens(self: &Arc<Self>) -> Tokens {
        (Arc::clone(self) as Arc<dyn TokenCredential>).into()
    }
}

#[async_trait]
impl TokenCredential for Script {
    async fn get_token(
        &self,
        _: &[&str],
        _: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        if self.holds.load(Ordering::Relaxed) {
            self.gate.notified().await;
        }
        if let Some(kind) = *self.fails.lock().unwrap() {
            let error = Error::new(kind, "it is away");
            let core = azure_core::error::ErrorKind::Credential;
            return Err(azure_core::Error::with_error(core, error, "it is away"));
        }
        let life = time::Duration::seconds(*self.life.lock().unwrap());
        Ok(AccessToken::new(format!("token-{number}"), OffsetDateTime::now_utc() + life))
    }
}

async fn text(tokens: &Tokens) -> Result<String> {
    let bearer = tokens.bearer(SCOPE).await?;
    assert!(bearer.is_sensitive());
    Ok(bearer.to_str().unwrap().to_owned())
}

fn concurrent_requests_share_one_token_request() {
    paused(async {
        let script = Script::new(3_600);
        let tokens = script.tokens();
        let reported = join_all((0..200).map(|_| text(&tokens))).await;
        assert!(reported.into_iter().all(|reported| reported.unwrap() == "Bearer token-0"));
        let clone = tokens.clone();
        assert_eq!(text(&clone).await.unwrap(), "Bearer token-0");
        assert_eq!(script.asked(), 1);
        // Another audience has a token of its own.
        clone.bearer("https://storage.azure.com/.default").await.unwrap();
        assert_eq!(script.asked(), 2);
    });
}

fn a_token_request_survives_its_cancelled_caller() {
    paused(async {
        let script = Script::new(3_600);
        script.holds.store(true, Ordering::Relaxed);
        let tokens = script.tokens();
        let first = tokio::spawn({
            let tokens = tokens.clone();
            async move { text(&tokens).await }
        });
        sleep(Duration::from_millis(1)).await;
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        let second = text(&tokens);
        script.holds.store(false, Ordering::Relaxed);
        script.gate.notify_waiters();
        assert_eq!((second.await.unwrap(), script.asked()), ("Bearer token-0".to_owned(), 1));
    });
}

fn a_dropped_token_request_does_not_block_the_next() {
    let script = Script::new(3_600);
    script.holds.store(true, Ordering::Relaxed);
    let tokens = script.tokens();
    // With its runtime, every task is dropped where it stands.
    paused(async {
        let asking = tokens.clone();
        tokio::spawn(async move { text(&asking).await });
        sleep(Duration::from_millis(1)).await;
    });
    assert_eq!(script.asked(), 1);
    script.holds.store(false, Ordering::Relaxed);
    assert_eq!(paused(text(&tokens)).unwrap(), "Bearer token-1");
}

/// One who comes while the refused token is being dropped.
fn a_refused_token_is_not_requested_from_the_same_credential_again() {
    let (old, new) = (Script::new(3_600), Script::new(7_200));
    let own: Arc<OnceLock<Tokens>> = Arc::default();
    let comes: Arc<Mutex<Option<JoinHandle<String>>>> = Arc::default();
    let tokens = {
        let (old, new) = (Arc::clone(&old), Arc::clone(&new));
        let (own, comes) = (Arc::clone(&own), Arc::clone(&comes));
        Tokens::new(move || {
            let Some(tokens) = own.get().cloned() else {
                return Ok(Arc::clone(&old) as Arc<dyn TokenCredential>);
            };
            let asks = std::thread::spawn(move || paused(text(&tokens)).unwrap());
            *comes.lock().unwrap() = Some(asks);
            // As long as the other one may need to get there.
            let looks = (0..200).take_while(|_| old.asked() < 2);
            looks.for_each(|_| std::thread::sleep(Duration::from_millis(1)));
            Ok(Arc::clone(&new) as Arc<dyn TokenCredential>)
        })
        .unwrap()
    };
    own.set(tokens.clone()).unwrap();
    let refused = paused(tokens.bearer(SCOPE)).unwrap();
    assert!(tokens.refused(SCOPE, &refused));
    let reported = comes.lock().unwrap().take().unwrap().join().unwrap();
    // It came before the drop, or got one of the new credential: the old one was not asked again.
    assert!(reported.starts_with("Bearer token-"), "{reported}");
    assert_eq!(old.asked(), 1);
    paused(tokens.bearer(SCOPE)).unwrap();
    assert_eq!((old.asked(), new.asked()), (1, 1));
}

fn a_token_is_renewed_before_expiry_and_serves_meanwhile() {
    paused(async {
        let script = Script::new(3_600);
        let tokens = script.tokens();
        text(&tokens).await.unwrap();
        sleep(Duration::from_secs(3_600 - 280)).await;
        assert_eq!((text(&tokens).await.unwrap(), script.asked()), ("Bearer token-0".into(), 1));
        sleep(Duration::from_secs(15)).await;
        script.holds.store(true, Ordering::Relaxed);
        for _ in 0..1_000 {
            assert_eq!(text(&tokens).await.unwrap(), "Bearer token-0");
        }
        sleep(Duration::from_millis(1)).await;
        assert_eq!(text(&tokens).await.unwrap(), "Bearer token-0");
        assert_eq!(script.asked(), 2, "one renewal for all of them");
        script.gate.notify_waiters();
        sleep(Duration::from_millis(1)).await;
        assert_eq!((text(&tokens).await.unwrap(), script.asked()), ("Bearer token-1".into(), 2));
    });
}

fn a_failed_renewal_blocks_no_request_and_backs_off() {
    paused(async {
        let script = Script::new(3_600);
        let tokens = script.tokens();
        text(&tokens).await.unwrap();
        sleep(Duration::from_secs(3_600 - 269)).await;
        script.fail(Some(ErrorKind::Transient));
        let began = Instant::now();
        // Four minutes and more of a request every 10 ms.
        for _ in 0..26_000 {
            assert_eq!(text(&tokens).await.unwrap(), "Bearer token-0");
            sleep(Duration::from_millis(10)).await;
        }
        let asked = script.asked();
        assert!((3..12).contains(&asked), "{asked} in {:?}", began.elapsed());
        script.fail(None);
        sleep(Duration::from_secs(20)).await;
        // Whoever comes when it is over waits for an attempt; the pause of a failure may still run.
        let mut last = text(&tokens).await;
        for _ in 0..100 {
            if last.is_ok() {
                break;
            }
            sleep(Duration::from_secs(1)).await;
            last = text(&tokens).await;
        }
        assert!(last.unwrap() != "Bearer token-0");
    });
}

fn short_lived_and_seemingly_expired_tokens_are_used() {
    paused(async {
        for (life, longest) in [(240, 216), (10, 54), (-7_200, 54)] {
            let script = Script::new(life);
            let tokens = script.tokens();
            for _ in 0..longest - 1 {
                text(&tokens).await.unwrap();
                sleep(Duration::from_secs(1)).await;
            }
            assert_eq!(script.asked(), 1, "{life} s");
            sleep(Duration::from_secs(70)).await;
            text(&tokens).await.unwrap();
            sleep(Duration::from_millis(1)).await;
            assert_eq!(script.asked(), 2, "{life} s");
        }
    });
}

fn an_unreachable_endpoint_is_retried_and_a_refusal_is_not() {
    paused(async {
        for (kind, tries) in [(ErrorKind::Transient, 4), (ErrorKind::SignedOut, 1)] {
            let script = Script::new(3_600);
            script.fail(Some(kind));
            let tokens = script.tokens();
            let began = Instant::now();
            let error = text(&tokens).await.unwrap_err();
            assert_eq!((error.kind(), script.asked()), (kind, tries));
            // In simulated time.
            assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
            // It is not asked again for each request.
            for _ in 0..100 {
                assert_eq!(text(&tokens).await.unwrap_err().to_string(), error.to_string());
            }
            assert_eq!(script.asked(), tries);
            script.fail(None);
            sleep(Duration::from_secs(6)).await;
            text(&tokens).await.unwrap();
            // One that was there is waited for longer.
            sleep(Duration::from_secs(3_700)).await;
            script.fail(Some(ErrorKind::Transient));
            let (late, ()) = tokio::join!(text(&tokens), async {
                sleep(Duration::from_mins(1)).await;
                script.fail(None);
            });
            late.unwrap();
        }
    });
}

fn a_refused_token_and_its_credential_are_renewed_once_a_minute() {
    paused(async {
        let script = Script::new(3_600);
        let made = Arc::new(AtomicUsize::new(0));
        let tokens = {
            let (script, made) = (Arc::clone(&script), Arc::clone(&made));
            Tokens::new(move || {
                made.fetch_add(1, Ordering::Relaxed);
                Ok(Arc::clone(&script) as Arc<dyn TokenCredential>)
            })
            .unwrap()
        };
        let first = tokens.bearer(SCOPE).await.unwrap();
        assert!(tokens.refused(SCOPE, &first));
        assert!(tokens.refused(SCOPE, &first), "somebody else dropped it already");
        let second = tokens.bearer(SCOPE).await.unwrap();
        assert!(tokens.refused(SCOPE, &first), "there is another one already");
        assert!(!tokens.refused(SCOPE, &second), "all of them are refused");
        assert_eq!((script.asked(), made.load(Ordering::Relaxed)), (2, 2));
        sleep(Duration::from_secs(61)).await;
        assert!(tokens.refused(SCOPE, &second));
        tokens.bearer(SCOPE).await.unwrap();
        assert_eq!((script.asked(), made.load(Ordering::Relaxed)), (3, 3));
    });
}
