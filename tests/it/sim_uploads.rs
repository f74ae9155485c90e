//! Uploads to the registries of the simulated Azure, request by request.

use crate::support::layout::{digest, noise};
use crate::support::paused;
use crate::support::uploads::{CONFIG, Caller, IMAGE, INDEX, LAYER, descriptor, run};
use crate::tests;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use serde_json::{Value, json};
use std::time::Duration;

tests![
    uploads_are_taken_in_order_and_by_their_digest,
    a_blob_is_mounted_only_with_read_access_to_its_source,
    a_manifest_is_accepted_once_all_its_parts_exist,
    blobs_are_served_by_another_host,
    what_is_pushed_is_kept_up_to_a_limit,
    an_abandoned_upload_frees_its_space,
];

fn uploads_are_taken_in_order_and_by_their_digest() {
    let caller = Caller::new(1 << 30);
    run(async {
        let whole = digest(b"hello world");
        let begun = caller.begin("app").await;
        let chunk = |at: String, range: &'static str, bytes: &'static str| {
            let caller = &caller;
            async move { caller.with("PATCH", &at, &[("content-range", range)], bytes).await }
        };
        // Not there, not so long, not of that type, and not by another address.
        chunk(begun.clone(), "5-9", "later")
            .await
            .is(StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_INVALID");
        let headers = [("content-range", "0-9"), ("content-length", "5")];
        let response = caller.with("PATCH", &begun, &headers, "short").await;
        response.is(StatusCode::BAD_REQUEST, "SIZE_INVALID");
        chunk(begun.clone(), "zero", "x").await.is(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID");
        let response = caller.with("PATCH", &begun, &[("content-type", "text/plain")], "x").await;
        response.is(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID");
        let bare = begun.split('?').next().unwrap();
        caller.ask("PATCH", bare, "x").await.is(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID");
        caller
            .ask("PATCH", &format!("{begun}&force=1"), "x")
            .await
            .is(StatusCode::BAD_REQUEST, "UNSUPPORTED");
        let elsewhere = begun.replace("/v2/app/", "/v2/other/");
        caller.ask("GET", &elsewhere, "").await.is(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN");
        // In order, it stands where it should.
        let response = chunk(begun, "0-5", "hello ").await;
        assert_eq!((response.status, response.header("range")), (202, "0-5"));
        let at = response.header("location").to_owned();
        let response = caller.ask("GET", &at, "").await;
        assert_eq!((response.status, response.header("range")), (204, "0-5"));
        // A stream, as Docker sends it, and the end.
        let response = caller.ask("PATCH", &at, "world").await;
        let old = at;
        let at = response.header("location").to_owned();
        caller.ask("PUT", &at, "").await.is(StatusCode::BAD_REQUEST, "DIGEST_INVALID");
        let response = caller.ask("PUT", &format!("{at}&digest={whole}"), "").await;
        response.is(StatusCode::CREATED, "");
        assert_eq!(response.header("docker-content-digest"), whole);
        assert_eq!(response.header("location"), format!("/v2/app/blobs/{whole}"));
        caller.ask("GET", &old, "").await.is(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN");
        wrong_or_broken_uploads_are_discarded(&caller).await;
        uploads_are_cancelled_and_need_the_right_to_push(&caller).await;
    });
}

/// At once; with a wrong digest it is gone, and so it is by an address of before.
async fn wrong_or_broken_uploads_are_discarded(caller: &Caller) {
    let whole = digest(b"hello world");
    let at_once = format!("/v2/other/blobs/uploads/?digest={whole}");
    let response = caller.ask("POST", &at_once, "hello world").await;
    response.is(StatusCode::CREATED, "");
    let at = caller.begin("app").await;
    let response = caller.ask("PUT", &format!("{at}&digest={whole}"), "hello").await;
    response.is(StatusCode::BAD_REQUEST, "DIGEST_INVALID");
    caller.ask("GET", &at, "").await.is(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN");
    let at = caller.begin("app").await;
    caller.ask("PATCH", &at, "hello").await.is(StatusCode::ACCEPTED, "");
    caller.ask("PATCH", &at, "hello").await.is(StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_INVALID");
    caller.ask("PATCH", &at, "hello").await.is(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN");
    // A body that breaks off ends its upload.
    let at = caller.begin("app").await;
    let pieces = [Ok(Bytes::from_static(b"he")), Err(std::io::Error::other("it broke off"))];
    let body = Body::from_stream(futures::stream::iter(pieces));
    caller.ask("PATCH", &at, body).await.is(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID");
    caller.ask("GET", &at, "").await.is(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN");
}

/// An upload that is not wanted is cancelled; a caller that may only read begins none.
async fn uploads_are_cancelled_and_need_the_right_to_push(caller: &Caller) {
    let at = caller.begin("app").await;
    assert_eq!(caller.ask("DELETE", &at, "").await.status, 204);
    caller.ask("DELETE", &at, "").await.is(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN");
    let response = caller.ask("POST", "/v2/read/blobs/uploads/", "").await;
    response.is(StatusCode::UNAUTHORIZED, "UNAUTHORIZED");
    assert!(response.header("www-authenticate").ends_with("scope=\"repository:read:pull,push\""));
    for path in ["/v2/App/blobs/uploads/", "/v2/app/blobs/uploads", "/v2/a//b/blobs/uploads/"] {
        let response = caller.ask("POST", path, "").await;
        assert_eq!(
            (response.status, &response.body[..]),
            (404, &b"404 page not found"[..]),
            "{path}"
        );
    }
}

fn a_blob_is_mounted_only_with_read_access_to_its_source() {
    let caller = Caller::new(1 << 30);
    run(async {
        let blob = digest(b"shared");
        caller.upload("app", b"shared").await.is(StatusCode::CREATED, "");
        let head = format!("/v2/other/blobs/{blob}");
        caller.ask("GET", &head, "").await.is(StatusCode::NOT_FOUND, "BLOB_UNKNOWN");
        let mount = |from: &str| format!("/v2/other/blobs/uploads/?mount={blob}&from={from}");
        // Not from where it is not, and not from where one may not look.
        let response = caller.ask("POST", &mount("read"), "").await;
        assert_eq!((response.status, response.header("range")), (202, "0-0"));
        let response = caller.ask("POST", &mount("secret"), "").await;
        response.is(StatusCode::UNAUTHORIZED, "UNAUTHORIZED");
        let scopes = "repository:other:pull,push repository:secret:pull";
        assert!(response.header("www-authenticate").contains(scopes));
        let response = caller.ask("POST", "/v2/other/blobs/uploads/?mount=none&from=app", "").await;
        response.is(StatusCode::BAD_REQUEST, "DIGEST_INVALID");
        let response = caller.ask("POST", &mount("app"), "").await;
        response.is(StatusCode::CREATED, "");
        assert_eq!(response.header("location"), head);
        assert_eq!(caller.ask("GET", &head, "").await.status, 307);
        // One that is deleted in one repository is still in the other; then it is nowhere.
        let own = format!("/v2/app/blobs/{blob}");
        assert_eq!(caller.ask("DELETE", &own, "").await.status, 202);
        caller.ask("DELETE", &own, "").await.is(StatusCode::NOT_FOUND, "BLOB_UNKNOWN");
        assert_eq!(caller.ask("GET", &head, "").await.status, 307);
        assert_eq!(caller.ask("DELETE", &head, "").await.status, 202);
        assert_eq!(caller.ask("HEAD", &head, "").await.status, 404);
    });
}

fn a_manifest_is_accepted_once_all_its_parts_exist() {
    let caller = Caller::new(1 << 30);
    run(async {
        let (manifest, response) = caller.image("1", b"layer").await;
        response.is(StatusCode::CREATED, "");
        let own = digest(manifest.to_string().as_bytes());
        assert_eq!(response.header("docker-content-digest"), own);
        assert_eq!(response.header("oci-subject"), "");
        let response = caller.ask("GET", "/v2/app/manifests/1", "").await;
        assert_eq!(response.header("content-type"), IMAGE);
        assert_eq!(response.body, manifest.to_string());
        // What is not there, is something else, or cannot be.
        let mut lacks = manifest.clone();
        lacks["layers"] = json!([descriptor(LAYER, b"nowhere"), descriptor(LAYER, b"layer")]);
        let response = caller.put("app/manifests/2", IMAGE, &lacks).await;
        response.is(StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN");
        let body: Value = serde_json::from_slice(&response.body).unwrap();
        assert_eq!(body["errors"][0]["detail"], digest(b"nowhere"));
        assert_eq!(body["errors"].as_array().unwrap().len(), 1);
        let response = caller.put("other/manifests/1", IMAGE, &manifest).await;
        response.is(StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN");
        let wrong = format!("app/manifests/{}", digest(b"wrong"));
        caller.put(&wrong, IMAGE, &manifest).await.is(StatusCode::BAD_REQUEST, "DIGEST_INVALID");
        for (kind, document) in
            [(INDEX, &manifest), ("text/plain", &manifest), (IMAGE, &json!("text"))]
        {
            let response = caller.put("app/manifests/2", kind, document).await;
            response.is(StatusCode::BAD_REQUEST, "MANIFEST_INVALID");
        }
        let mut large = manifest.clone();
        large["annotations"] = json!({"a": "x".repeat(4 << 20)});
        let response = caller.put("app/manifests/2", IMAGE, &large).await;
        response.is(StatusCode::BAD_REQUEST, "MANIFEST_INVALID");
        let response = caller.put("app/manifests/2?force=1", IMAGE, &manifest).await;
        response.is(StatusCode::BAD_REQUEST, "UNSUPPORTED");
        assert_eq!(caller.put("app/manifests/.2", IMAGE, &manifest).await.status, 404);
        // An index of it, and one of what is not there.
        let bytes = manifest.to_string();
        let index = |of: &[u8]| json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(IMAGE, of)]});
        let response = caller.put("app/manifests/all", INDEX, &index(bytes.as_bytes())).await;
        response.is(StatusCode::CREATED, "");
        let response = caller.put("app/manifests/all", INDEX, &index(b"nowhere")).await;
        response.is(StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN");
        // Old layers of Windows are in no registry.
        let mut windows = manifest.clone();
        let kind = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
        windows["layers"] = json!([{"mediaType": kind, "size": 9, "digest": digest(b"windows"),
            "urls": ["https://example.com/base"]}]);
        caller.put("app/manifests/windows", IMAGE, &windows).await.is(StatusCode::CREATED, "");
        let foreign = format!("/v2/app/blobs/{}", digest(b"windows"));
        assert_eq!(caller.ask("HEAD", &foreign, "").await.status, 404);
        referrers_are_listed_by_type(&caller, &manifest).await;
    });
}

async fn referrers_are_listed_by_type(caller: &Caller, manifest: &Value) {
    let bytes = manifest.to_string();
    let own = digest(bytes.as_bytes());
    let mut signature = manifest.clone();
    signature["subject"] = descriptor(IMAGE, bytes.as_bytes());
    let response = caller.put("app/manifests/typeless", IMAGE, &signature).await;
    assert_eq!(response.header("oci-subject"), own);
    signature["artifactType"] = "a/signature".into();
    signature["annotations"] = json!({"by": "me"});
    caller.put("app/manifests/signed", IMAGE, &signature).await.is(StatusCode::CREATED, "");
    for (kind, count) in [("", 2), ("?artifactType=a/signature", 1), ("?artifactType=a/b", 0)] {
        let path = format!("/v2/app/referrers/{own}{kind}");
        let response = caller.ask("GET", &path, "").await;
        let body: Value = serde_json::from_slice(&response.body).unwrap();
        let rows = body["manifests"].as_array().unwrap();
        assert_eq!((rows.len(), response.header("content-type")), (count, INDEX), "{kind}");
        let by_type = rows.iter().any(|row| row["artifactType"] == CONFIG);
        assert_eq!(by_type, kind.is_empty());
        assert!(count != 1 || rows[0]["annotations"]["by"] == "me");
    }
    let response = caller.ask("GET", "/v2/app/referrers/latest", "").await;
    response.is(StatusCode::BAD_REQUEST, "DIGEST_INVALID");
}

fn blobs_are_served_by_another_host() {
    let caller = Caller::new(1 << 30);
    run(async {
        let bytes = noise(5, 200_000);
        let at = caller.begin("app").await;
        let pieces: Vec<_> = bytes.chunks(7_001).map(Bytes::copy_from_slice).collect();
        let body = Body::from_stream(futures::stream::iter(
            pieces.into_iter().map(Ok::<_, std::io::Error>),
        ));
        let response = caller.ask("PUT", &format!("{at}&digest={}", digest(&bytes)), body).await;
        response.is(StatusCode::CREATED, "");
        let blob = format!("/v2/app/blobs/{}", digest(&bytes));
        let response = caller.ask("HEAD", &blob, "").await;
        assert_eq!((response.status, response.header("content-length")), (200, "200000"));
        let response = caller.ask("GET", &blob, "").await;
        let place = response.header("location").to_owned();
        assert_eq!((response.status, place.contains(&caller.server)), (307, false));
        let get = |range: &'static str| {
            let request = Request::builder().uri(&place);
            caller.send(
                if range.is_empty() { request } else { request.header("range", range) },
                Body::empty(),
            )
        };
        let response = get("").await;
        assert_eq!((response.status, &response.body[..]), (200, &bytes[..]));
        for (range, from, to) in [
            ("bytes=0-0", 0, 1),
            ("bytes=6999-14003", 6_999, 14_004),
            ("bytes=199990-", 199_990, 200_000),
            ("bytes=-5", 199_995, 200_000),
        ] {
            let response = get(range).await;
            let said = format!("bytes {from}-{}/200000", to - 1);
            assert_eq!((response.status, response.header("content-range")), (206, said.as_str()));
            assert_eq!(&response.body[..], &bytes[from..to], "{range}");
        }
        assert_eq!(get("bytes=200000-").await.status, 416);
        // Nobody gets it with a token, or without a signature.
        let request = Request::builder().uri(&place).header("authorization", &caller.token);
        assert_eq!(caller.send(request, Body::empty()).await.status, 400);
        let bare = place.split('?').next().unwrap();
        assert_eq!(caller.send(Request::builder().uri(bare), Body::empty()).await.status, 403);
        let response = caller.ask("GET", &format!("{blob}?part=1"), "").await;
        response.is(StatusCode::BAD_REQUEST, "UNSUPPORTED");
        let response = caller.ask("GET", "/v2/app/blobs/sha256:0", "").await;
        response.is(StatusCode::BAD_REQUEST, "DIGEST_INVALID");
    });
}

fn what_is_pushed_is_kept_up_to_a_limit() {
    let caller = Caller::new(10_000);
    run(async {
        let (first, response) = caller.image("1", &noise(1, 6_000)).await;
        response.is(StatusCode::CREATED, "");
        // There is no room, and nothing is left of what was refused.
        for _ in 0..3 {
            let response = caller.upload("other", &noise(2, 6_000)).await;
            response.is(StatusCode::FORBIDDEN, "DENIED");
            let text = String::from_utf8_lossy(&response.body).into_owned();
            assert!(text.contains("10000 bytes") && text.contains("--blobs-limit"), "{text}");
        }
        caller.upload("other", &noise(3, 3_000)).await.is(StatusCode::CREATED, "");
        // The same bytes once more take no room.
        caller.upload("other", &noise(4, 300)).await.is(StatusCode::CREATED, "");
        caller.upload("app", &noise(4, 300)).await.is(StatusCode::CREATED, "");
        // What no manifest has any more stays until its place is needed.
        let own = format!("/v2/app/manifests/{}", digest(first.to_string().as_bytes()));
        assert_eq!(caller.ask("DELETE", &own, "").await.status, 202);
        caller.put("app/manifests/1", IMAGE, &first).await.is(StatusCode::CREATED, "");
        assert_eq!(caller.ask("DELETE", &own, "").await.status, 202);
        caller.upload("other", &noise(2, 6_000)).await.is(StatusCode::CREATED, "");
        let response = caller.put("app/manifests/1", IMAGE, &first).await;
        response.is(StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN");
    });
}

fn an_abandoned_upload_frees_its_space() {
    let caller = Caller::new(10_000);
    paused(async {
        let at = caller.begin("app").await;
        let begun = caller.ask("PATCH", &at, noise(1, 8_000)).await;
        begun.is(StatusCode::ACCEPTED, "");
        caller.upload("other", &noise(2, 6_000)).await.is(StatusCode::FORBIDDEN, "DENIED");
        tokio::time::advance(Duration::from_mins(59)).await;
        let response = caller.ask("GET", begun.header("location"), "").await;
        assert_eq!((response.status, response.header("range")), (204, "0-7999"));
        tokio::time::advance(Duration::from_mins(2)).await;
        caller.upload("other", &noise(2, 6_000)).await.is(StatusCode::CREATED, "");
        let response = caller.ask("GET", begun.header("location"), "").await;
        response.is(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN");
        // A blob that no manifest took up goes the same way.
        caller.upload("app", &noise(3, 6_000)).await.is(StatusCode::FORBIDDEN, "DENIED");
        tokio::time::advance(Duration::from_mins(61)).await;
        caller.upload("app", &noise(3, 6_000)).await.is(StatusCode::CREATED, "");
    });
}
