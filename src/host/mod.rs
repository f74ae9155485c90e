//! The embedded Functions host: the same `host.json` and `function.json` files, timers and queues
//! in this process, and the same envelopes to the same handler.
//!
//! Queues are in memory. Messages lost when the process ends are recovered: the authoritative state
//! of a run is in the store, and the host starts by sending its unfinished items again.

pub mod callers;
mod envelope;
pub mod key;
pub mod listen;
mod queues;
mod schedule;

use callers::Callers;
use queues::Queues;
use schedule::Schedule;

use crate::error::{Error, Result};
use crate::functions::{App, Effects, FUNCTIONS, Function, HostSettings, Reply, Retry};
use crate::handler::{Handler, MessageSender, Ready};
use crate::web;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, State};
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, Request, Response, StatusCode};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::routing::{any, get};
use futures::stream;
use serde_json::Value;
use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// Timeout for receiving a request's body.
const BODY_WITHIN: Duration = Duration::from_secs(30);

/// Media type of the messages between a host and its handler.
const JSON: &str = "application/json; charset=utf-8";

/// A host of one handler.
pub struct Host {
    handler: Router,
    queues: Arc<Queues>,
    settings: HostSettings,
    schedule: String,
    stopping: CancellationToken,
}

impl Host {
    /// Creates a host for the functions of `app` with its own queues. `schedule` is the value of
    /// the setting `AZIMG_SCHEDULE`.
    pub fn new(app: &Arc<App>, settings: HostSettings, schedule: &str) -> Arc<Self> {
        let queues = Arc::new(Queues::default());
        let later = Arc::clone(&queues) as Arc<dyn MessageSender>;
        let handler = Handler::with(Ready { app: Arc::clone(app), later });
        let schedule = schedule.to_owned();
        let stopping = CancellationToken::new();
        Arc::new(Self { handler: handler.router(), queues, settings, schedule, stopping })
    }

    /// Stops starting new work. [`Host::run`] returns when the work under way has ended.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    /// Returns a token that is cancelled when the host is stopped.
    pub fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }

    /// Serves queues, and timers if `timers` is set, until the host is stopped. Work under way when
    /// the future is dropped is abandoned; it is idempotent and is repeated at the next start.
    pub async fn run(self: &Arc<Self>, timers: bool) -> Result<()> {
        let mut tasks = JoinSet::new();
        let now = chrono::Utc::now();
        for function in &FUNCTIONS {
            let declared = function.declared()?;
            let trigger = declared.trigger()?;
            if let Some(queue) = trigger.queue_name.clone() {
                tasks.spawn(Arc::clone(self).serve_queue(function, queue));
            } else if let Some(schedule) = trigger.schedule.clone().filter(|_| timers) {
                let schedule = match schedule.as_str() {
                    "%AZIMG_SCHEDULE%" => Schedule::parse(&self.schedule, now)?,
                    fixed => Schedule::parse(fixed, now)?,
                };
                tasks.spawn(Arc::clone(self).serve_timer(function, schedule));
            }
        }
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(|e| Error::bug("the host stopped").with_source(e))??;
        }
        Ok(())
    }

    /// The HTTP routes of the function app, restricted to `callers`.
    pub fn router(self: &Arc<Self>, callers: Callers) -> Router {
        Router::new()
            .route("/api/{*path}", any(answer))
            .route("/", get(web::page::at_root))
            .method_not_allowed_fallback(|| async {
                let text = "/ requires GET; lookups are under /api";
                web::refusal(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", text)
            })
            .fallback(web::no_route)
            .with_state(Arc::clone(self))
            // Added last, so that it applies to all routes and to the fallback.
            .layer(from_fn_with_state(Arc::new(callers), callers::admit))
    }

    /// The page and the lookups without the functions, restricted to `callers`. A request to start
    /// a run is refused.
    pub fn lookups(self: &Arc<Self>, callers: Callers) -> Router {
        self.router(callers).layer(from_fn(only_reads))
    }

    /// Puts messages into the queues, as the outputs of a function would be.
    pub fn enqueue(&self, effects: Effects) {
        for message in effects.messages {
            self.queues.push(message.queue, message.text, message.delay, 0);
        }
    }

    async fn serve_queue(
        self: Arc<Self>,
        function: &'static Function,
        queue: String,
    ) -> Result<()> {
        let permits = Arc::new(Semaphore::new(self.settings.concurrency));
        let mut under_way = JoinSet::new();
        loop {
            let next = async {
                let permit = Arc::clone(&permits).acquire_owned().await;
                (permit, self.queues.receive(&queue).await)
            };
            let Some((permit, message)) = self.stopping.run_until_cancelled(next).await else {
                break;
            };
            let (this, queue) = (Arc::clone(&self), queue.clone());
            under_way.spawn(async move {
                let _permit = permit;
                this.deliver(function, &queue, message).await;
            });
            while under_way.try_join_next().is_some() {}
        }
        while under_way.join_next().await.is_some() {}
        Ok(())
    }

    /// Delivers a message once. Success removes the message. Failure makes it visible again after
    /// the redelivery delay or, on the last delivery, moves it to the poison queue.
    async fn deliver(&self, function: &Function, queue: &str, message: queues::QueuedMessage) {
        let delivery = message.delivered + 1;
        let body = function
            .declared()
            .and_then(|declared| envelope::queue(declared, &message.text, delivery));
        let ended = match body {
            Ok(body) => self.invoke(function, &body).await,
            Err(error) => Err(error),
        };
        let Err(error) = ended else { return };
        if delivery >= self.settings.most_deliveries && !queue.ends_with("-poison") {
            tracing::warn!(%queue, %error, "message moved to the poison queue");
            self.queues.push(&format!("{queue}-poison"), message.text, Duration::ZERO, 0);
        } else {
            let delay = self.settings.redelivery_delay;
            tracing::debug!(%queue, %error, "message returned to the queue");
            self.queues.push(queue, message.text, delay, delivery);
        }
    }

    async fn serve_timer(
        self: Arc<Self>,
        function: &'static Function,
        schedule: Schedule,
    ) -> Result<()> {
        let retry = function.declared()?.retry(&self.settings)?;
        while let Some(due) = self.stopping.run_until_cancelled(schedule.due()).await {
            due?;
            self.fire(function, retry).await?;
        }
        Ok(())
    }

    /// Invokes a timer's function, with retries while it fails.
    async fn fire(&self, function: &Function, retry: Option<Retry>) -> Result<()> {
        for failed in 0_u32.. {
            let body = envelope::timer(function, retry.map(|retry| (failed, retry.most())))?;
            let Err(error) = self.invoke(function, &body).await else { break };
            let function = function.name;
            let wait = retry.and_then(|retry| retry.wait(failed.saturating_add(1), chance()));
            let Some(wait) = wait else {
                tracing::error!(function, %error, "a timer invocation failed");
                break;
            };
            tracing::warn!(
                function, %error, wait_s = wait.as_secs(),
                "a timer invocation failed; retrying"
            );
            if !self.waited(wait).await {
                break;
            }
        }
        Ok(())
    }

    /// Waits for `wait`. Returns whether that elapsed before the host was stopped.
    async fn waited(&self, wait: Duration) -> bool {
        self.stopping.run_until_cancelled(tokio::time::sleep(wait)).await.is_some()
    }

    /// Posts an envelope to the handler, and queues the messages in its response.
    async fn invoke(&self, function: &Function, body: &Value) -> Result<Value> {
        let request = Request::post(format!("/{}", function.name))
            .header(header::HOST, "127.0.0.1")
            .header(header::CONTENT_TYPE, JSON)
            .header("x-azure-functions-invocationid", ulid::Ulid::generate().to_string())
            .body(Body::from(body.to_string()))
            .map_err(|e| Error::bug("making an invocation").with_source(e))?;
        let call = async {
            let response = match self.handler.clone().oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            };
            let status = response.status();
            let bytes = axum::body::to_bytes(response.into_body(), 100 << 20)
                .await
                .map_err(|e| Error::bug("reading an invocation's answer").with_source(e))?;
            Ok::<_, Error>((status, bytes))
        };
        let (status, bytes) =
            tokio::time::timeout(self.settings.function_timeout, call).await.map_err(|_| {
                Error::transient(format!("{} exceeded functionTimeout", function.name))
            })??;
        if !status.is_success() {
            return Err(Error::transient(format!("{} returned {status}", function.name)));
        }
        let answer: Value = serde_json::from_slice(&bytes).map_err(|e| {
            Error::bug(format!("{} returned a body that is not JSON: {e}", function.name))
        })?;
        let declared = function.declared()?;
        for (queue, text) in envelope::outputs(declared, &answer)? {
            self.queues.push(&queue, text, Duration::ZERO, 0);
        }
        Ok(answer)
    }

    /// Starts a run as `POST /api/runs` does, and returns the reply to the caller.
    pub async fn start(&self, body: &str) -> Result<Reply> {
        let json = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(JSON))]);
        self.start_for(&json, body).await
    }

    /// Like [`start`](Self::start), with the headers of the caller.
    async fn start_for(&self, headers: &HeaderMap, body: &str) -> Result<Reply> {
        let function = Function::named("start").ok_or_else(|| Error::bug("no function 'start'"))?;
        let answer = self.invoke(function, &envelope::http(function, headers, body)?).await?;
        let reply = &answer["Outputs"]["res"];
        let status = reply["statusCode"].as_str().and_then(|text| text.parse().ok()).unwrap_or(200);
        let headers = reply["headers"].as_object().into_iter().flatten();
        let text =
            |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
        let headers = headers.filter_map(text).collect();
        let body = reply["body"].as_str().unwrap_or("{}").to_owned();
        Ok(Reply { status, headers, body })
    }

    /// Sends all unfinished items again, because a host starts with empty queues.
    pub async fn recover(&self, app: &App) -> Result<()> {
        let now = time::OffsetDateTime::now_utc();
        let swept = crate::pipeline::sweep::sweep(app.store.as_ref(), now, true).await?;
        let runs: std::collections::BTreeSet<_> =
            swept.lost.iter().map(|item| item.run).chain(swept.close).collect();
        for run in runs {
            tracing::info!(%run, "resuming an interrupted run");
            self.enqueue(crate::functions::resume(app, run).await?);
        }
        Ok(())
    }
}

/// Checks that a schedule is valid and will be due.
pub fn check_schedule(schedule: &str) -> Result<()> {
    Schedule::parse(schedule, chrono::Utc::now()).map(drop).map_err(|e| e.context("AZIMG_SCHEDULE"))
}

/// A random number between 0 and 1.
fn chance() -> f64 {
    let random = RandomState::new().hash_one(0_u8);
    f64::from(u32::try_from(random >> 32).unwrap_or_default()) / f64::from(u32::MAX)
}

/// Reads the body of a request, or returns the response to one whose body did not arrive.
async fn arrived(request: Request<Body>) -> Result<Bytes, Box<Response<Body>>> {
    let refused = |status, code, text: &str| Err(Box::new(web::refusal(status, code, text)));
    let Ok(body) = tokio::time::timeout(BODY_WITHIN, Bytes::from_request(request, &())).await
    else {
        let text = format!("the body was not received within {} s", BODY_WITHIN.as_secs());
        return refused(StatusCode::REQUEST_TIMEOUT, "RequestTimeout", &text);
    };
    match body {
        Ok(body) => Ok(body),
        Err(unread) if unread.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            let text = "the body exceeds the limit for a run request";
            refused(unread.status(), "RequestBodyTooLarge", text)
        }
        Err(unread) => {
            let text = format!("the body was not received: {}", unread.body_text());
            refused(StatusCode::BAD_REQUEST, "InvalidParameter", &text)
        }
    }
}

/// Refuses what is not a lookup.
async fn only_reads(request: Request<Body>, next: Next) -> Response<Body> {
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return next.run(request).await;
    }
    let text = "only lookups are answered here: 'azimg host' and 'azimg crawl' start runs";
    web::refusal(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", text)
}

/// Handles a request of a caller of the function app: one function starts runs, another answers all
/// other requests.
async fn answer(State(host): State<Arc<Host>>, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let Parts { method, uri, headers, .. } = parts.clone();
    let body = match arrived(Request::from_parts(parts, body)).await {
        Ok(body) => body,
        Err(refusal) => return *refusal,
    };
    if method == Method::POST && uri.path() == "/api/runs" {
        return start(&host, &headers, &body).await;
    }
    let mut request = Request::new(Body::from(body));
    let is_head = method == Method::HEAD;
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    let answer = match host.handler.clone().oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    if is_head {
        // The body has been removed already. `Content-Length` stays if it is known. The length of a
        // compressed body is not known, and must not be derived from the empty one.
        let nothing = stream::empty::<Result<Bytes, Infallible>>();
        return answer.map(|_| Body::from_stream(nothing));
    }
    answer
}

async fn start(host: &Host, headers: &HeaderMap, body: &[u8]) -> Response<Body> {
    let Ok(body) = std::str::from_utf8(body) else {
        let text = "the body is not UTF-8";
        return web::refusal(StatusCode::BAD_REQUEST, "InvalidParameter", text);
    };
    match host.start_for(headers, body).await {
        Ok(reply) => http(reply),
        Err(error) => {
            tracing::error!(%error, "start failed");
            let text = web::without_paths(&error.to_string());
            web::refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", &text)
        }
    }
}

/// Converts a function's reply into an HTTP response.
fn http(reply: Reply) -> Response<Body> {
    let mut response = Response::new(Body::from(reply.body));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::OK);
    for (name, value) in reply.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
