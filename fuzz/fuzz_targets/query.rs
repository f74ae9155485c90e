//! Arbitrary text as the query of a lookup, as a page token, as names and as settings.
#![no_main]

use axum::http::Uri;
use azimg::testing::catalog::LatestQuestion;
use azimg::testing::image::Urn;
use azimg::testing::pipeline::retain::RetentionPolicy;
use azimg::testing::web::check_query;
use azimg::testing::web::token::{LiveToken, Token};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = Token::read(text, &Uri::from_static("/api/images"));
    let _ = LiveToken::read(text, &Uri::from_static("/api/images"));
    let _ = text.parse::<Urn>();
    let _ = text.parse::<RetentionPolicy>();
    let _ = LatestQuestion::parse(text, &[text.to_owned()], None);
    if let Ok(uri) = format!("/api/images?{text}").parse::<Uri>() {
        let _ = check_query(&uri);
        let _ = Token::read(text, &uri);
    }
});
