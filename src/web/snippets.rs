//! `images/{id}/snippets`: an image in the languages that deploy it.

use super::parameters::SNIPPETS;
use super::query::Query;
use super::{Web, named, reply};
use crate::error::{Error, Result};
use crate::reference::snippets::snippets;
use axum::body::Body;
use axum::http::{HeaderMap, Response, Uri};

/// The image whose snippets a path below `images/` names; `None` if the path names an image. The
/// id of an image that is itself called `snippets` ends in `images/snippets`.
pub(super) fn image_of(path: &str) -> Option<&str> {
    let id = path.strip_suffix("/snippets")?;
    let is_name = id.rsplit('/').next().is_some_and(|last| last.eq_ignore_ascii_case("images"));
    (!is_name).then_some(id)
}

pub(super) async fn show(
    web: &Web,
    id: &str,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Response<Body>> {
    let form = Query::parse(uri, SNIPPETS)?.form;
    let (view, found) = named::find(web, id).await?;
    let row = view.snapshot.catalog.values(&found, view.moment)?.remove(0);
    let mut all = snippets(&row)?;
    if let Some(form) = form {
        all = all.only(&form, row["id"].as_str().unwrap_or(id))?;
    }
    let body = serde_json::to_vec(&all).map_err(|e| Error::bug(e.to_string()))?;
    Ok(reply::cached(&view.validators(), headers, body.into()))
}

#[cfg(test)]
mod tests {
    use super::image_of;

    #[test]
    fn an_image_may_be_called_snippets() {
        assert_eq!(image_of("a:b:c:1.0.0/snippets"), Some("a:b:c:1.0.0"));
        assert_eq!(image_of("a:b:snippets:1.0.0"), None);
        for id in [
            "subscriptions/s/x/galleries/g/images/snippets",
            "CommunityGalleries/g/Images/snippets",
        ] {
            assert_eq!(image_of(id), None);
            assert_eq!(image_of(&format!("{id}/snippets")), Some(id));
        }
    }
}
