//! Who may call the functions that answer HTTP requests: decided here, when the app is packaged, since the Functions
//! host reads `authLevel` from `function.json` alone and puts no app setting in its place.

use crate::config::SignIn;
use crate::error::{Error, Result};
use crate::functions::Function;
use serde_json::Value;

/// A function's `function.json` for an app whose callers sign in in this way.
///
/// Behind a sign-in with Entra ID, lookups are answered without a key. Whatever does something (`start`) keeps its key:
/// who may sign in may read, and no more.
pub(super) fn declaration(function: &Function, sign_in: SignIn) -> Result<String> {
    if sign_in == SignIn::Keys || function.run.is_some() {
        return Ok(function.json.to_owned());
    }
    let unread = |e| Error::bug(format!("{}/function.json", function.name)).with_source(e);
    let mut declared: Value = serde_json::from_str(function.json).map_err(unread)?;
    let bindings = declared["bindings"].as_array_mut().into_iter().flatten();
    for trigger in bindings.filter(|binding| binding["type"] == "httpTrigger") {
        trigger["authLevel"] = "anonymous".into();
    }
    let mut text = serde_json::to_string_pretty(&declared).map_err(unread)?;
    text.push('\n');
    Ok(text)
}
