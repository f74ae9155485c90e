//! Uploads of blobs to a simulated registry: an upload is begun, gets its bytes in chunks and in
//! order, and is finished with a digest. As in ACR, an address of an upload is for one offset: a
//! request to an older one cancels the upload.

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

/// The upload that a request is for.
struct Session<'a> {
    server: &'a SimRegistryServer,
    repository: &'a str,
    id: &'a str,
}

/// The response that refuses a request.
struct Refused(Box<SimResponse>);

impl From<SimResponse> for Refused {
    fn from(response: SimResponse) -> Self {
        Self(Box::new(response))
    }
}

/// An error in the format of the data plane.
fn refused(status: StatusCode, code: &str, message: &str) -> Refused {
    registry_error(status, code, message).into()
}

/// The refusal of a digest.
fn digest_invalid(message: &str) -> Refused {
    refused(StatusCode::BAD_REQUEST, "DIGEST_INVALID", message)
}

/// The refusal of an unknown upload.
fn upload_unknown() -> Refused {
    not_found("BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry").into()
}

/// The refusal of a chunk or an address with another offset than the upload has.
fn range_invalid(message: &str) -> Refused {
    refused(StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_INVALID", message)
}

/// The value of a query parameter.
fn parameter<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    query.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
}

/// The `_state` parameter in an upload's address.
fn state(id: &str, offset: u64) -> String {
    azure_core::base64::encode_url_safe(json!({"UUID": id, "Offset": offset}).to_string())
}

/// The offset in the address of a request; `None` if the address is of another upload or malformed.
fn offset_in_address(query: &[(String, String)], id: &str) -> Option<u64> {
    let text = azure_core::base64::decode_url_safe(parameter(query, "_state")?).ok()?;
    let state: Value = serde_json::from_slice(&text).ok()?;
    state["Offset"].as_u64().filter(|_| state["UUID"] == id)
}

/// The response with the address of a new blob.
fn created(repository: &str, digest: &str) -> SimResponse {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::CREATED;
    let location = format!("/v2/{repository}/blobs/{digest}");
    for (name, value) in [("location", location.as_str()), ("docker-content-digest", digest)] {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// Whether a repository exists and cannot be written.
fn is_write_locked(registry: &SimRegistry, repository: &str) -> bool {
    registry.repositories.get(repository).is_some_and(|found| !found.attributes.write)
}

impl SimRegistryServer {
    /// Answers a request for uploads.
    pub(super) async fn upload(
        &self,
        target: &RegistryTarget,
        parts: &Parts,
        query: &[(String, String)],
        body: Body,
    ) -> SimResponse {
        let (repository, id) = match target {
            RegistryTarget::Uploads(repository) => (repository, ""),
            RegistryTarget::Upload(repository, id) => (repository, id.as_str()),
            _ => return *upload_unknown().0,
        };
        let session = Session { server: self, repository, id };
        let result = match parts.method {
            Method::POST => self.begin(repository, parts, query, body).await,
            Method::PATCH => session.send(parts, query, body).await,
            Method::PUT => session.finish(parts, query, body).await,
            Method::DELETE => session.cancel(query),
            _ => session.status(query),
        };
        result.unwrap_or_else(|refused| *refused.0)
    }

    /// Begins an upload, or mounts a blob from another repository, or takes a whole blob with its
    /// digest.
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
        let session = Session { server: self, repository, id: &id };
        let Some(digest) = digest else {
            drain(body).await;
            return Ok(session.progress(StatusCode::ACCEPTED, 0));
        };
        session.receive(parts, body, None).await?;
        session.complete(digest)
    }
}

/// A request that is sending bytes. Its bytes cannot be removed from the upload again, so that an
/// incomplete request cancels the upload.
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
    /// Runs `work` on the registry.
    fn registry<T>(&self, work: impl FnOnce(&mut SimRegistry) -> T) -> T {
        work(&mut self.server.sim.registries()[self.server.number])
    }

    /// The response with the address and the offset of the upload.
    fn progress(&self, status: StatusCode, offset: u64) -> SimResponse {
        let Self { repository, id, .. } = self;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        let state = state(id, offset);
        let location =
            format!("/v2/{repository}/blobs/uploads/{id}?_nouploadcache=false&_state={state}");
        let range = format!("0-{}", offset.saturating_sub(1));
        for (name, value) in
            [("location", location.as_str()), ("docker-upload-uuid", id), ("range", &range)]
        {
            if let Ok(value) = HeaderValue::try_from(value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }

    /// Checks the parameters and the lock; returns the offset of the upload if the address of the
    /// request has the same one.
    fn checked(&self, query: &[(String, String)], more: &[&str]) -> Result<u64, Refused> {
        let known = [&["_nouploadcache", "_state"], more].concat();
        if let Some(refusal) = unknown_parameter(query, &known) {
            return Err(refusal.into());
        }
        self.registry(|registry| {
            let offset =
                registry.pushed.offset(self.repository, self.id).ok_or_else(upload_unknown)?;
            let Some(stated) = offset_in_address(query, self.id) else {
                let text = "blob upload invalid: use the last Location as it is";
                return Err(refused(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID", text));
            };
            if stated != offset {
                registry.pushed.cancel(self.id);
                return Err(range_invalid("the upload is not where this Location says"));
            }
            if is_write_locked(registry, self.repository) {
                return Err(locked_response().into());
            }
            Ok(offset)
        })
    }

    /// Answers a GET: the offset.
    fn status(&self, query: &[(String, String)]) -> Result<SimResponse, Refused> {
        let offset = self.checked(query, &[])?;
        Ok(self.progress(StatusCode::NO_CONTENT, offset))
    }

    /// Answers a DELETE: cancels the upload.
    fn cancel(&self, query: &[(String, String)]) -> Result<SimResponse, Refused> {
        self.checked(query, &[])?;
        self.registry(|registry| registry.pushed.cancel(self.id));
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        Ok(response)
    }

    /// Answers a PATCH: adds a chunk.
    async fn send(
        &self,
        parts: &Parts,
        query: &[(String, String)],
        body: Body,
    ) -> Result<SimResponse, Refused> {
        let offset = self.checked(query, &[]).and_then(|offset| announced_length(parts, offset));
        let length = match offset {
            Ok(length) => length,
            Err(refused) => {
                drain(body).await;
                return Err(refused);
            }
        };
        let offset = self.receive(parts, body, length).await?;
        Ok(self.progress(StatusCode::ACCEPTED, offset))
    }

    /// Answers a PUT: adds the last bytes, if any, and finishes the upload.
    async fn finish(
        &self,
        parts: &Parts,
        query: &[(String, String)],
        body: Body,
    ) -> Result<SimResponse, Refused> {
        let digest = parameter(query, "digest").unwrap_or_default();
        let checked = self.checked(query, &["digest"]).and_then(|offset| {
            if is_digest(digest) {
                announced_length(parts, offset)
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
        self.receive(parts, body, length).await?;
        self.complete(digest)
    }

    /// Finishes the upload with its blob.
    fn complete(&self, digest: &str) -> Result<SimResponse, Refused> {
        match self.registry(|registry| registry.pushed.finish(self.id, digest)) {
            Ok(()) => Ok(created(self.repository, digest)),
            Err(found) => {
                let text = format!("provided digest did not match uploaded content: it is {found}");
                Err(digest_invalid(&text))
            }
        }
    }

    /// Adds the bytes of a request to the upload, which must be `length` many if that is given.
    /// Returns the new offset.
    async fn receive(
        &self,
        parts: &Parts,
        body: Body,
        length: Option<u64>,
    ) -> Result<u64, Refused> {
        let begun = self.registry(|registry| registry.pushed.write(self.id));
        let mut hasher = match begun {
            Ok(hasher) => hasher,
            Err(UploadError::Gone) => return Err(upload_unknown()),
            Err(UploadError::Busy) => {
                drain(body).await;
                return Err(range_invalid("another request sends bytes of this upload"));
            }
        };
        let mut writing = Writing { session: self, is_whole: false };
        let mut pieces = body.into_data_stream();
        let mut received = 0;
        while let Some(piece) = pieces.next().await {
            let Ok(piece) = piece else {
                let text = format!("{} ended before its body did", parts.method);
                return Err(refused(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID", &text));
            };
            received += piece.len() as u64;
            hasher.update(&piece);
            let appended = {
                let mut registries = self.server.sim.registries();
                let fits = self.server.has_room(&mut registries, piece.len() as u64);
                fits.then(|| registries[self.server.number].pushed.append(self.id, piece))
            };
            match appended {
                Some(Ok(())) => {}
                Some(Err(_)) => return Err(upload_unknown()),
                None => {
                    drop(writing);
                    drain(Body::from_stream(pieces)).await;
                    return Err(self.full());
                }
            }
        }
        if length.is_some_and(|length| length != received) {
            let text = "the body is not as long as Content-Range says";
            return Err(refused(StatusCode::BAD_REQUEST, "SIZE_INVALID", text));
        }
        writing.is_whole = true;
        let settled = self.registry(|registry| registry.pushed.settle(self.id, hasher));
        settled.map_err(|_| upload_unknown())
    }

    /// The refusal for lack of room. Waiting does not help, so its status is not one that clients
    /// retry.
    fn full(&self) -> Refused {
        let text = format!(
            "quota exceeded: azimg sim keeps {} bytes of what is pushed at most \
             (azimg sim --blobs-limit); delete images that were pushed, or start it with more",
            self.server.sim.most_pushed
        );
        refused(StatusCode::FORBIDDEN, "DENIED", &text)
    }
}

/// The length of a chunk from its `Content-Range`, which must begin at `offset`; `None` for a
/// stream, which has no such header.
fn announced_length(parts: &Parts, offset: u64) -> Result<Option<u64>, Refused> {
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
        return Err(range_invalid("invalid content range: the upload stands elsewhere"));
    }
    let length = to.saturating_sub(from).saturating_add(1);
    let announced = header(header::CONTENT_LENGTH).and_then(|text| text.parse::<u64>().ok());
    if announced.is_some_and(|announced| announced != length) {
        let text = "Content-Length is not what Content-Range says";
        return Err(refused(StatusCode::BAD_REQUEST, "SIZE_INVALID", text));
    }
    Ok(Some(length))
}
