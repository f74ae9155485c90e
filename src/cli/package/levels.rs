//! The authorization level of HTTP-triggered functions. It is decided when the app is packaged,
//! because the Functions host reads `authLevel` from `function.json` only and does not substitute
//! app settings in it.

use crate::config::SignIn;
use crate::error::{Error, Result};
use crate::functions::Function;
use serde_json::Value;

/// The `function.json` of a function in an app with this kind of sign-in.
///
/// With Entra ID in front of the app, lookups need no key. A function that does something (`start`)
/// still requires its key: a signed-in user may read only.
pub(super) fn declaration(function: &Function, sign_in: SignIn) -> Result<String> {
    if sign_in == SignIn::Keys || function.run.is_some() {
        return Ok(function.json.to_owned());
    }
    let unread = |e| Error::bug(format!("{}/function.json", function.name)).with_source(e);
    let mut declared: Value = serde_json::from_str(function.json).map_err(unread)?;
    let bindings = declared["bindings"].as_array_mut().into_iter().flatten();
    let keyed =
        |binding: &Value| binding["type"] == "httpTrigger" && binding["authLevel"] != "anonymous";
    let mut triggers = bindings.filter(|binding| keyed(binding)).peekable();
    if triggers.peek().is_none() {
        return Ok(function.json.to_owned());
    }
    for trigger in triggers {
        trigger["authLevel"] = "anonymous".into();
    }
    let mut text = serde_json::to_string_pretty(&declared).map_err(unread)?;
    text.push('\n');
    Ok(text)
}
