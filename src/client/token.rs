//! The tokens of an identity: one per audience, cached until shortly before it expires.
//!
//! The SDK's credentials either request a token for each call (`az`), or block all callers behind a
//! renewal that fails. Here each audience has at most one attempt at a time, in a separate task: a
//! valid token is served while it is renewed, callers without one wait for the same attempt, and a
//! refused token is dropped.

use super::foreign::causes;
use crate::error::{Error, ErrorKind, Result};
use async_trait::async_trait;
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::error::ErrorKind as Core;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use reqwest::header::HeaderValue;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// A token is renewed this long before it expires, or when a tenth of its lifetime is left if that
/// is later. The SDK's own caches return the same token until 300 s before expiry, so an earlier
/// renewal would have no effect.
const RENEW_BEFORE: Duration = Duration::from_secs(270);
/// Minimum lifetime assumed for a token, whatever this machine's clock says: the server that
/// receives the token knows better, and reports an expired one.
const SHORTEST: Duration = Duration::from_mins(1);
/// Pause after a failure before the next attempt: initially, and at most.
const PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// How long an unreachable endpoint is tried for an audience that never had a token: it may be the
/// wrong endpoint, and a user may be waiting for the error.
const FIRST_WAIT_LIMIT: Duration = Duration::from_secs(5);
/// How long it is tried when there was a token before.
const WAIT_LIMIT: Duration = Duration::from_secs(90);
/// Minimum interval between drops of a refused token: otherwise, with a server that refuses every
/// token, each request would ask for a new one.
const DROP_EVERY: Duration = Duration::from_mins(1);
/// Timeout of one try.
const LONGEST_TRY: Duration = Duration::from_secs(100);

/// Creates a credential of the SDK. The SDK cannot be told to forget a token; a new credential has
/// none.
type MakeCredential = dyn Fn() -> Result<Arc<dyn TokenCredential>> + Send + Sync;

/// An identity with its tokens. Clones share them.
#[derive(Clone)]
pub struct Tokens(Arc<Identity>);

struct Identity {
    make: Box<MakeCredential>,
    credential: Mutex<Arc<dyn TokenCredential>>,
    slots: Mutex<HashMap<String, Arc<Slot>>>,
}

/// State of the token for one audience.
#[derive(Default)]
struct Slot(Mutex<CachedToken>);

#[derive(Default)]
struct CachedToken {
    token: Option<Held>,
    attempt: Option<Attempt>,
    /// Failures in a row, the last reason, and until when no attempt is made.
    failed: Option<(u32, Failure, Instant)>,
    dropped: Option<Instant>,
    ever: bool,
}

/// The outcome of an attempt.
type AttemptResult = std::result::Result<Held, Failure>;
type Attempt = Shared<BoxFuture<'static, AttemptResult>>;

#[derive(Clone)]
struct Held {
    token: AccessToken,
    bearer: HeaderValue,
    renew: Instant,
    until: Instant,
}

/// Why there is no token.
#[derive(Clone)]
struct Failure {
    kind: ErrorKind,
    text: String,
    /// Whether there has never been a token. The attempt then lasted as long as a user waits for an
    /// error, so a further one is pointless.
    first: bool,
}

impl Failure {
    fn new(kind: ErrorKind, text: String) -> Self {
        Self { kind, text, first: false }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let error = Self::new(failure.kind, failure.text);
        if failure.first { error.without_retry() } else { error }
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens")
    }
}

impl From<Arc<dyn TokenCredential>> for Tokens {
    /// The tokens of a credential that caches none itself and need not be recreated.
    fn from(credential: Arc<dyn TokenCredential>) -> Self {
        let same = Arc::clone(&credential);
        Self(Arc::new(Identity {
            make: Box::new(move || Ok(Arc::clone(&same))),
            credential: Mutex::new(credential),
            slots: Mutex::default(),
        }))
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tokens {
    /// The tokens of the credential that `make` creates; it is created anew when a token is
    /// refused. An error when the first creation fails.
    pub fn new(
        make: impl Fn() -> Result<Arc<dyn TokenCredential>> + Send + Sync + 'static,
    ) -> Result<Self> {
        let credential = Mutex::new(make()?);
        Ok(Self(Arc::new(Identity { make: Box::new(make), credential, slots: Mutex::default() })))
    }

    /// The tokens of a credential that caches none itself.
    pub fn of(credential: impl TokenCredential + 'static) -> Self {
        (Arc::new(credential) as Arc<dyn TokenCredential>).into()
    }

    /// Returns the `Authorization` header value for `scope`, waiting for an attempt that is under
    /// way.
    pub async fn bearer(&self, scope: &str) -> Result<HeaderValue> {
        Ok(self.held(scope).await?.bearer)
    }

    /// Whether there is a valid token for any audience. If so, a missing token is a problem of its
    /// audience, not of the sign-in.
    pub fn is_signed_in(&self) -> bool {
        let now = Instant::now();
        let slots: Vec<Arc<Slot>> = locked(&self.0.slots).values().cloned().collect();
        let is_good = |held: &Held| now < held.until;
        slots.iter().any(|slot| locked(&slot.0).token.as_ref().is_some_and(is_good))
    }

    /// Reports that `bearer` was refused; returns whether another token exists or may be obtained:
    /// it was replaced already, or it is dropped now, at most once a minute.
    pub fn refused(&self, scope: &str, bearer: &HeaderValue) -> bool {
        let slot = self.slot(scope);
        let mut kept = locked(&slot.0);
        if kept.token.as_ref().is_none_or(|held| held.bearer != *bearer) {
            return true;
        }
        let now = Instant::now();
        if kept.dropped.is_some_and(|dropped| now < dropped + DROP_EVERY) {
            return false;
        }
        // Within the lock: a caller that finds no token must ask the new credential, since the old
        // one would return the same token.
        match (self.0.make)() {
            Ok(credential) => *locked(&self.0.credential) = credential,
            Err(error) => tracing::warn!(%error, "the credential cannot be recreated"),
        }
        (kept.token, kept.dropped) = (None, Some(now));
        true
    }

    fn slot(&self, scope: &str) -> Arc<Slot> {
        Arc::clone(locked(&self.0.slots).entry(scope.to_owned()).or_default())
    }

    async fn held(&self, scope: &str) -> Result<Held> {
        let slot = self.slot(scope);
        let (next, begun) = slot.next(Instant::now());
        if let Some((wait_limit, sender)) = begun {
            self.begin(scope, wait_limit, AttemptGuard { slot, sender: Some(sender) });
        }
        match next {
            Next::Token(held) => Ok(held),
            Next::Wait(attempt) => Ok(attempt.await?),
            Next::Failed(failure) => Err(failure.into()),
        }
    }

    /// Requests a token in a separate task, which continues when its caller stops waiting.
    fn begin(&self, scope: &str, wait_limit: Duration, under_way: AttemptGuard) {
        let (identity, scope) = (Arc::clone(&self.0), scope.to_owned());
        tokio::spawn(async move {
            let result = identity.ask(&scope, wait_limit).await;
            under_way.end(result);
        });
    }
}

/// What a caller that needs a token gets.
enum Next {
    Token(Held),
    Wait(Attempt),
    Failed(Failure),
}

/// An attempt to be started: how long it is tried, and where its outcome is sent.
type StartedAttempt = (Duration, oneshot::Sender<AttemptResult>);

impl Slot {
    /// The current state, and an attempt to start if one is due and none is under way.
    fn next(&self, now: Instant) -> (Next, Option<StartedAttempt>) {
        let mut kept = locked(&self.0);
        let paused = kept.failed.as_ref().filter(|(.., until)| now < *until);
        let is_good = kept.token.as_ref().filter(|held| now < held.until);
        match (is_good, &kept.attempt, paused) {
            (Some(held), attempt, paused) => {
                let held = held.clone();
                let is_due = now >= held.renew && attempt.is_none() && paused.is_none();
                // A caller with a valid token does not wait for the renewal.
                let begun = is_due.then(|| kept.begin(Duration::ZERO).1);
                (Next::Token(held), begun)
            }
            (None, Some(attempt), _) => (Next::Wait(attempt.clone()), None),
            (None, None, Some((_, failure, _))) => (Next::Failed(failure.clone()), None),
            (None, None, None) => {
                let wait_limit = if kept.ever { WAIT_LIMIT } else { FIRST_WAIT_LIMIT };
                let (attempt, begun) = kept.begin(wait_limit);
                (Next::Wait(attempt), Some(begun))
            }
        }
    }
}

impl CachedToken {
    fn begin(&mut self, wait_limit: Duration) -> (Attempt, StartedAttempt) {
        let (sender, receiver) = oneshot::channel();
        let outcome = async move {
            receiver.await.unwrap_or_else(|_| {
                let text = "the token request was cancelled".to_owned();
                Err(Failure::new(ErrorKind::Transient, text))
            })
        };
        let attempt = outcome.boxed().shared();
        self.attempt = Some(attempt.clone());
        (attempt, (wait_limit, sender))
    }
}

/// An attempt under way. If it is dropped before it ends, another can be started.
struct AttemptGuard {
    slot: Arc<Slot>,
    sender: Option<oneshot::Sender<AttemptResult>>,
}

impl Drop for AttemptGuard {
    fn drop(&mut self) {
        if self.sender.is_some() {
            locked(&self.slot.0).attempt = None;
        }
    }
}

impl AttemptGuard {
    fn end(mut self, result: AttemptResult) {
        let mut kept = locked(&self.slot.0);
        kept.attempt = None;
        let result = result.map_err(|failure| Failure { first: !kept.ever, ..failure });
        match &result {
            Ok(held) => {
                (kept.token, kept.failed, kept.ever) = (Some(held.clone()), None, true);
            }
            Err(failure) => {
                let times = kept.failed.as_ref().map_or(0, |(times, ..)| *times);
                let pause = (PAUSE * 2_u32.pow(times.min(6))).min(LONGEST_PAUSE);
                kept.failed = Some((times + 1, failure.clone(), Instant::now() + pause));
            }
        }
        drop(kept);
        if let Some(sender) = self.sender.take() {
            // The receiver may have been dropped.
            let _ = sender.send(result);
        }
    }
}

impl Identity {
    /// Retries until there is a token, a failure is permanent, or `wait_limit` is exceeded.
    async fn ask(&self, scope: &str, wait_limit: Duration) -> AttemptResult {
        let began = Instant::now();
        let mut wait = Duration::from_millis(500);
        loop {
            let failure = match self.once(scope).await {
                Ok(token) => return hold(token),
                Err(failure) => failure,
            };
            let is_over = began.elapsed() + wait > wait_limit;
            if failure.kind != ErrorKind::Transient || is_over {
                return Err(failure);
            }
            tracing::warn!(error = %failure.text, "no token yet; retrying");
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(10));
        }
    }

    async fn once(&self, scope: &str) -> std::result::Result<AccessToken, Failure> {
        let credential = Arc::clone(&*locked(&self.credential));
        let scopes = [scope];
        let request = credential.get_token(&scopes, None);
        match tokio::time::timeout(LONGEST_TRY, request).await {
            Ok(Ok(token)) => Ok(token),
            Ok(Err(error)) => Err(failure(&error)),
            Err(_) => {
                let text = format!("no response within {} s", LONGEST_TRY.as_secs());
                Err(Failure::new(ErrorKind::Transient, text))
            }
        }
    }
}

/// Classifies an error of the SDK: an endpoint that is unreachable or unhealthy is a transient
/// failure.
fn failure(error: &azure_core::Error) -> Failure {
    let mut kind = ErrorKind::SignedOut;
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(ours) = error.downcast_ref::<Error>() {
            kind = ours.kind();
        }
        if let Some(Core::HttpResponse { status, .. }) =
            error.downcast_ref::<azure_core::Error>().map(azure_core::Error::kind)
            && matches!(u16::from(*status), 404 | 408 | 410 | 429 | 500..=599)
        {
            kind = ErrorKind::Transient;
        }
        cause = error.source();
    }
    Failure::new(kind, causes(error))
}

fn hold(token: AccessToken) -> AttemptResult {
    let bearer = HeaderValue::try_from(format!("Bearer {}", token.token.secret()));
    let Ok(mut bearer) = bearer else {
        let text = "the token is not valid in a header".to_owned();
        return Err(Failure::new(ErrorKind::SignedOut, text));
    };
    bearer.set_sensitive(true);
    let life = Duration::try_from(token.expires_on - OffsetDateTime::now_utc());
    let life = life.unwrap_or_default().max(SHORTEST);
    let until = Instant::now() + life;
    Ok(Held { token, bearer, renew: until - RENEW_BEFORE.min(life / 10), until })
}

#[async_trait]
impl TokenCredential for Tokens {
    async fn get_token(
        &self,
        scopes: &[&str],
        _: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        let scope = scopes.first().copied().unwrap_or_default();
        self.held(scope).await.map(|held| held.token).map_err(|error| {
            let text = error.to_string();
            azure_core::Error::with_error(Core::Credential, error, text)
        })
    }
}
