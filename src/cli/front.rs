//! The guard of a deployed handler whose lookups need no key and that has no authentication in
//! front of it: it refuses all lookups.

use crate::config::Config;
use crate::error::Result;
use crate::web;
use axum::Router;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn};

/// The response body. The reason is written to the log only.
const SAYS: &str = "nothing in front of this app authenticates callers, so it answers no lookups: its \
                    operator must run azd up again";
/// Answered without a sign-in, because monitoring has none. It discloses ages and the id of a run.
const HEALTH: &str = "/api/health";

/// The routes of a handler, with lookups refused if they would be open to everybody.
pub(super) fn checked(routes: Router, config: &Config) -> Result<Router> {
    let Some(why) = config.nobody_asks()? else { return Ok(routes) };
    tracing::error!(why, "lookups are refused: they would be open to everyone");
    Ok(routes.layer(from_fn(async |request: Request, next: Next| {
        if is_the_hosts(&request) || request.uri().path() == HEALTH {
            return next.run(request).await;
        }
        web::refusal(StatusCode::SERVICE_UNAVAILABLE, "SignInMissing", SAYS)
    })))
}

/// Whether the Functions host itself sent the request: its liveness probe, or an invocation of a
/// function whose key it has checked or that no caller can reach. Requests that it forwards from
/// callers have deeper paths.
fn is_the_hosts(request: &Request) -> bool {
    let name = request.uri().path().trim_start_matches('/');
    name.is_empty() || (request.method() == Method::POST && !name.contains('/'))
}
