//! Access control of the embedded host. Any page open in a browser can send requests to this
//! machine, so a loopback address proves nothing. Each request is checked against the names of this
//! host, the origin of the page that sent it and, if it causes an action, the key. A single layer
//! in front of every route does this.

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

/// Prevents pages of other origins from even embedding a response.
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
/// Response headers that a page of a named origin may read, and request headers that it may send.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "etag,last-modified,location,retry-after,x-ms-request-id,x-ms-error-code",
);
const TAKEN: HeaderValue = HeaderValue::from_static(
    "content-type,if-modified-since,if-none-match,traceparent,x-functions-key",
);

/// A name of this host other than the loopback names, such as that of a proxy in front of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName {
    host: String,
    /// `None` for the default ports.
    port: Option<u16>,
}

impl FromStr for HostName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            Error::invalid(format!(
                "'{}' is not a host name: use a form such as catalog.example.com, or \
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

/// The callers that a host serves.
pub struct Callers {
    /// The port that the host listens on.
    pub port: u16,
    /// Names of the host other than the loopback names.
    pub names: Vec<HostName>,
    /// Origins, other than the host's own, whose pages may send requests and read responses.
    pub origins: Vec<Origin>,
    /// The key that requests for actions must have. Without one, no key is required.
    pub key: Option<HostKey>,
}

/// Why a request is refused: status, error code and message.
struct RefusedRequest(StatusCode, &'static str, String);

type Admitted = Result<(), RefusedRequest>;

impl Callers {
    /// Whether `host` refers to this host.
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

    /// Checks the `Host` header. A name that resolves to this machine and is not one of ours is DNS
    /// rebinding: a page of that name would have the same origin as the responses.
    fn check_host(&self, request: &Request) -> Result<Authority, RefusedRequest> {
        let Some(host) = web::host(request.headers()) else {
            let text = "a request must have exactly one Host header";
            return Err(RefusedRequest(StatusCode::BAD_REQUEST, "InvalidHost", text.into()));
        };
        // Some clients also send the host in the request target.
        let addressed = request.uri().authority();
        if self.is_here(&host) && addressed.is_none_or(|addressed| self.is_here(addressed)) {
            return Ok(host);
        }
        let text = format!(
            "this host is 127.0.0.1:{}, not the one that the request names: to accept the name of \
             a proxy in front of it, start 'azimg host --name NAME'",
            self.port
        );
        Err(RefusedRequest(StatusCode::MISDIRECTED_REQUEST, "HostNotServed", text))
    }

    /// Refuses pages of other origins unless they are named. Following a link is allowed.
    fn check_origin(&self, request: &Request, host: &Authority) -> Admitted {
        let headers = request.headers();
        if headers.contains_key(ORIGIN) {
            let origin = web::only(headers, ORIGIN.as_str()).unwrap_or_default();
            let own = ["http://", "https://"].iter().any(|scheme| {
                origin.strip_prefix(scheme).is_some_and(|of| of.eq_ignore_ascii_case(host.as_str()))
            });
            return if own || self.shares_with(origin) { Ok(()) } else { Err(foreign()) };
        }
        // Browsers send these without an origin: images, scripts, frames and links.
        let value_of = |name: &str| headers.get(name).map_or(&b""[..], HeaderValue::as_bytes);
        if matches!(value_of("sec-fetch-site"), b"" | b"none" | b"same-origin") {
            return Ok(());
        }
        let is_link = (value_of("sec-fetch-mode"), value_of("sec-fetch-dest"))
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
            "this request requires the key of this host: send it in the header x-functions-key, or \
             as ?code=. The key is in the file {FILE} of the store's folder, or in the file that \
             --key-file names, and azimg host prints it at the start"
        );
        Err(RefusedRequest(StatusCode::UNAUTHORIZED, "AuthenticationFailed", text))
    }

    /// Adds the headers that tell a browser which origins may read a response.
    fn share(&self, browser_request: &BrowserRequest, answer: &mut Response<Body>) {
        let headers = answer.headers_mut();
        headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
        if self.origins.is_empty() {
            return;
        }
        // A cached response is only valid for the origin that requested it.
        headers.append(VARY, HeaderValue::from_static("origin"));
        let Some(origin) = &browser_request.origin else { return };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        if browser_request.is_preflight {
            if let Some(allowed) = headers.get(ALLOW).cloned() {
                headers.insert(ACCESS_CONTROL_ALLOW_METHODS, allowed);
            }
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, TAKEN);
            headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("3600"));
        }
    }

    fn browser_request(&self, request: &Request) -> BrowserRequest {
        let headers: &HeaderMap = request.headers();
        let origin = web::only(headers, ORIGIN.as_str()).filter(|origin| self.shares_with(origin));
        let origin = origin.and_then(|origin| HeaderValue::from_str(origin).ok());
        let is_preflight = request.method() == Method::OPTIONS
            && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        BrowserRequest { origin, is_preflight }
    }
}

/// The properties of a request that determine the CORS headers of its response.
struct BrowserRequest {
    /// The page's origin, if it may read the response.
    origin: Option<HeaderValue>,
    is_preflight: bool,
}

fn foreign() -> RefusedRequest {
    let text = "pages of other origins are not allowed: AZIMG_CORS_ORIGINS lists the allowed ones";
    RefusedRequest(StatusCode::FORBIDDEN, "OriginNotAllowed", text.into())
}

/// The layer. A refused request reaches no route, and its body is not read.
pub(super) async fn admit(
    State(callers): State<Arc<Callers>>,
    request: Request,
    next: Next,
) -> Response<Body> {
    let browser_request = callers.browser_request(&request);
    let mut answer = match callers.check(&request) {
        Ok(()) => next.run(request).await,
        Err(RefusedRequest(status, code, text)) => {
            tracing::debug!(status = status.as_u16(), code, "request refused");
            let mut answer = web::refusal(status, code, &text);
            if status == StatusCode::UNAUTHORIZED {
                let way = HeaderValue::from_static("ApiKey name=\"x-functions-key\"");
                answer.headers_mut().insert(WWW_AUTHENTICATE, way);
            }
            answer
        }
    };
    callers.share(&browser_request, &mut answer);
    answer
}
