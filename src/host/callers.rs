//! Whom the embedded host answers. Every page that a browser has open can send requests to this machine, so its own
//! address proves nothing: each request is held against the names of this host, the origin of the page that sent it,
//! and, where it starts something, the key. One layer, which every route lies behind.

use super::key::{FILE, HostKey};
use crate::error::{Error, Result};
use crate::web;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ALLOW,
    HeaderMap, HeaderName, HeaderValue, ORIGIN, VARY, WWW_AUTHENTICATE,
};
use axum::http::uri::Authority;
use axum::http::{Method, Response, StatusCode};
use axum::middleware::Next;
use std::str::FromStr;
use std::sync::Arc;
use url::{Origin, Url};

/// What else a page may do with an answer: nothing of another origin may even hold it.
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
/// Headers of answers that a page of a named origin may read, and of requests that it may send.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "etag,last-modified,location,retry-after,x-ms-request-id,x-ms-error-code",
);
const TAKEN: HeaderValue = HeaderValue::from_static(
    "content-type,if-modified-since,if-none-match,traceparent,x-functions-key",
);

/// A name of this host beside those that every machine has for itself: that of a proxy in front of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName {
    host: String,
    /// None for the ports that need not be said.
    port: Option<u16>,
}

impl FromStr for HostName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            Error::invalid(format!(
                "'{}' is no name of a host: give one such as catalog.example.com, or \
                 catalog.example.com:8443",
                text.escape_debug()
            ))
        };
        let url = Url::parse(&format!("http://{text}/")).map_err(|_| bad())?;
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(bad)?;
        let is_all = url.username().is_empty()
            && url.password().is_none()
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && !text.contains(['/', '\\', '@', '*']);
        if !is_all {
            return Err(bad());
        }
        Ok(Self { host: host.to_owned(), port: url.port().filter(|port| *port != 443) })
    }
}

impl HostName {
    fn is(&self, host: &Authority) -> bool {
        let port = host.port_u16().filter(|port| !matches!(port, 80 | 443));
        self.host.eq_ignore_ascii_case(host.host()) && self.port == port
    }
}

/// Whom a host answers.
pub struct Callers {
    /// The port that it listens at.
    pub port: u16,
    /// Its names beside those of this machine for itself.
    pub names: Vec<HostName>,
    /// The origins whose pages may read and ask from a browser, beside its own.
    pub origins: Vec<Origin>,
    /// What is shown for what starts something; without one, whoever gets so far may start it.
    pub key: Option<HostKey>,
}

/// Why a request goes no further.
struct RefusedRequest(StatusCode, &'static str, String);

type Admitted = Result<(), RefusedRequest>;

impl Callers {
    /// Whether a host is this one.
    fn is_here(&self, host: &Authority) -> bool {
        let port = host.port_u16().unwrap_or(80);
        (web::is_loopback(host.host()) && port == self.port)
            || self.names.iter().any(|name| name.is(host))
    }

    fn check(&self, request: &Request) -> Admitted {
        let host = self.check_host(request)?;
        self.check_origin(request, &host)?;
        self.check_key(request)
    }

    /// A name that leads here and is not one of ours was given to this machine by somebody else: a page of that name
    /// would be of the same origin as the answers.
    fn check_host(&self, request: &Request) -> Result<Authority, RefusedRequest> {
        let Some(host) = web::host(request.headers()) else {
            let text = "a request names the host that it is for, once, in the header Host";
            return Err(RefusedRequest(StatusCode::BAD_REQUEST, "InvalidHost", text.into()));
        };
        // Some name it in the address as well.
        let addressed = request.uri().authority();
        if self.is_here(&host) && addressed.is_none_or(|addressed| self.is_here(addressed)) {
            return Ok(host);
        }
        let text = format!(
            "this is 127.0.0.1:{} and not the host that the request is for: a name of a proxy in front of it \
             is given with 'azimg host --name NAME'",
            self.port
        );
        Err(RefusedRequest(StatusCode::MISDIRECTED_REQUEST, "HostNotServed", text))
    }

    /// Pages of other origins are answered where they are named; links that are followed are no pages.
    fn check_origin(&self, request: &Request, host: &Authority) -> Admitted {
        let headers = request.headers();
        if headers.contains_key(ORIGIN) {
            let origin = web::only(headers, ORIGIN.as_str()).unwrap_or_default();
            let own = ["http://", "https://"].iter().any(|scheme| {
                origin.strip_prefix(scheme).is_some_and(|of| of.eq_ignore_ascii_case(host.as_str()))
            });
            return if own || self.shares_with(origin) { Ok(()) } else { Err(foreign()) };
        }
        // What a browser sends without an origin: images, scripts, frames, links.
        let told = |name: &str| headers.get(name).map_or(&b""[..], HeaderValue::as_bytes);
        if matches!(told("sec-fetch-site"), b"" | b"none" | b"same-origin") {
            return Ok(());
        }
        let is_link = (told("sec-fetch-mode"), told("sec-fetch-dest"))
            == (b"navigate", b"document")
            && request.method() == Method::GET
            && !web::acts(request.method(), request.uri());
        if is_link { Ok(()) } else { Err(foreign()) }
    }

    fn shares_with(&self, origin: &str) -> bool {
        self.origins.iter().any(|known| known.ascii_serialization() == origin)
    }

    fn check_key(&self, request: &Request) -> Admitted {
        let Some(key) = &self.key else { return Ok(()) };
        let (uri, headers) = (request.uri(), request.headers());
        if !web::acts(request.method(), uri)
            || web::shown_key(headers, uri).is_some_and(|shown| key.is(&shown))
        {
            return Ok(());
        }
        let text = format!(
            "this starts something, and the key of this host was not shown: send it in the header \
             x-functions-key, or as ?code=. It is in the file {FILE} of the folder that is the store, or where \
             --key-file says, and azimg host prints it when it begins"
        );
        Err(RefusedRequest(StatusCode::UNAUTHORIZED, "AuthenticationFailed", text))
    }

    /// Says to browsers who may read an answer.
    fn share(&self, asked: &BrowserRequest, answer: &mut Response<Body>) {
        let headers = answer.headers_mut();
        headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
        if self.origins.is_empty() {
            return;
        }
        // An answer that is kept is kept for the origin that asked.
        headers.append(VARY, HeaderValue::from_static("origin"));
        let Some(origin) = &asked.origin else { return };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        if asked.is_preflight {
            if let Some(allowed) = headers.get(ALLOW).cloned() {
                headers.insert(ACCESS_CONTROL_ALLOW_METHODS, allowed);
            }
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, TAKEN);
            headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("3600"));
        }
    }

    fn asked(&self, request: &Request) -> BrowserRequest {
        let headers: &HeaderMap = request.headers();
        let origin = web::only(headers, ORIGIN.as_str()).filter(|origin| self.shares_with(origin));
        let origin = origin.and_then(|origin| HeaderValue::from_str(origin).ok());
        let is_preflight = request.method() == Method::OPTIONS
            && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        BrowserRequest { origin, is_preflight }
    }
}

/// What of a request decides on what a browser is told.
struct BrowserRequest {
    /// The page's origin, where it is one that may read.
    origin: Option<HeaderValue>,
    is_preflight: bool,
}

fn foreign() -> RefusedRequest {
    let text = "a page of another origin may neither read nor ask here: AZIMG_CORS_ORIGINS names those that may";
    RefusedRequest(StatusCode::FORBIDDEN, "OriginNotAllowed", text.into())
}

/// The layer: what is refused reaches no route, and its body is not read.
pub(super) async fn admit(
    State(callers): State<Arc<Callers>>,
    request: Request,
    next: Next,
) -> Response<Body> {
    let asked = callers.asked(&request);
    let mut answer = match callers.check(&request) {
        Ok(()) => next.run(request).await,
        Err(RefusedRequest(status, code, text)) => {
            tracing::debug!(status = status.as_u16(), code, "a request was refused");
            let mut answer = web::refusal(status, code, &text);
            if status == StatusCode::UNAUTHORIZED {
                let way = HeaderValue::from_static("ApiKey name=\"x-functions-key\"");
                answer.headers_mut().insert(WWW_AUTHENTICATE, way);
            }
            answer
        }
    };
    callers.share(&asked, &mut answer);
    answer
}
