//! Blobs on their way into a simulated registry: an upload is begun, gets its bytes in chunks and in order, and ends with
//! its digest. As in ACR, each address of an upload is good for where it stands then: an older one ends it.

use super::body::drain;
use super::response::{locked_response, not_found, registry_error, unknown_parameter};
use super::server::SimRegistryServer;
use super::target::{RegistryTarget, is_digest, mounted};
use crate::sim::registries::{SimRegistry, UploadError};
use crate::sim::response::SimResponse;
use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, Response, StatusCode, header};
use futures::StreamExt;
use serde_json::{Value, json};
use sha2::Digest;

/// An upload that a request is about.
struct Session<'a> {
    at: &'a SimRegistryServer,
    repository: &'a str,
    id: &'a str,
}

/// An answer instead of what was wanted.
struct Refused(Box<SimResponse>);

impl From<SimResponse> for Refused {
    fn from(answer: SimResponse) -> Self {
        Self(Box::new(answer))
    }
}

fn refused(status: StatusCode, code: &str, message: &str) -> Refused {
    registry_error(status, code, message).into()
}

fn digest_invalid(message: &str) -> Refused {
    refused(StatusCode::BAD_REQUEST, "DIGEST_INVALID", message)
}

fn gone() -> Refused {
    not_found("BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry").into()
}

fn not_there(message: &str) -> Refused {
    refused(StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_INVALID", message)
}

fn parameter<'a>(query: &'a [(String, String)], wanted: &str) -> Option<&'a str> {
    query.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
}

/// What an address says of the upload that it leads to.
fn state(id: &str, offset: u64) -> String {
    azure_core::base64::encode_url_safe(json!({"UUID": id, "Offset": offset}).to_string())
}

/// Where an upload stood when its address was given.
fn stood(query: &[(String, String)], id: &str) -> Option<u64> {
    let text = azure_core::base64::decode_url_safe(parameter(query, "_state")?).ok()?;
    let said: Value = serde_json::from_slice(&text).ok()?;
    said["Offset"].as_u64().filter(|_| said["UUID"] == id)
}

/// Where a blob is, once it is there.
fn created(repository: &str, digest: &str) -> SimResponse {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::CREATED;
    let place = format!("/v2/{repository}/blobs/{digest}");
    for (name, value) in [("location", place.as_str()), ("docker-content-digest", digest)] {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn is_write_locked(registry: &SimRegistry, repository: &str) -> bool {
    registry.repositories.get(repository).is_some_and(|found| !found.attributes.write)
}

impl SimRegistryServer {
    /// Answers what is asked of uploads.
    pub(super) async fn upload(
        &self,
        wanted: &RegistryTarget,
        parts: &Parts,
        query: &[(String, String)],
        body: Body,
    ) -> SimResponse {
        let (repository, id) = match wanted {
            RegistryTarget::Uploads(repository) => (repository, ""),
            RegistryTarget::Upload(repository, id) => (repository, id.as_str()),
            _ => return *gone().0,
        };
        let session = Session { at: self, repository, id };
        let answered = match parts.method {
            Method::POST => self.begin(repository, parts, query, body).await,
            Method::PATCH => session.send(parts, query, body).await,
            Method::PUT => session.finish(parts, query, body).await,
            Method::DELETE => session.cancel(query),
            _ => session.tell(query),
        };
        answered.unwrap_or_else(|refused| *refused.0)
    }

    /// Begins an upload; or takes a blob over from another repository; or takes it at once.
    async fn begin(
        &self,
        repository: &str,
        parts: &Parts,
        query: &[(String, String)],
        body: Body,
    ) -> Result<SimResponse, Refused> {
        let digest = parameter(query, "digest");
        let refusal = unknown_parameter(query, &["mount", "from", "digest"]).or_else(|| {
            let named = digest.into_iter().chain(parameter(query, "mount"));
            named
                .into_iter()
                .any(|digest| !is_digest(digest))
                .then(|| *digest_invalid("provided digest is none").0)
        });
        if let Some(refusal) = refusal {
            drain(body).await;
            return Err(refusal.into());
        }
        let id = {
            let registry = &mut self.sim.registries()[self.number];
            if is_write_locked(registry, repository) {
                return Err(locked_response().into());
            }
            if let Some((wanted, from)) = mounted(query)
                && let Some(size) = registry.blob_size(from, wanted)
            {
                registry.pushed.keep(repository, wanted, size);
                return Ok(created(repository, wanted));
            }
            registry.pushed.begin(repository)
        };
        let session = Session { at: self, repository, id: &id };
        let Some(digest) = digest else {
            drain(body).await;
            return Ok(session.stands(StatusCode::ACCEPTED, 0));
        };
        session.take(parts, body, None).await?;
        session.close(digest)
    }
}

/// A request that sends bytes: what it sent cannot be taken apart from the rest any more, so that the upload ends with
/// a request that breaks off.
struct Writing<'a> {
    session: &'a Session<'a>,
    is_whole: bool,
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        if !self.is_whole {
            self.session.registry(|registry| registry.pushed.cancel(self.session.id));
        }
    }
}

impl Session<'_> {
    fn registry<T>(&self, work: impl FnOnce(&mut SimRegistry) -> T) -> T {
        work(&mut self.at.sim.registries()[self.at.number])
    }

    /// The answer that says where an upload stands.
    fn stands(&self, status: StatusCode, offset: u64) -> SimResponse {
        let Self { repository, id, .. } = self;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        let state = state(id, offset);
        let place =
            format!("/v2/{repository}/blobs/uploads/{id}?_nouploadcache=false&_state={state}");
        let range = format!("0-{}", offset.saturating_sub(1));
        for (name, value) in
            [("location", place.as_str()), ("docker-upload-uuid", id), ("range", &range)]
        {
            if let Ok(value) = HeaderValue::try_from(value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }

    /// Where the upload stands, if the address that is used says so, too.
    fn checked(&self, query: &[(String, String)], more: &[&str]) -> Result<u64, Refused> {
        let known = [&["_nouploadcache", "_state"], more].concat();
        if let Some(refusal) = unknown_parameter(query, &known) {
            return Err(refusal.into());
        }
        self.registry(|registry| {
            let offset = registry.pushed.offset(self.repository, self.id).ok_or_else(gone)?;
            let Some(stood) = stood(query, self.id) else {
                let text = "blob upload invalid: use the last Location as it is";
                return Err(refused(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID", text));
            };
            if stood != offset {
                registry.pushed.cancel(self.id);
                return Err(not_there("the upload is not where this Location says"));
            }
            if is_write_locked(registry, self.repository) {
                return Err(locked_response().into());
            }
            Ok(offset)
        })
    }

    fn tell(&self, query: &[(String, String)]) -> Result<SimResponse, Refused> {
        let offset = self.checked(query, &[])?;
        Ok(self.stands(StatusCode::NO_CONTENT, offset))
    }

    fn cancel(&self, query: &[(String, String)]) -> Result<SimResponse, Refused> {
        self.checked(query, &[])?;
        self.registry(|registry| registry.pushed.cancel(self.id));
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        Ok(response)
    }

    async fn send(
        &self,
        parts: &Parts,
        query: &[(String, String)],
        body: Body,
    ) -> Result<SimResponse, Refused> {
        let offset = self.checked(query, &[]).and_then(|offset| sent(parts, offset));
        let length = match offset {
            Ok(length) => length,
            Err(refused) => {
                drain(body).await;
                return Err(refused);
            }
        };
        let offset = self.take(parts, body, length).await?;
        Ok(self.stands(StatusCode::ACCEPTED, offset))
    }

    async fn finish(
        &self,
        parts: &Parts,
        query: &[(String, String)],
        body: Body,
    ) -> Result<SimResponse, Refused> {
        let digest = parameter(query, "digest").unwrap_or_default();
        let checked = self.checked(query, &["digest"]).and_then(|offset| {
            if is_digest(digest) {
                sent(parts, offset)
            } else {
                Err(digest_invalid("digest parameter missing, or none"))
            }
        });
        let length = match checked {
            Ok(length) => length,
            Err(refused) => {
                drain(body).await;
                return Err(refused);
            }
        };
        self.take(parts, body, length).await?;
        self.close(digest)
    }

    fn close(&self, digest: &str) -> Result<SimResponse, Refused> {
        match self.registry(|registry| registry.pushed.finish(self.id, digest)) {
            Ok(()) => Ok(created(self.repository, digest)),
            Err(found) => {
                let text = format!("provided digest did not match uploaded content: it is {found}");
                Err(digest_invalid(&text))
            }
        }
    }

    /// Takes the bytes of a request, as many as were announced; how many the upload has then.
    async fn take(&self, parts: &Parts, body: Body, length: Option<u64>) -> Result<u64, Refused> {
        let begun = self.registry(|registry| registry.pushed.write(self.id));
        let mut hasher = match begun {
            Ok(hasher) => hasher,
            Err(UploadError::Gone) => return Err(gone()),
            Err(UploadError::Busy) => {
                drain(body).await;
                return Err(not_there("another request sends bytes of this upload"));
            }
        };
        let mut writing = Writing { session: self, is_whole: false };
        let mut pieces = body.into_data_stream();
        let mut came = 0;
        while let Some(piece) = pieces.next().await {
            let Ok(piece) = piece else {
                let text = format!("{} ended before its body did", parts.method);
                return Err(refused(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID", &text));
            };
            came += piece.len() as u64;
            hasher.update(&piece);
            let taken = {
                let mut registries = self.at.sim.registries();
                let has_room = self.at.has_room(&mut registries, piece.len() as u64);
                has_room.then(|| registries[self.at.number].pushed.append(self.id, piece))
            };
            match taken {
                Some(Ok(())) => {}
                Some(Err(_)) => return Err(gone()),
                None => {
                    drop(writing);
                    drain(Body::from_stream(pieces)).await;
                    return Err(self.full());
                }
            }
        }
        if length.is_some_and(|length| length != came) {
            let text = "the body is not as long as Content-Range says";
            return Err(refused(StatusCode::BAD_REQUEST, "SIZE_INVALID", text));
        }
        writing.is_whole = true;
        let settled = self.registry(|registry| registry.pushed.settle(self.id, hasher));
        settled.map_err(|_| gone())
    }

    /// There is no more room: not a matter of time, so that nobody tries again.
    fn full(&self) -> Refused {
        let text = format!(
            "quota exceeded: azimg sim keeps {} bytes of what is pushed at most (azimg sim --blobs-limit); delete \
             images that were pushed, or start it with more",
            self.at.sim.most_pushed
        );
        refused(StatusCode::FORBIDDEN, "DENIED", &text)
    }
}

/// How many bytes a chunk announces with its place, which has to be where the upload stands. Without one it is a stream.
fn sent(parts: &Parts, offset: u64) -> Result<Option<u64>, Refused> {
    let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
    if header(header::CONTENT_TYPE).is_some_and(|kind| kind != "application/octet-stream") {
        let text = "bad Content-Type: chunks are application/octet-stream";
        return Err(refused(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID", text));
    }
    let Some(range) = header(header::CONTENT_RANGE) else { return Ok(None) };
    let ends = range.split_once('-').and_then(|(from, to)| {
        Some((from.trim().parse::<u64>().ok()?, to.trim().parse::<u64>().ok()?))
    });
    let Some((from, to)) = ends else {
        let text = "Content-Range is FROM-TO";
        return Err(refused(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID", text));
    };
    if from > to || from != offset {
        return Err(not_there("invalid content range: the upload stands elsewhere"));
    }
    let length = to.saturating_sub(from).saturating_add(1);
    let announced = header(header::CONTENT_LENGTH).and_then(|text| text.parse::<u64>().ok());
    if announced.is_some_and(|announced| announced != length) {
        let text = "Content-Length is not what Content-Range says";
        return Err(refused(StatusCode::BAD_REQUEST, "SIZE_INVALID", text));
    }
    Ok(Some(length))
}
