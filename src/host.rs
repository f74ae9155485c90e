//! The embedded Functions host: the same `host.json` and `function.json` files, timers and queues
//! in this process, the same envelopes to the same handler.
//!
//! Queues live in memory. What is lost when the process ends is found again: a run's ground state
//! is in the store, and the host begins by sending again what has not ended.

mod envelope;
mod queues;

use queues::Queues;

use crate::error::{Error, Result};
use crate::functions::{App, Effects, FUNCTIONS, Function, HostSettings, Reply};
use crate::handler::{Handler, Later, Ready};
use crate::web;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use axum::routing::{any, get};
use croner::parser::{CronParser, Seconds};
use futures::stream;
use serde_json::Value;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tower::ServiceExt;

/// A host of one handler.
pub struct Host {
    handler: Router,
    queues: Arc<Queues>,
    settings: HostSettings,
    schedule: String,
}

impl Host {
    /// A host of the functions of `app` with queues of its own, and `schedule` for the setting
    /// `AZIMG_SCHEDULE`.
    pub fn new(app: &Arc<App>, settings: HostSettings, schedule: &str) -> Arc<Self> {
        let queues = Arc::new(Queues::default());
        let later = Arc::clone(&queues) as Arc<dyn Later>;
        let handler = Handler::with(Ready { app: Arc::clone(app), later });
        let schedule = schedule.to_owned();
        Arc::new(Self { handler: handler.router(), queues, settings, schedule })
    }

    /// Serves queues, and timers if `timers`, until the future is dropped. Whatever is under way
    /// then is abandoned: it is idempotent and is done again the next time.
    pub async fn run(self: &Arc<Self>, timers: bool) -> Result<()> {
        let mut tasks = JoinSet::new();
        for function in &FUNCTIONS {
            let declared = function.declared()?;
            let trigger = declared.trigger()?;
            if let Some(queue) = trigger.queue_name.clone() {
                tasks.spawn(Arc::clone(self).serve_queue(function, queue));
            } else if let Some(schedule) = trigger.schedule.clone().filter(|_| timers) {
                let schedule = match schedule.as_str() {
                    "%AZIMG_SCHEDULE%" => self.schedule.clone(),
                    fixed => fixed.to_owned(),
                };
                tasks.spawn(Arc::clone(self).serve_timer(function, schedule));
            }
        }
        match tasks.join_next().await {
            Some(Ok(result)) => result,
            Some(Err(e)) => Err(Error::bug("the host stopped").with_source(e)),
            None => Ok(()),
        }
    }

    /// The HTTP side: what a caller of the function app reaches.
    pub fn router(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/api/{*path}", any(answer))
            .route("/", get(|| async { "azimg: lookups are under /api, such as /api/images\n" }))
            .method_not_allowed_fallback(|| async {
                let text = "/ can be asked with GET; lookups are under /api";
                web::refusal(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", text)
            })
            .fallback(web::no_route)
            .with_state(Arc::clone(self))
    }

    /// Puts messages into the queues, as outputs of a function would be.
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
        let places = Arc::new(Semaphore::new(self.settings.at_once));
        let mut under_way = JoinSet::new();
        loop {
            let place = Arc::clone(&places).acquire_owned().await;
            let message = self.queues.receive(&queue).await;
            let (this, queue) = (Arc::clone(&self), queue.clone());
            under_way.spawn(async move {
                let _place = place;
                this.deliver(function, &queue, message).await;
            });
            while under_way.try_join_next().is_some() {}
        }
    }

    /// One delivery: success removes the message, failure returns it after the redelivery delay,
    /// or moves it to the poison queue after the last delivery.
    async fn deliver(&self, function: &Function, queue: &str, message: queues::Message) {
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
            tracing::warn!(%queue, %error, "a message is poison");
            self.queues.push(&format!("{queue}-poison"), message.text, Duration::ZERO, 0);
        } else {
            let delay = self.settings.redelivery_delay;
            tracing::debug!(%queue, %error, "a message is delivered again");
            self.queues.push(queue, message.text, delay, delivery);
        }
    }

    async fn serve_timer(
        self: Arc<Self>,
        function: &'static Function,
        schedule: String,
    ) -> Result<()> {
        let cron = parse_schedule(&schedule)?;
        loop {
            let now = chrono::Utc::now();
            let wait = cron
                .find_next_occurrence(&now, false)
                .ok()
                .and_then(|next| (next - now).to_std().ok())
                .unwrap_or(Duration::from_mins(1));
            tokio::time::sleep(wait).await;
            if let Err(error) = self.invoke(function, &envelope::timer(function)?).await {
                tracing::error!(function = function.name, %error, "a timer's invocation failed");
            }
        }
    }

    /// Posts an envelope to the handler and sends what its answer puts out.
    async fn invoke(&self, function: &Function, body: &Value) -> Result<Value> {
        let request = Request::post(format!("/{}", function.name))
            .header(header::CONTENT_TYPE, "application/json; charset=utf-8")
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
                Error::transient(format!("{} ran into functionTimeout", function.name))
            })??;
        if !status.is_success() {
            return Err(Error::transient(format!("{} answered {status}", function.name)));
        }
        let answer: Value = serde_json::from_slice(&bytes)
            .map_err(|e| Error::bug(format!("{} answered no JSON: {e}", function.name)))?;
        let declared = function.declared()?;
        for (queue, text) in envelope::outputs(declared, &answer)? {
            self.queues.push(&queue, text, Duration::ZERO, 0);
        }
        Ok(answer)
    }

    /// Starts a run as `POST /api/runs` does; the answer that a caller gets.
    pub async fn start(&self, body: &str) -> Result<Reply> {
        let function =
            Function::named("start").ok_or_else(|| Error::bug("there is no function start"))?;
        let answer = self.invoke(function, &envelope::http(function, body)?).await?;
        let reply = &answer["Outputs"]["res"];
        let status = reply["statusCode"].as_str().and_then(|text| text.parse().ok()).unwrap_or(200);
        let headers = reply["headers"].as_object().into_iter().flatten();
        let text =
            |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
        let headers = headers.filter_map(text).collect();
        let body = reply["body"].as_str().unwrap_or("{}").to_owned();
        Ok(Reply { status, headers, body })
    }

    /// Sends again everything that has not ended: a host begins with empty queues.
    pub async fn recover(&self, app: &App) -> Result<()> {
        let now = time::OffsetDateTime::now_utc();
        let swept = crate::pipeline::sweep::sweep(app.store.as_ref(), now, true).await?;
        let runs: std::collections::BTreeSet<_> =
            swept.lost.iter().map(|item| item.run).chain(swept.close).collect();
        for run in runs {
            tracing::info!(%run, "an interrupted run goes on");
            self.enqueue(crate::functions::resume(app, run).await?);
        }
        Ok(())
    }
}

fn parse_schedule(schedule: &str) -> Result<croner::Cron> {
    CronParser::builder().seconds(Seconds::Required).build().parse(schedule).map_err(|e| {
        Error::invalid(format!(
            "the schedule '{schedule}' is none: give six fields, such as 0 0 3 * * * ({e})"
        ))
    })
}

/// Whether a schedule is one.
pub fn check_schedule(schedule: &str) -> Result<()> {
    parse_schedule(schedule).map(|_| ())
}

/// What a caller of the function app gets: one function starts runs, another answers everything else.
async fn answer(
    State(host): State<Arc<Host>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response<Body> {
    let body = match body {
        Ok(body) => body,
        Err(unread) if unread.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            let text = "the body is longer than any request for a run";
            return web::refusal(unread.status(), "RequestBodyTooLarge", text);
        }
        Err(unread) => {
            let text = format!("the body did not arrive: {}", unread.body_text());
            return web::refusal(StatusCode::BAD_REQUEST, "InvalidParameter", &text);
        }
    };
    if method == Method::POST && uri.path() == "/api/runs" {
        return start(&host, &body).await;
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
        // The body is left out already. Its length is said where it is known; of a compressed one it is not, and
        // must not be told from what is left.
        let nothing = stream::empty::<Result<Bytes, Infallible>>();
        return answer.map(|_| Body::from_stream(nothing));
    }
    answer
}

async fn start(host: &Host, body: &[u8]) -> Response<Body> {
    let Ok(body) = std::str::from_utf8(body) else {
        let text = "the body is no text in UTF-8";
        return web::refusal(StatusCode::BAD_REQUEST, "InvalidParameter", text);
    };
    match host.start(body).await {
        Ok(reply) => http(reply),
        Err(error) => {
            tracing::error!(%error, "start failed");
            let text = web::without_paths(&error.to_string());
            web::refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", &text)
        }
    }
}

/// A function's answer over HTTP.
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
