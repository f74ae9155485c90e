//! The token service: refresh tokens, access tokens, and the claims in them.

use super::{Front, basic, json_answer, refused};
use axum::http::Method;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::SigningKey;
use serde_json::{Value, json};
use time::OffsetDateTime;

pub(super) fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap_or_default();
    let payload = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).unwrap_or_default();
    serde_json::from_slice(&payload).unwrap_or_default()
}

impl Front {
    fn mint(&self, mut claims: Value, seconds: i64) -> String {
        let now = OffsetDateTime::now_utc().unix_timestamp();
        claims["iss"] = "front".into();
        claims["sub"] = "somebody".into();
        claims["aud"] = self.server.clone().into();
        claims["iat"] = now.into();
        claims["nbf"] = (now - 10).into();
        claims["exp"] = (now + seconds).into();
        claims["jti"] = "1".into();
        let head = json!({"typ": "JWT", "alg": "RS256", "x5c": [self.certificate]});
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", part(&head), part(&claims));
        let signature = URL_SAFE_NO_PAD.encode(self.key.sign(text.as_bytes()).unwrap());
        format!("{text}.{signature}")
    }

    pub fn refresh(&self) -> String {
        self.mint(json!({"grant_type": "refresh_token"}), 10_800)
    }

    pub(super) fn access(&self, scopes: &[String]) -> String {
        let grant = |scope: &str| {
            let (kind, rest) = scope.split_once(':')?;
            let (name, actions) = rest.rsplit_once(':')?;
            let actions: Vec<&str> = actions.split(',').collect();
            Some(json!({"type": kind, "name": name, "actions": actions}))
        };
        let scopes = scopes.iter().flat_map(|scope| scope.split(' '));
        let access: Vec<Value> = scopes.filter_map(grant).collect();
        let lasting = self.lasting.load(std::sync::atomic::Ordering::Relaxed);
        self.mint(json!({ "access": access }), lasting)
    }

    pub(super) fn tokens(&self, parts: &axum::http::request::Parts, body: &[u8]) -> Response {
        let query = parts.uri.query().unwrap_or_default();
        let form = if parts.method == Method::GET { query.as_bytes() } else { body };
        let form: Vec<(String, String)> = url::form_urlencoded::parse(form).into_owned().collect();
        let of = |name: &str| form.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v);
        let is_ours = |token: &str| claims(token)["aud"] == self.server.as_str();
        if parts.uri.path() == "/oauth2/exchange" {
            let audience = claims(of("access_token"))["aud"].to_string();
            if of("service") != self.server || !audience.contains("containerregistry") {
                return refused(401, "UNAUTHORIZED");
            }
            return json_answer(200, &json!({"refresh_token": self.refresh()}));
        }
        let basic = basic(&parts.headers).is_some_and(|(_, password)| is_ours(&password));
        if !basic && !is_ours(of("refresh_token")) {
            return refused(401, "UNAUTHORIZED");
        }
        let scopes: Vec<String> =
            form.iter().filter(|(n, _)| n == "scope").map(|(_, v)| v.clone()).collect();
        let token = self.access(&scopes);
        json_answer(200, &json!({"access_token": token, "token": token}))
    }
}
