//! `publishers`, `offers`, `skus`, `locations` and `suggestions`: names of images, with counts; and
//! `registries/storage`: repositories, with the storage that they use.

use super::Lookups;
use super::listed::{Answer, Reads, answer};
use super::parameters::{DISTINCT, LOCATIONS, SKUS, STORAGE, SUGGESTED, SUGGESTIONS};
use crate::catalog::distinct::{self, SkuGroups};
use crate::catalog::suggestions as suggested;
use axum::extract::{Request, State};
use axum::response::Response;
use std::sync::Arc;

pub(super) async fn publishers(web: State<Arc<Lookups>>, request: Request) -> Response {
    answer(web, request, (DISTINCT, Reads::Index), |catalog, query, now, from| {
        let rows = distinct::publishers(&catalog.index, &query.filter, now);
        Ok(Answer::of(rows, from, query.top))
    })
    .await
}

pub(super) async fn offers(web: State<Arc<Lookups>>, request: Request) -> Response {
    answer(web, request, (DISTINCT, Reads::Index), |catalog, query, now, from| {
        Ok(Answer::of(distinct::offers(&catalog.index, &query.filter, now), from, query.top))
    })
    .await
}

pub(super) async fn skus(web: State<Arc<Lookups>>, request: Request) -> Response {
    answer(web, request, (SKUS, Reads::Index), |catalog, query, now, from| {
        let found = SkuGroups::find(catalog, &query.filter, query.skus.facets, now);
        let mut found = found.in_order(query.skus.order);
        let rows = found.rows(from, query.top + 1);
        let mut answer = Answer::of(rows.into_iter(), 0, query.top);
        answer.total = query.skus.count.then(|| found.total());
        answer.images = query.skus.count.then(|| found.images());
        answer.facets = found.facets();
        Ok(answer)
    })
    .await
}

pub(super) async fn locations(web: State<Arc<Lookups>>, request: Request) -> Response {
    answer(web, request, (LOCATIONS, Reads::Places), |catalog, query, now, from| {
        let rows = distinct::locations(catalog, &query.filter, now);
        Ok(Answer::of(rows.into_iter(), from, query.top))
    })
    .await
}

pub(super) async fn suggestions(web: State<Arc<Lookups>>, request: Request) -> Response {
    answer(web, request, (SUGGESTIONS, Reads::Tables), |catalog, query, now, _| {
        let search = query.filter.search.as_deref().unwrap_or_default();
        let top = query.given_top.unwrap_or(SUGGESTED);
        Ok(Answer::of(suggested(catalog, search, top, now).into_iter(), 0, top))
    })
    .await
}

pub(super) async fn storage(web: State<Arc<Lookups>>, request: Request) -> Response {
    answer(web, request, (STORAGE, Reads::Tables), |catalog, query, _, from| {
        let wanted = query.filter.registry.as_deref().unwrap_or_default();
        let rows = catalog.storage()?.iter();
        let rows = rows.filter(|row| query.filter.fits(wanted, &row.registry));
        Ok(Answer::of(rows.cloned(), from, query.top))
    })
    .await
}
