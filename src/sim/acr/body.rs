//! Reading of request bodies, up to a limit.

use axum::body::Body;
use futures::StreamExt;

/// Most bytes that are read of a refused body. A client that is still sending would see the
/// connection break, and no response.
const DRAINED: usize = 64 << 20;

/// Reads a body and drops it.
pub(super) async fn drain(body: Body) {
    let _ = read_at_most(body, 0).await;
}

/// A body of at most `most` bytes; `None` if it is larger or incomplete.
pub(super) async fn read_at_most(body: Body, most: usize) -> Option<Vec<u8>> {
    let (mut read, mut received) = (Vec::new(), 0);
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.ok()?;
        received += piece.len();
        if received > most.max(DRAINED) {
            return None;
        }
        if received <= most {
            read.extend_from_slice(&piece);
        }
    }
    (received <= most).then_some(read)
}
