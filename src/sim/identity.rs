//! Identities of the simulated Azure: tokens in Entra's format, the identity endpoint of App
//! Service, and the document of endpoints that clients of a private cloud read first.

use super::ids::TENANT;
use super::response::{SimResponse, error_response, json_response};
use super::state::Sim;
use async_trait::async_trait;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use serde_json::{Value, json};
use std::sync::Arc;
use time::{Duration, OffsetDateTime};

/// Lifetime of a token, as Entra's usually have.
const LIFETIME: Duration = Duration::hours(24);

/// The principal of a request that does not name one of several identities.
const PRINCIPAL: &str = "44444444-4444-4444-8444-444444444444";

/// Base64 for URLs, without padding.
fn base64url(bytes: &[u8]) -> String {
    azure_core::base64::encode_url_safe(bytes)
}

/// A token for `audience` and its expiry: a JSON Web Token whose signature is a constant.
fn mint(audience: &str, principal: &str, now: OffsetDateTime) -> (String, OffsetDateTime) {
    let expires = now + LIFETIME;
    let head = json!({"typ": "JWT", "alg": "RS256", "kid": "simulated"});
    let body = json!({
        "aud": audience, "iss": format!("https://sts.windows.net/{TENANT}/"),
        "iat": now.unix_timestamp(), "nbf": now.unix_timestamp(), "exp": expires.unix_timestamp(),
        "appid": "33333333-3333-4333-8333-333333333333", "idtyp": "app",
        "oid": principal, "sub": principal, "tid": TENANT, "ver": "1.0",
        "xms_mirid": "/subscriptions/x/providers/Microsoft.ManagedIdentity/\
            userAssignedIdentities/sim",
    });
    let part = |value: Value| base64url(value.to_string().as_bytes());
    (format!("{}.{}.{}", part(head), part(body), base64url(b"simulated")), expires)
}

/// A credential for a simulated Azure in this process.
#[derive(Debug)]
pub struct SimCredential;

#[async_trait]
impl TokenCredential for SimCredential {
    async fn get_token(
        &self,
        scopes: &[&str],
        _: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        let audience = scopes.first().copied().unwrap_or_default();
        let (token, expires) = mint(audience, PRINCIPAL, OffsetDateTime::now_utc());
        Ok(AccessToken::new(token, expires))
    }
}

/// Refuses a request without a bearer token, or with one that has expired.
pub(super) fn refusal(headers: &HeaderMap) -> Option<SimResponse> {
    let refuse = |code: &str, message: &str| {
        let mut response = error_response(StatusCode::UNAUTHORIZED, code, message);
        challenge(&mut response);
        Some(response)
    };
    let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header.and_then(|value| value.strip_prefix("Bearer ")).map(str::trim);
    let Some(token) = token.filter(|token| !token.is_empty()) else {
        return refuse(
            "AuthenticationFailed",
            "Authentication failed. The 'Authorization' header is missing.",
        );
    };
    let expiry = claims(token).and_then(|claims| claims["exp"].as_i64());
    if expiry.is_some_and(|expiry| expiry < OffsetDateTime::now_utc().unix_timestamp()) {
        return refuse("ExpiredAuthenticationToken", "The access token expiry time is past.");
    }
    None
}

/// Adds the header with the address at which to sign in.
fn challenge(response: &mut SimResponse) {
    let text = "Bearer authorization_uri=\"https://login.microsoftonline.com/\", \
                error=\"invalid_token\", error_description=\"The authentication failed.\"";
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(text));
}

/// The claims of a token.
pub(super) fn claims(token: &str) -> Option<Value> {
    let part = azure_core::base64::decode_url_safe(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&part).ok()
}

/// The principal of a request, from its token; empty without one.
pub(super) fn principal(headers: &HeaderMap) -> String {
    let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let claims = header.and_then(|value| value.strip_prefix("Bearer ")).and_then(claims);
    claims.and_then(|claims| Some(claims["oid"].as_str()?.to_owned())).unwrap_or_default()
}

/// The identity endpoint of App Service and Functions, api-version 2019-08-01.
pub(super) async fn token(
    State(sim): State<Arc<Sim>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> SimResponse {
    let query: Vec<(String, String)> =
        url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect();
    let parameter = |name: &str| query.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    let bad = |message: &str| {
        let body = json!({"statusCode": 400, "message": message, "correlationId": "simulated"});
        json_response(StatusCode::BAD_REQUEST, &body)
    };
    if parameter("api-version") != Some("2019-08-01") {
        return bad("The api-version is not supported.");
    }
    let header = headers.get("x-identity-header").and_then(|value| value.to_str().ok());
    if header != Some(sim.secret.as_str()) {
        let body = json!({"statusCode": 401, "message": "The X-IDENTITY-HEADER is wrong."});
        return json_response(StatusCode::UNAUTHORIZED, &body);
    }
    // A user-assigned identity is its own principal.
    let principal = parameter("client_id").unwrap_or(PRINCIPAL);
    let Some(resource) = parameter("resource") else { return bad("The resource is missing.") };
    let (token, expires) = mint(resource, principal, OffsetDateTime::now_utc());
    json_response(
        StatusCode::OK,
        &json!({
            "access_token": token, "expires_on": expires.unix_timestamp().to_string(),
            "resource": resource, "token_type": "Bearer",
            "client_id": "33333333-3333-4333-8333-333333333333",
        }),
    )
}

/// `/metadata/endpoints`: an object, or, for api-version 2019-05-01, an array of one.
pub(super) async fn endpoints(RawQuery(query): RawQuery, headers: HeaderMap) -> SimResponse {
    let query = query.unwrap_or_default();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let arm = format!("https://{host}");
    let cloud = json!({
        "name": "AzureSim", "portal": arm, "resourceManager": arm, "graph": arm,
        "graphAudience": arm, "gallery": arm, "batch": arm, "sqlManagement": arm,
        "microsoftGraphResourceId": arm, "activeDirectoryDataLake": arm,
        "appInsightsResourceId": arm, "logAnalyticsResourceId": arm,
        "media": arm, "ossrDbmsResourceId": arm,
        "vmImageAliasDoc": format!("{arm}/aliases.json"),
        "authentication": {
            "loginEndpoint": "https://login.microsoftonline.com", "tenant": "common",
            "audiences": [format!("{arm}/"), arm], "identityProvider": "AAD",
        },
        "suffixes": {"storage": "core.windows.net", "keyVaultDns": "vault.azure.net",
            "acrLoginServer": "azurecr.io", "sqlServerHostname": "database.windows.net"},
    });
    if query.contains("api-version=2019-05-01") {
        json_response(StatusCode::OK, &json!([cloud]))
    } else if query.contains("api-version=") {
        json_response(StatusCode::OK, &cloud)
    } else {
        error_response(
            StatusCode::BAD_REQUEST,
            "MissingApiVersionParameter",
            "The api-version query parameter (?api-version=) is required for all requests.",
        )
    }
}
