//! The custom-handler protocol of Azure Functions.
//!
//! The Functions host imposes these rules; violating one causes a hang, or a lost or corrupted
//! message: `/` responds immediately; every response is non-empty JSON; queue outputs are arrays of
//! strings; a failed invocation responds with a non-2xx status after its cause was logged, because
//! the host discards the body of that response.

mod envelope;
mod invocation;

use crate::error::{Error, Result};
use crate::functions::{App, Declaration, Effects, Event, Function, Message, Reply};
use crate::telemetry::{self, count};
use crate::web;
use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{DefaultBodyLimit, FromRequest, Path, Request, State};
use axum::http::{Response, StatusCode, header};
use axum::routing::{get, post};
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use serde_json::{Map, Value, json};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;
use tokio::sync::OnceCell;
use tokio::time::Instant;
use tracing::field::Empty;
use tracing::{Instrument, Span};

/// Concurrent sends of messages that bypass the host.
const SEND_CONCURRENCY: usize = 32;

/// Sends messages directly rather than through the host: delayed ones, and those of functions
/// without an output binding for the queue.
#[async_trait]
pub trait MessageSender: Send + Sync {
    /// Sends `text` to `queue`, visible after `delay`.
    async fn send(&self, queue: &str, text: &str, delay: Duration) -> Result<()>;
}

/// The dependencies of a handler. They are created after it starts to listen, because that can take
/// a while.
#[derive(Clone)]
pub struct Ready {
    /// The state that functions work with.
    pub app: Arc<App>,
    /// Sends messages that bypass the host.
    pub later: Arc<dyn MessageSender>,
}

type Making = futures::future::BoxFuture<'static, Result<Ready>>;

/// The handler of the custom-handler protocol.
pub struct Handler {
    ready: OnceCell<Ready>,
    make: Box<dyn Fn() -> Making + Send + Sync>,
}

impl Handler {
    /// Creates a handler. `make` creates its dependencies, on first use or in [`Handler::warm`].
    pub fn new(make: impl Fn() -> Making + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { ready: OnceCell::new(), make: Box::new(make) })
    }

    /// Creates a handler with existing dependencies.
    pub fn with(ready: Ready) -> Arc<Self> {
        Self::new(move || {
            let ready = ready.clone();
            async move { Ok(ready) }.boxed()
        })
    }

    /// Creates the dependencies now.
    pub async fn warm(&self) -> Result<()> {
        self.parts().await.map(|_| ())
    }

    async fn parts(&self) -> Result<&Ready> {
        self.ready.get_or_try_init(|| (self.make)()).await
    }

    /// All routes of the protocol, and those of the lookups.
    pub fn router(self: &Arc<Self>) -> Router {
        let this = Arc::clone(self);
        // The host forwards the original request to an HTTP function with one input and one output.
        let lookups = web::routes(move || {
            let this = Arc::clone(&this);
            async move { this.parts().await.map(|ready| Arc::clone(&ready.app)) }.boxed()
        });
        Router::new()
            .route("/", get(|| async { json_answer(StatusCode::OK, &json!({})) }))
            .route("/{function}", post(invoke))
            .method_not_allowed_fallback(|| async {
                let text = "functions require POST, and / requires GET";
                web::refusal(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", text)
            })
            .fallback(web::no_route)
            .layer(DefaultBodyLimit::max(100 << 20))
            .with_state(Arc::clone(self))
            .merge(lookups)
    }

    async fn run(&self, function: &Function, envelope: &Value, invocation: &str) -> Result<Value> {
        let Some(run) = function.run else {
            return Err(Error::invalid(format!(
                "{} accepts only forwarded requests",
                function.name
            )));
        };
        let declared = function.declared()?;
        let binding = declared.trigger()?;
        let is_http = binding.kind == "httpTrigger";
        let ready = self.parts().await?;
        if is_http && !envelope::is_json(binding, envelope) {
            let effects = Effects { reply: Some(not_json()), ..Effects::default() };
            return deliver(ready.later.as_ref(), declared, effects, invocation).await;
        }
        let trigger = match envelope::trigger(binding, envelope) {
            Err(error) if is_http => {
                let effects = Effects { reply: Some(refusal(&error)), ..Effects::default() };
                return deliver(ready.later.as_ref(), declared, effects, invocation).await;
            }
            trigger => trigger?,
        };
        let event =
            Event { now: OffsetDateTime::now_utc(), invocation: invocation.to_owned(), trigger };
        let effects = AssertUnwindSafe(run(&ready.app, event)).catch_unwind().await;
        let effects = match effects.unwrap_or_else(|_| Err(Error::bug("the function panicked"))) {
            Ok(mut effects) => {
                let prefix = envelope::prefix(binding, envelope);
                effects.reply.iter_mut().for_each(|reply| prepend_prefix(reply, &prefix));
                effects
            }
            // An HTTP caller sees an error only as the response of a successful invocation.
            Err(error) if is_http => Effects { reply: Some(refusal(&error)), ..Effects::default() },
            Err(error) => return Err(error),
        };
        deliver(ready.later.as_ref(), declared, effects, invocation).await
    }
}

/// Prepends the path that proxies removed to a reply's link, so that the caller can follow it.
fn prepend_prefix(reply: &mut Reply, prefix: &str) {
    for (_, link) in reply.headers.iter_mut().filter(|(name, _)| name == "Location") {
        link.insert_str(0, prefix);
    }
}

/// The HTTP reply for an error.
fn refusal(error: &Error) -> Reply {
    tracing::info!(%error, "request refused");
    let (status, code) = web::status_of(error.kind());
    let status = status.as_u16();
    let message = web::without_paths(&error.to_string());
    let body = web::error_body(code, &message, error.target());
    Reply { status, headers: vec![("x-ms-error-code".into(), code.into())], body: body.to_string() }
}

/// The reply to a body that is not declared as JSON. A page of another origin can only send other
/// types without a CORS preflight.
fn not_json() -> Reply {
    let (status, code) = (StatusCode::UNSUPPORTED_MEDIA_TYPE.as_u16(), "UnsupportedMediaType");
    let text = "the body must be JSON with Content-Type: application/json";
    let body = web::error_body(code, text, Some("Content-Type")).to_string();
    Reply { status, headers: vec![("x-ms-error-code".into(), code.into())], body }
}

/// Converts effects into the response's envelope. Sends the messages that cannot use a binding.
async fn deliver(
    later: &dyn MessageSender,
    declared: &Declaration,
    effects: Effects,
    invocation: &str,
) -> Result<Value> {
    let mut outputs: Map<String, Value> = Map::new();
    let mut apart = Vec::new();
    for Message { queue, text, delay } in effects.messages {
        match declared.output(queue) {
            Some(binding) if delay.is_zero() => {
                let list = outputs.entry(binding.name.clone()).or_insert_with(|| json!([]));
                if let Value::Array(list) = list {
                    list.push(Value::String(text));
                }
            }
            _ => apart.push((queue, text, delay)),
        }
    }
    stream::iter(apart)
        .map(Ok)
        .try_for_each_concurrent(SEND_CONCURRENCY, |(queue, text, delay)| async move {
            later.send(queue, &text, delay).await
        })
        .await?;
    if let Some(reply) = effects.reply {
        let mut headers: Map<String, Value> =
            reply.headers.into_iter().map(|(name, value)| (name, value.into())).collect();
        headers.insert("Content-Type".into(), "application/json; charset=utf-8".into());
        headers.insert("X-Content-Type-Options".into(), "nosniff".into());
        // The id in the log, so that a caller can refer to it.
        headers.insert("x-ms-request-id".into(), invocation.into());
        let http = declared.bindings.iter().find(|b| b.kind == "http");
        let name = http.map_or("res", |binding| binding.name.as_str());
        outputs.insert(
            name.to_owned(),
            json!({"statusCode": reply.status.to_string(), "headers": headers, "body": reply.body}),
        );
    }
    Ok(json!({"Outputs": outputs, "Logs": effects.logs, "ReturnValue": null}))
}

fn json_answer(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = status;
    let json = header::HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

async fn invoke(
    State(handler): State<Arc<Handler>>,
    name: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response<Body> {
    let Some(function) = name.ok().and_then(|Path(name)| Function::named(&name)) else {
        return web::refusal(StatusCode::NOT_FOUND, "NotFound", "no such function");
    };
    let headers = request.headers();
    // Checked before the body is read.
    let invocation = match invocation::check(headers) {
        Ok(invocation) => invocation.to_owned(),
        Err(refused) => return no_invocation(function, &refused),
    };
    // At the error level, so that no log filter removes it: every line of an invocation is
    // attributed to it.
    let span = tracing::error_span!(
        "invocation",
        otel.name = function.name,
        otel.status_code = Empty,
        function = function.name,
        invocation,
        run = Empty,
        item = Empty,
    );
    let parent = headers.get("traceparent").and_then(|value| value.to_str().ok());
    telemetry::adopt(&span, parent);
    let invoked = async {
        let began = Instant::now();
        let result = match Bytes::from_request(request, &()).await {
            Ok(body) => match invocation::envelope(&body) {
                Ok(envelope) => handler.run(function, &envelope, &invocation).await,
                Err(refused) => return no_invocation(function, &refused),
            },
            Err(e) => Err(Error::invalid(format!("the invocation body cannot be read: {e}"))),
        };
        respond(function, result, began.elapsed())
    };
    invoked.instrument(span).await
}

/// The response to a request that is not an invocation.
fn no_invocation(function: &Function, refused: &invocation::InvalidInvocation) -> Response<Body> {
    let invocation::InvalidInvocation { status, code, text } = *refused;
    let (function, status_code) = (function.name, status.as_u16());
    tracing::warn!(
        function,
        status = status_code,
        "request refused, because it is not an invocation: {text}"
    );
    web::refusal(status, code, text)
}

/// Records the result of an invocation and returns its response. The log line of a failure is its
/// only trace, because the host discards the response's body.
fn respond(function: &Function, result: Result<Value>, took: Duration) -> Response<Body> {
    let (name, failed) = (function.name, result.is_err());
    count!(monotonic_counter.azimg.invocations = 1_u64, function = name, failed);
    count!(histogram.azimg.invocation.seconds = took.as_secs_f64(), function = name);
    match result {
        Ok(value) => json_answer(StatusCode::OK, &value),
        Err(error) => {
            Span::current().record("otel.status_code", "ERROR");
            tracing::error!(%error, "invocation failed");
            let body = json!({"error": {"code": format!("{:?}", error.kind()),
                                        "message": error.to_string()}});
            json_answer(StatusCode::INTERNAL_SERVER_ERROR, &body)
        }
    }
}
