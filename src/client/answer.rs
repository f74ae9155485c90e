//! Parses error responses of Azure's front doors, the Resource Manager and resource providers, in
//! all recorded forms, and reduces them to code and message.

use super::wire::WireResponse;
use crate::error::{Error, ErrorKind};
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER, WWW_AUTHENTICATE};
use serde_json::Value;
use std::time::Duration;
use time::OffsetDateTime;

/// Longest delay that a response may ask for; longer ones are cut to it. Compute's windows last 30
/// minutes.
const LONGEST_WAIT: Duration = Duration::from_mins(30);
/// Nested errors of an error that are reported, at most.
const MOST_DETAILS: usize = 5;

/// Converts an unsuccessful response to an error.
pub(crate) fn refusal(what: &str, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error {
    let service_error = ServiceError::of_body(body);
    let text = format!("{what}: {} {}", status.as_u16(), service_error.text());
    let kind = match status.as_u16() {
        401 => ErrorKind::Unauthenticated,
        403 => ErrorKind::Denied,
        404 | 410 => ErrorKind::NotFound,
        408 | 429 | 500 | 502 | 503 | 504 => ErrorKind::Transient,
        // A failed precondition: another client changed the resource first.
        409 | 412 => ErrorKind::Conflict,
        _ => ErrorKind::BadAnswer,
    };
    // Resource Graph reports when its quota is refilled, as hours, minutes and seconds.
    let resets = headers.get("x-ms-user-quota-resets-after").and_then(|value| value.to_str().ok());
    let resets = resets.filter(|_| status == StatusCode::TOO_MANY_REQUESTS).and_then(clock);
    let waits = retry_after(headers, OffsetDateTime::now_utc());
    let waits = waits.into_iter().chain(delay_in(&service_error.message)).chain(resets);
    let wait = waits.max().map(|wait| wait.min(LONGEST_WAIT));
    // A 429 that names no delay still closes its window for a second.
    let wait = wait.or((status == StatusCode::TOO_MANY_REQUESTS).then_some(Duration::from_secs(1)));
    Error::new(kind, text.trim_end())
        .with_retry_after(wait)
        .with_answer(status.as_u16(), service_error.codes())
}

/// The error for a 401 of the Resource Manager that another token does not help against. A wrong
/// tenant affects only the subscription that was asked for; everything else affects the identity,
/// whatever it requests.
pub(super) fn signed_out(what: &str, answer: &WireResponse, scope: &str) -> Error {
    let error = refusal(what, answer.status, &answer.headers, &answer.body);
    if error.has_code("InvalidAuthenticationTokenTenant") {
        return error.with_kind(ErrorKind::Denied);
    }
    let error = error.with_kind(ErrorKind::SignedOut);
    match claims(&answer.headers) {
        None => error,
        // `az` proposes the same (azure-cli#31778); claims cannot be passed to the SDK's
        // credentials.
        Some(claims) => error.context(format!(
            "Azure requires a sign-in that meets its policy. With az: az logout; az login --scope \
             \"{scope}\" --claims-challenge \"{claims}\""
        )),
    }
}

/// The claims that a challenge asks for (RFC 6750 with Entra's `claims`), in base64.
fn claims(headers: &HeaderMap) -> Option<&str> {
    let challenges = headers.get_all(WWW_AUTHENTICATE).iter();
    challenges.filter_map(|value| value.to_str().ok()).find_map(|challenge| {
        let (_, rest) = challenge.split_once("claims=\"")?;
        let (claims, _) = rest.split_once('"')?;
        let is_base64 = claims.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/-_=".contains(&b));
        (is_base64 && (1..=2_000).contains(&claims.len())).then_some(claims)
    })
}

/// Code and message of an error, and those of its nested errors. The outermost message is often
/// "see details".
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ServiceError {
    code: String,
    message: String,
    details: Vec<(String, String)>,
}

impl ServiceError {
    /// Parses `{"error":{code,message}}`, `{code,message}`, `{Code,Message}`, `{"Message"}`, any of
    /// these inside a JSON string, or a body that is no JSON at all.
    fn of_body(body: &[u8]) -> Self {
        let only = |code: &str, message: &str| Self {
            code: code.to_owned(),
            message: message.to_owned(),
            details: Vec::new(),
        };
        let parsed: Value = match serde_json::from_slice(body) {
            Ok(Value::String(inner)) => {
                serde_json::from_str(&inner).unwrap_or(Value::String(inner))
            }
            Ok(value) => value,
            Err(_) => {
                let text = String::from_utf8_lossy(&body[..body.len().min(200)]);
                let plain = !text.trim_start().starts_with('<');
                return only("", if plain { text.trim() } else { "" });
            }
        };
        // A registry's data plane returns a list of errors.
        let parsed = match parsed["errors"].get(0) {
            Some(first) => first.clone(),
            None => parsed,
        };
        match &parsed["error"] {
            Value::Null => Self::of(&parsed),
            Value::String(code) => {
                only(code, parsed["error_description"].as_str().unwrap_or_default())
            }
            error => Self::of(error),
        }
    }

    /// Parses `{code, message, details: [{code, message}]}`, in lower or upper case.
    pub(super) fn of(error: &Value) -> Self {
        let field = |error: &Value, lower: &str, upper: &str| {
            let found = [lower, upper].iter().find_map(|name| error[*name].as_str());
            found.unwrap_or_default().to_owned()
        };
        let both =
            |error: &Value| (field(error, "code", "Code"), field(error, "message", "Message"));
        let (code, message) = both(error);
        let listed = ["details", "Details"].iter().find_map(|name| error[*name].as_array());
        let below = listed.into_iter().flatten().map(both);
        // Compute puts its quotas here as JSON in a string, for programs.
        let worth = |(code, text): &(String, String)| {
            let is_empty = code.is_empty() && text.is_empty();
            !(is_empty || text.starts_with('{')) && (text.is_empty() || *text != message)
        };
        let details = below.filter(worth).take(MOST_DETAILS).collect();
        Self { code, message, details }
    }

    /// All codes, the outermost first.
    fn codes(self) -> Vec<String> {
        let below = self.details.into_iter().map(|(code, _)| code);
        std::iter::once(self.code).chain(below).filter(|code| !code.is_empty()).collect()
    }

    /// The error in one line, without secrets.
    pub(super) fn text(&self) -> String {
        let both = |code: &str, message: &str| {
            let text = format!("{} {}", super::one_line(code), super::one_line(message));
            super::redact(text.trim()).trim().to_owned()
        };
        let text = both(&self.code, &self.message);
        let below: Vec<String> = self.details.iter().map(|(code, m)| both(code, m)).collect();
        match (text.is_empty(), below.is_empty()) {
            (_, true) => text,
            (true, false) => below.join("; "),
            (false, false) => format!("{text} ({})", below.join("; ")),
        }
    }
}

/// The delay that a response asks for, at most [`LONGEST_WAIT`].
pub(super) fn wait(headers: &HeaderMap) -> Option<Duration> {
    retry_after(headers, OffsetDateTime::now_utc()).map(|wait| wait.min(LONGEST_WAIT))
}

/// Parses `Retry-After` in seconds or as a date; a past date and a negative number are zero.
fn retry_after(headers: &HeaderMap, now: OffsetDateTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<i64>() {
        return Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
    }
    let date = OffsetDateTime::from(httpdate::parse_http_date(text).ok()?);
    Some((date - now).try_into().unwrap_or(Duration::ZERO))
}

/// Parses `00:00:05` as a duration.
fn clock(text: &str) -> Option<Duration> {
    let mut parts = text.trim().splitn(3, ':').map(|part| part.parse::<u64>().ok());
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    let minutes = hours.checked_mul(60)?.checked_add(minutes)?;
    Some(Duration::from_secs(minutes.checked_mul(60)?.checked_add(seconds)?))
}

/// Parses a delay from the message: "Please try again after '6' seconds", "can be retried in 12
/// seconds" (azure-quotas §5).
fn delay_in(message: &str) -> Option<Duration> {
    let rest = ["try again after '", "retried in "]
        .iter()
        .find_map(|mark| message.split_once(mark).map(|(_, rest)| rest))?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_format_gives_code_and_message() {
        let cases: [(&str, &str, &str); 7] = [
            (
                r#"{"error":{"code":"NotFound","message":"Artifact: VMImage was not found."}}"#,
                "NotFound",
                "Artifact: VMImage was not found.",
            ),
            (
                r#"{"code":"OperationNotAllowed","message":"too many"}"#,
                "OperationNotAllowed",
                "too many",
            ),
            (r#"{"Code":"A","Message":"B"}"#, "A", "B"),
            (r#"{"Message":"not valid"}"#, "", "not valid"),
            (r#""{\"error\":{\"code\":\"X\",\"message\":\"Y\"}}""#, "X", "Y"),
            ("404 page not found", "", "404 page not found"),
            ("<html><body>no</body></html>", "", ""),
        ];
        for (body, code, message) in cases {
            let service_error = ServiceError::of_body(body.as_bytes());
            assert_eq!(
                (service_error.code.as_str(), service_error.message.as_str()),
                (code, message),
                "{body}"
            );
            assert!(service_error.details.is_empty(), "{body}");
        }
        assert_eq!(ServiceError::of_body(b""), ServiceError::default());
    }

    #[test]
    fn nested_error_details_are_reported() {
        let body = br#"{"error":{"code":"Invalid","message":"See details.","details":[
            {"code":"A","message":"The region is full."},{"message":"{\"x\":1}"},
            {"code":"Same","message":"See details."},{},
            {"code":"B","message":"at https://x/y?sig=SECRET now"}]}}"#;
        let headers = HeaderMap::new();
        let error = refusal("x", StatusCode::BAD_REQUEST, &headers, body).to_string();
        let expected =
            "x: 400 Invalid See details. (A The region is full.; B at https://x/y?… now)";
        assert_eq!(error, expected);
        let conflict = refusal("x", StatusCode::PRECONDITION_FAILED, &headers, b"");
        assert_eq!(
            (conflict.kind(), conflict.to_string().as_str()),
            (ErrorKind::Conflict, "x: 412")
        );
    }

    #[test]
    fn invalid_claims_are_not_put_into_a_command() {
        let claims_of = |challenge: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(WWW_AUTHENTICATE, challenge.parse().unwrap());
            claims(&headers).map(str::to_owned)
        };
        assert_eq!(claims_of("Bearer claims=\"eyJ9+/-_=\""), Some("eyJ9+/-_=".to_owned()));
        for odd in [
            "Bearer claims=\"$(rm -rf ~)\"",
            "Bearer claims=\"a; b\"",
            "Bearer claims=\"\"",
            "Bearer claims=\"eyJ9",
            "Bearer error=\"invalid_token\"",
        ] {
            assert_eq!(claims_of(odd), None, "{odd}");
        }
    }

    #[test]
    fn retry_delays_are_parsed_in_every_form_and_clamped() {
        let now = OffsetDateTime::UNIX_EPOCH + Duration::from_mins(1);
        let wait = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers, now)
        };
        assert_eq!(wait("17"), Some(Duration::from_secs(17)));
        assert_eq!(wait("-5"), Some(Duration::ZERO));
        assert_eq!(wait("Thu, 01 Jan 1970 00:01:30 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(wait("Thursday, 01-Jan-70 00:01:30 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(wait("Thu Jan  1 00:00:30 1970"), Some(Duration::ZERO));
        assert_eq!(wait("soon"), None);
        // A server may name any date that the format has.
        assert!(wait("Fri, 31 Dec 9999 23:59:59 GMT").is_some());
        assert_eq!(wait("Sat, 01 Jan 10000 00:00:00 GMT"), None);
        assert_eq!(clock("00:01:05"), Some(Duration::from_secs(65)));
        assert_eq!((clock("5"), clock("a:b:c"), clock("")), (None, None, None));
        let most = u64::MAX;
        let odd = [format!("0:{most}:0"), format!("{most}:0:0"), format!("0:0:{most}")];
        assert_eq!(odd.map(|text| clock(&text)), [None, None, Some(Duration::from_secs(most))]);
        assert_eq!(delay_in("Please try again after '6' seconds."), Some(Duration::from_secs(6)));
        assert_eq!(delay_in("can be retried in 12 seconds"), Some(Duration::from_secs(12)));
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, "86400".parse().unwrap());
        let error = refusal("x", StatusCode::TOO_MANY_REQUESTS, &headers, b"");
        assert_eq!(error.retry_after(), Some(LONGEST_WAIT));
    }
}
