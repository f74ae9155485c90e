//! The subscription and locations in which galleries of other owners are discovered.

use crate::client::Client;
use crate::error::{ErrorKind, Result};
use crate::source::locations;

/// Returns the first of `subscriptions` whose locations may be read, with the locations to search;
/// `None` if none may be read. An unreadable subscription has its own line in coverage.
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
