//! Bodies of requests to a simulated registry, read up to a limit.

use axum::body::Body;
use futures::StreamExt;

/// So much of a body that is refused is read: whoever still sends would see the connection break, and no answer.
const DRAINED: usize = 64 << 20;

/// Reads what nobody wants.
pub(super) async fn drain(body: Body) {
    let _ = read_at_most(body, 0).await;
}

/// A body of so many bytes at most; none where it is larger, or breaks off.
pub(super) async fn read_at_most(body: Body, most: usize) -> Option<Vec<u8>> {
    let (mut read, mut came) = (Vec::new(), 0);
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.ok()?;
        came += piece.len();
        if came > most.max(DRAINED) {
            return None;
        }
        if came <= most {
            read.extend_from_slice(&piece);
        }
    }
    (came <= most).then_some(read)
}
