//! Where galleries of others are looked for.

use crate::client::Client;
use crate::error::{ErrorKind, Result};
use crate::source::locations;

/// The first of `subscriptions` that may be asked for its locations, and the locations to look in. A
/// subscription that may not has its own line in coverage; none when none of them may.
pub async fn first_readable(
    client: &Client,
    subscriptions: &[String],
    wanted: &[String],
) -> Result<Option<(String, Vec<String>)>> {
    match locations::first_readable(client, subscriptions, wanted).await {
        Ok(found) => Ok(Some(found)),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::Denied | ErrorKind::NotFound | ErrorKind::Conflict
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
