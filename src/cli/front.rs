//! What a deployed handler does when its lookups need no key and nobody in front of it asks who calls: it answers none.

use crate::config::Config;
use crate::error::Result;
use crate::web;
use axum::Router;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn};

/// What is said to a caller; the reason is for the log.
const SAYS: &str = "nobody in front of this app asks who calls, so it answers no lookups: whoever deployed it is to run \
                    azd up again";
/// It tells ages and the name of a run: whatever watches the house has no sign-in.
const HEALTH: &str = "/api/health";

/// The routes of a handler, without lookups where these would be open to everybody.
pub(super) fn checked(routes: Router, config: &Config) -> Result<Router> {
    let Some(why) = config.nobody_asks()? else { return Ok(routes) };
    tracing::error!(why, "lookups are refused: they would be open to everybody");
    Ok(routes.layer(from_fn(async |request: Request, next: Next| {
        if is_the_hosts(&request) || request.uri().path() == HEALTH {
            return next.run(request).await;
        }
        web::refusal(StatusCode::SERVICE_UNAVAILABLE, "SignInMissing", SAYS)
    })))
}

/// Whether the host asks by itself: it looks whether the handler is there, and invokes functions that it has asked a
/// key for, or that no caller reaches. What it passes on from callers lies deeper.
fn is_the_hosts(request: &Request) -> bool {
    let name = request.uri().path().trim_start_matches('/');
    name.is_empty() || (request.method() == Method::POST && !name.contains('/'))
}
