//! A real browser with pages of other origins open, beside a running `azimg host`: what they can read there, and
//! what they can have it do.

use crate::support::callers::{asked, runs};
use crate::support::web::Host;
use crate::support::{Azure, browser, json};
use crate::tests;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, Response, StatusCode, Uri};
use azimg::testing::sim::{Scale, generate};
use serde_json::{Value, json as value};
use std::path::Path;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

tests![
    a_page_of_another_origin_can_neither_read_nor_start_anything needs [Browser],
    a_page_of_a_named_origin_can_read_and_start_with_the_key needs [Browser],
];

/// What drives the browser.
const DRIVER: &str = include_str!("browser.mjs");

/// What attackers serve: what they do is in the driver.
const PAGE: &str = "<!doctype html><title>page</title><body></body>";

/// A server that any page may read and drive, as the embedded host once was: what does not work there says nothing
/// here. It keeps the methods and types of what it was asked to do.
struct Careless {
    authority: String,
    seen: Arc<Mutex<Vec<String>>>,
    _runtime: Runtime,
}

impl Careless {
    fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let routes = Router::new().fallback(careless).with_state(Arc::clone(&seen));
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        runtime.spawn(async move { axum::serve(listener, routes).await });
        Self { authority, seen, _runtime: runtime }
    }
}

async fn careless(
    State(seen): State<Arc<Mutex<Vec<String>>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    _body: Bytes,
) -> Response<String> {
    if uri.path() == "/page" {
        let page = Response::builder().header("content-type", "text/html");
        return page.body(PAGE.to_owned()).unwrap();
    }
    let text =
        |name: &str| headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    let kind = text("content-type").split(';').next().unwrap().to_owned();
    seen.lock().unwrap().push(format!("{method} {} {kind}", uri.path()));
    Response::builder()
        .status(StatusCode::OK)
        .header("content-type", "application/json")
        .header("access-control-allow-origin", "*")
        .header("access-control-allow-headers", "*")
        .header("access-control-allow-methods", "GET,POST")
        .body("{\"value\":[{\"id\":\"a:b:c:1\"}]}".to_owned())
        .unwrap()
}

/// A page that is served at the port of `victim`, under an address of its own, and from then on that address leads to
/// the victim: what a page sees whose name got another address. (A browser may itself refuse to follow a name from
/// elsewhere to this machine, and not all do.)
struct Rebound {
    _runtime: Runtime,
}

impl Rebound {
    fn start(victim: &str) -> Self {
        let runtime = Runtime::new().unwrap();
        let (victim, at) = (victim.to_owned(), victim.replace("127.0.0.1", "127.0.0.3"));
        let listener = runtime.block_on(TcpListener::bind(at)).unwrap();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(rebound(stream, victim.clone()));
            }
        });
        Self { _runtime: runtime }
    }
}

async fn rebound(mut stream: TcpStream, victim: String) -> std::io::Result<()> {
    let mut head = [0; 10];
    stream.read_exact(&mut head).await?;
    if head == *b"GET /page " {
        let page = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{PAGE}",
            PAGE.len()
        );
        return stream.write_all(page.as_bytes()).await;
    }
    let mut there = TcpStream::connect(victim).await?;
    there.write_all(&head).await?;
    tokio::io::copy_bidirectional(&mut stream, &mut there).await.map(drop)
}

/// Makes the browser perform `task`, and returns the result.
fn drive(task: &Value) -> Value {
    browser::drive("driver.mjs", DRIVER, task)
}

/// The names of attacks that read something.
fn read(attacks: &Value) -> Vec<&str> {
    let attacks = attacks.as_array().unwrap().iter();
    attacks.filter(|one| one["read"] == true).map(|one| one["attack"].as_str().unwrap()).collect()
}

fn stage(seed: u64, store: &Path) -> Azure {
    let azure = Azure::start(generate(Scale::Small, seed));
    json(&mut azure.azimg(&["crawl", "--store", store.to_str().unwrap(), "-o", "json"]));
    azure
}

fn a_page_of_another_origin_can_neither_read_nor_start_anything() {
    let store = tempfile::tempdir().unwrap();
    let azure = stage(511, store.path());
    let host = Host::start(&azure, store.path());
    let (careless, pages) = (Careless::start(), Careless::start());
    let before = (runs(store.path()), asked(&azure));
    let attack = |victim: &str| {
        let port = |authority: &str| authority.split_once(':').unwrap().1.to_owned();
        let page = port(&pages.authority);
        let _rebound = Rebound::start(victim);
        drive(&value!({"task": "attack", "victim": victim, "pages": [
            // Another port of this machine, a second name for it, a name that leads here.
            format!("http://127.0.0.1:{page}/page"),
            format!("http://localhost:{page}/page"),
            format!("http://other.example:{page}/page"),
            // And a name that leads to the victim itself, once the page is loaded.
            format!("http://rebound.example:{}/page", port(victim)),
        ]}))
    };
    // What is tried works where nobody prevents it: all of it reaches the server, and what can be read is.
    let control = attack(&careless.authority);
    for page in control.as_array().unwrap() {
        let read = read(&page["attacks"]);
        for way in ["fetch", "fetch with a header", "fetch that posts JSON", "XMLHttpRequest"] {
            assert!(read.contains(&way), "{way}: {page}");
        }
        let rebound = page["page"].as_str().unwrap().contains("rebound");
        assert_eq!(read.contains(&"rebinding"), rebound, "{page}");
    }
    let seen = careless.seen.lock().unwrap().clone();
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "application/json",
    ] {
        let posts = seen.iter().filter(|line| **line == format!("POST /api/runs {kind}")).count();
        assert!(posts >= 4, "{kind}: {posts} in {seen:?}");
    }
    assert!(seen.iter().any(|line| line.starts_with("GET /api/images/usage")), "{seen:?}");

    let found = attack(host.authority());
    for page in found.as_array().unwrap() {
        let attacks = page["attacks"].as_array().unwrap();
        assert!(attacks.len() > 15, "{page}");
        assert_eq!(read(&page["attacks"]), [""; 0], "{page}");
    }
    // By the host's own records: nothing was begun, and Azure was asked nothing.
    assert_eq!((runs(store.path()), asked(&azure)), before);

    // The same from a page of the host's own origin: it reads, and starts a run with the key.
    let own = drive(
        &value!({"task": "own", "page": format!("{}/health", host.address), "key": host.key}),
    );
    assert_eq!(
        (&own["images"]["status"], &own["live"]["status"]),
        (&200.into(), &401.into()),
        "{own}"
    );
    assert!(own["images"]["text"].as_str().unwrap().contains("\"value\":[{"), "{own}");
    assert_eq!(
        (&own["without"]["status"], &own["with"]["status"]),
        (&401.into(), &202.into()),
        "{own}"
    );
    assert_eq!(runs(store.path()).len(), before.0.len() + 1);
}

fn a_page_of_a_named_origin_can_read_and_start_with_the_key() {
    let store = tempfile::tempdir().unwrap();
    let azure = stage(512, store.path());
    let pages = Careless::start();
    let origin = format!("http://{}", pages.authority);
    let host = Host::of(Host::command(&azure, store.path()).env("AZIMG_CORS_ORIGINS", &origin));
    let before = runs(store.path());
    let named = drive(&value!({"task": "own", "page": format!("{origin}/page"), "key": host.key,
                               "host": format!("http://{}", host.authority())}));
    assert_eq!(named["images"]["status"], 200, "{named}");
    assert!(named["images"]["text"].as_str().unwrap().contains("\"value\":[{"), "{named}");
    assert!(named["images"]["etag"].as_str().unwrap().starts_with("W/"), "{named}");
    assert_eq!(
        (&named["without"]["status"], &named["with"]["status"]),
        (&401.into(), &202.into()),
        "{named}"
    );
    assert_eq!(runs(store.path()).len(), before.len() + 1);
}
