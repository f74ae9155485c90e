//! The tokens of an identity: one for each audience, kept until shortly before its end.
//!
//! Credentials of the SDK ask anew for each request (`az`), or keep everybody waiting behind a renewal that
//! fails. Here one attempt at a time is made for an audience, by a task of its own: a token that is still good
//! is served while it is renewed, whoever needs the first one waits for the same attempt, and a token that
//! was refused is dropped.

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

/// A token is renewed so long before it ends, or when a tenth of its life is left. The SDK's own caches
/// give theirs out again until 300 s before the end, so that earlier would be in vain.
const RENEW_BEFORE: Duration = Duration::from_secs(270);
/// A token is believed for so long at least, whatever this machine's clock says of its end: whoever
/// gets it knows better, and says so.
const SHORTEST: Duration = Duration::from_mins(1);
/// So long after a failure nobody asks again: at first, and at most.
const PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// So long an endpoint that is not there is tried by whoever never had a token of it: it may be the wrong one,
/// and somebody waits for being told.
const FIRST_PATIENCE: Duration = Duration::from_secs(5);
/// So long it is tried when it was there before.
const PATIENCE: Duration = Duration::from_secs(90);
/// A token that was refused is dropped this often at most: a server that refuses all of them would
/// have each request ask for a new one.
const DROP_EVERY: Duration = Duration::from_mins(1);
/// One try ends after this long.
const LONGEST_TRY: Duration = Duration::from_secs(100);

/// Makes a credential of the SDK, which cannot be told to forget a token: a new one has none.
type MakeCredential = dyn Fn() -> Result<Arc<dyn TokenCredential>> + Send + Sync;

/// An identity with its tokens. Clones share them.
#[derive(Clone)]
pub struct Tokens(Arc<Identity>);

struct Identity {
    make: Box<MakeCredential>,
    credential: Mutex<Arc<dyn TokenCredential>>,
    slots: Mutex<HashMap<String, Arc<Slot>>>,
}

/// What is known of the token for one audience.
#[derive(Default)]
struct Slot(Mutex<CachedToken>);

#[derive(Default)]
struct CachedToken {
    token: Option<Held>,
    attempt: Option<Attempt>,
    /// How often in a row it could not be had, why, and until when nobody asks.
    failed: Option<(u32, Failure, Instant)>,
    dropped: Option<Instant>,
    ever: bool,
}

/// What an attempt ends with.
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
    /// Whether there has never been a token: it was tried for as long as somebody waits.
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
        if failure.first { error.in_vain() } else { error }
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens")
    }
}

impl From<Arc<dyn TokenCredential>> for Tokens {
    /// The tokens of a credential that keeps none itself, and needs not be made anew.
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
    /// The tokens of what `make` makes; it is made anew when a token was refused. An error when it
    /// cannot be made at all.
    pub fn new(
        make: impl Fn() -> Result<Arc<dyn TokenCredential>> + Send + Sync + 'static,
    ) -> Result<Self> {
        let credential = Mutex::new(make()?);
        Ok(Self(Arc::new(Identity { make: Box::new(make), credential, slots: Mutex::default() })))
    }

    /// The tokens of a credential that keeps none itself.
    pub fn of(credential: impl TokenCredential + 'static) -> Self {
        (Arc::new(credential) as Arc<dyn TokenCredential>).into()
    }

    /// The token for `scope`, ready to be sent.
    pub async fn bearer(&self, scope: &str) -> Result<HeaderValue> {
        Ok(self.held(scope).await?.bearer)
    }

    /// Whether there is a good token for anything: then one that cannot be had is the matter of what it is for.
    pub fn is_signed_in(&self) -> bool {
        let now = Instant::now();
        let slots: Vec<Arc<Slot>> = locked(&self.0.slots).values().cloned().collect();
        let is_good = |held: &Held| now < held.until;
        slots.iter().any(|slot| locked(&slot.0).token.as_ref().is_some_and(is_good))
    }

    /// `bearer` was refused. Whether there is, or may be, another one: somebody else has it already, or
    /// the one that was refused is dropped, which is done once a minute at most.
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
        // Within the lock: whoever finds no token asks the new credential, since the old one would give the same.
        match (self.0.make)() {
            Ok(credential) => *locked(&self.0.credential) = credential,
            Err(error) => tracing::warn!(%error, "the credential cannot be made anew"),
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
        if let Some((patience, tell)) = begun {
            self.begin(scope, patience, AttemptGuard { slot, tell: Some(tell) });
        }
        match next {
            Next::Token(held) => Ok(held),
            Next::Wait(attempt) => Ok(attempt.await?),
            Next::Failed(failure) => Err(failure.into()),
        }
    }

    /// Asks for a token in a task of its own, which goes on when whoever began it no longer waits.
    fn begin(&self, scope: &str, patience: Duration, under_way: AttemptGuard) {
        let (identity, scope) = (Arc::clone(&self.0), scope.to_owned());
        tokio::spawn(async move {
            let told = identity.ask(&scope, patience).await;
            under_way.end(told);
        });
    }
}

/// What somebody who needs a token gets.
enum Next {
    Token(Held),
    Wait(Attempt),
    Failed(Failure),
}

/// An attempt that is to be begun: how long it is tried, and whom to tell.
type StartedAttempt = (Duration, oneshot::Sender<AttemptResult>);

impl Slot {
    /// What there is now; with an attempt where one is due and nobody makes it.
    fn next(&self, now: Instant) -> (Next, Option<StartedAttempt>) {
        let mut kept = locked(&self.0);
        let paused = kept.failed.as_ref().filter(|(.., until)| now < *until);
        let is_good = kept.token.as_ref().filter(|held| now < held.until);
        match (is_good, &kept.attempt, paused) {
            (Some(held), attempt, paused) => {
                let held = held.clone();
                let is_due = now >= held.renew && attempt.is_none() && paused.is_none();
                // Whoever has a token that is good need not be patient.
                let begun = is_due.then(|| kept.begin(Duration::ZERO).1);
                (Next::Token(held), begun)
            }
            (None, Some(attempt), _) => (Next::Wait(attempt.clone()), None),
            (None, None, Some((_, failure, _))) => (Next::Failed(failure.clone()), None),
            (None, None, None) => {
                let patience = if kept.ever { PATIENCE } else { FIRST_PATIENCE };
                let (attempt, begun) = kept.begin(patience);
                (Next::Wait(attempt), Some(begun))
            }
        }
    }
}

impl CachedToken {
    fn begin(&mut self, patience: Duration) -> (Attempt, StartedAttempt) {
        let (tell, told) = oneshot::channel();
        let ended = async move {
            told.await.unwrap_or_else(|_| {
                let text = "asking for a token was broken off".to_owned();
                Err(Failure::new(ErrorKind::Transient, text))
            })
        };
        let attempt = ended.boxed().shared();
        self.attempt = Some(attempt.clone());
        (attempt, (patience, tell))
    }
}

/// An attempt that is being made; one that is dropped in the middle leaves room for another.
struct AttemptGuard {
    slot: Arc<Slot>,
    tell: Option<oneshot::Sender<AttemptResult>>,
}

impl Drop for AttemptGuard {
    fn drop(&mut self) {
        if self.tell.is_some() {
            locked(&self.slot.0).attempt = None;
        }
    }
}

impl AttemptGuard {
    fn end(mut self, told: AttemptResult) {
        let mut kept = locked(&self.slot.0);
        kept.attempt = None;
        let told = told.map_err(|failure| Failure { first: !kept.ever, ..failure });
        match &told {
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
        if let Some(tell) = self.tell.take() {
            // Nobody may be waiting for it.
            let _ = tell.send(told);
        }
    }
}

impl Identity {
    /// Asks until there is a token, it is sure that there will be none, or patience is at its end.
    async fn ask(&self, scope: &str, patience: Duration) -> AttemptResult {
        let began = Instant::now();
        let mut wait = Duration::from_millis(500);
        loop {
            let failure = match self.once(scope).await {
                Ok(token) => return hold(token),
                Err(failure) => failure,
            };
            let is_over = began.elapsed() + wait > patience;
            if failure.kind != ErrorKind::Transient || is_over {
                return Err(failure);
            }
            tracing::warn!(error = %failure.text, "no token yet; trying again");
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(10));
        }
    }

    async fn once(&self, scope: &str) -> std::result::Result<AccessToken, Failure> {
        let credential = Arc::clone(&*locked(&self.credential));
        let scopes = [scope];
        let asked = credential.get_token(&scopes, None);
        match tokio::time::timeout(LONGEST_TRY, asked).await {
            Ok(Ok(token)) => Ok(token),
            Ok(Err(error)) => Err(failure(&error)),
            Err(_) => {
                let text = format!("there was none within {} s", LONGEST_TRY.as_secs());
                Err(Failure::new(ErrorKind::Transient, text))
            }
        }
    }
}

/// What an error of the SDK means: an endpoint that is not there, or that is not well, may be the next time.
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
        let text = "the token is not plain text".to_owned();
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
