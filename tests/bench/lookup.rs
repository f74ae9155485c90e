//! Lookups in 400,000 images, compared with a bare axum route with bodies of the same size, and
//! cold starts.

use crate::large::write_large;
use crate::support::{azimg, finish};
use crate::{row, table};
use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use std::fmt::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

const STARTS: usize = 10;

struct Handler {
    child: Child,
    address: String,
}

impl Handler {
    fn start(store: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command =
            azimg(&["serve", "--port", &port.to_string(), "--store", store.to_str().unwrap()]);
        command.env("AzimgStorage", "UseDevelopmentStorage=true").env("AZIMG_LOG", "error");
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self { child, address: format!("http://127.0.0.1:{port}") }
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Repeats a request until there is a response, and returns its body.
async fn ask(client: &reqwest::Client, url: &str) -> Bytes {
    loop {
        if let Ok(response) = client.get(url).send().await {
            assert!(response.status().is_success(), "{url}: {}", response.status());
            return response.bytes().await.unwrap();
        }
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
}

/// Milliseconds from the start of a process to a response: the median of [`STARTS`] measurements.
fn start_up(store: &Path, path: &str) -> f64 {
    let runtime = Runtime::new().unwrap();
    let client = reqwest::Client::new();
    let mut times: Vec<f64> = (0..STARTS)
        .map(|_| {
            let begun = Instant::now();
            let handler = Handler::start(store);
            runtime.block_on(ask(&client, &format!("{}{path}", handler.address)));
            begun.elapsed().as_secs_f64() * 1_000.0
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[STARTS / 2]
}

/// Requests per second, and the 99th percentile of latency in milliseconds.
fn load(folder: &Path, address: &str, paths: &[String]) -> (f64, f64) {
    let mut script = "local paths = {\n".to_owned();
    for path in paths {
        writeln!(script, "'{path}',").unwrap();
    }
    script += "}\nlocal at = 0\nfunction request()\n  at = at % #paths + 1\n  \
               return wrk.format('GET', paths[at])\nend\n";
    let file = folder.join("paths.lua");
    std::fs::write(&file, script).unwrap();
    let mut wrk = Command::new("wrk");
    wrk.args(["--threads", "1", "--connections", "16", "--duration", "6s", "--latency"]);
    let (code, printed, errors) = finish(wrk.arg("--script").arg(file).arg(address));
    assert_eq!(code, 0, "this bench needs wrk (apt-get install wrk): {errors}");
    assert!(!printed.contains("Non-2xx"), "{printed}");
    let line = |name: &str| {
        let line = printed.lines().find_map(|line| line.trim().strip_prefix(name));
        line.unwrap_or_else(|| panic!("{printed}")).trim().to_owned()
    };
    let p99 = line("99%");
    let p99 = match p99.strip_suffix("us") {
        Some(micros) => micros.parse::<f64>().unwrap() / 1_000.0,
        None => match p99.strip_suffix("ms") {
            Some(millis) => millis.parse().unwrap(),
            None => p99.trim_end_matches('s').parse::<f64>().unwrap() * 1_000.0,
        },
    };
    (line("Requests/sec:").parse().unwrap(), p99)
}

/// A bare route that answers every path with `size` bytes.
fn bare(size: usize) -> (Runtime, String) {
    let runtime = Runtime::new().unwrap();
    let body = Bytes::from(vec![b'x'; size]);
    let routes = Router::new().route("/{*path}", get(move || async move { body }));
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    runtime.spawn(async move { axum::serve(listener, routes).await.unwrap() });
    (runtime, address)
}

/// The word in its `number`th combination of upper and lower case: a different URL with the same
/// meaning.
fn spelled(word: &str, number: usize) -> String {
    let letter = |(at, c): (usize, char)| match number >> (at % 16) & 1 {
        1 => c.to_ascii_uppercase(),
        _ => c.to_ascii_lowercase(),
    };
    word.chars().enumerate().map(letter).collect()
}

/// Eight callers that search for `words` words each, one request after the other, until the end.
struct Searching {
    over: Arc<AtomicBool>,
    callers: Vec<JoinHandle<usize>>,
}

impl Searching {
    const CALLERS: usize = 8;

    fn begin(address: &str, words: usize) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let callers = (0..Self::CALLERS).map(|caller| {
            let (over, address) = (Arc::clone(&over), address.to_owned());
            std::thread::spawn(move || {
                let client = reqwest::blocking::Client::new();
                let mut asked = 0;
                while !over.load(Ordering::Relaxed) {
                    let words: Vec<String> =
                        (0..words).map(|word| format!("{:x}", word + caller * 7 + asked)).collect();
                    let url = format!("{address}/api/images?top=1&search={}", words.join("+"));
                    // The result does not matter, only the load.
                    client.get(url).send().unwrap().bytes().unwrap();
                    asked += 1;
                }
                asked
            })
        });
        let callers = callers.collect();
        Self { over, callers }
    }

    /// Stops the callers, and returns the total number of requests.
    fn end(self) -> usize {
        self.over.store(true, Ordering::Relaxed);
        self.callers.into_iter().map(|caller| caller.join().unwrap()).sum()
    }
}

/// The latency of the host's health probe while callers run searches of up to 4,000 words.
fn beside_searches(folder: &Path, address: &str) {
    let mut lines =
        vec![row([&"eight callers, words each", &"searches", &"GET / p99 ms", &"limit"])];
    for words in [1, 16, 4_000] {
        let searching = Searching::begin(address, words);
        let (_, p99) = load(folder, address, &["/".to_owned()]);
        lines.push(row([&words, &searching.end(), &format!("{p99:.1}"), &50]));
    }
    table("GET / beside searches, six seconds, 16 connections", &lines);
}

/// How long SKUs with facets take that were never asked for, one after the other.
fn one_at_a_time(address: &str, paths: &[String]) {
    let client = reqwest::blocking::Client::new();
    let all = ["/api/skus?facets=true&count=true".to_owned()];
    let narrowed: Vec<String> =
        ["status=active", "location=location01", "architecture=x64", "plan=true", "os=linux"]
            .map(|filter| format!("{}&{filter}", all[0]))
            .into();
    let mut lines = vec![row([&"SKUs and facets, first time", &"p50 ms", &"p95 ms", &"limit"])];
    for (what, paths) in
        [("everything", &all[..]), ("one filter", &narrowed[..]), ("a search", &paths[..200])]
    {
        let ask = |path: &String| {
            let begun = Instant::now();
            client.get(format!("{address}{path}")).send().unwrap().bytes().unwrap();
            begun.elapsed().as_secs_f64() * 1_000.0
        };
        let mut times: Vec<f64> = paths.iter().map(ask).collect();
        times.sort_by(f64::total_cmp);
        let at = |share: usize| format!("{:.1}", times[(times.len() - 1) * share / 100]);
        lines.push(row([&what, &at(50), &at(95), &10]));
    }
    table("SKUs and facets, one request after the other", &lines);
}

/// How long a process takes from its start to its first answers.
fn cold_start(store: &Path, images: usize, first: &str) {
    let mut lines = vec![row([&"cold start, median of 10", &"ms", &"limit"])];
    lines.push(row([&"process start → GET /", &format!("{:.0}", start_up(store, "/")), &50]));
    lines.push(row([
        &"process start → first lookup",
        &format!("{:.0}", start_up(store, first)),
        &300,
    ]));
    table(&format!("{images} images in a local store"), &lines);
}

pub fn run() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let names = write_large(&store);
    let some = |count: usize| names.iter().step_by(names.len() / count);
    let one = |[publisher, offer, sku, version]: &[String; 4]| {
        format!("/api/images/{publisher}:{offer}:{sku}:{version}")
    };
    let latest = |[publisher, offer, sku, _]: &[String; 4]| {
        format!("/api/images/latest?urn={publisher}:{offer}:{sku}&location=location01")
    };
    let list = |[publisher, ..]: &[String; 4], number| {
        let part = spelled(&publisher[..publisher.len().min(3)], number);
        format!("/api/images?publisher={part}&architecture=x64&top=100")
    };
    let search = |[_, offer, ..]: &[String; 4], number| {
        let word = offer.split(['-', '_']).find(|word| word.len() > 2).unwrap_or("server");
        format!("/api/images?search={}&top=100", spelled(word, number))
    };
    let facets = |name: &[String; 4], number| {
        search(name, number).replace("images?", "skus?facets=true&count=true&")
    };
    // No path is repeated before all paths have been used.
    let anew = |path: &dyn Fn(&[String; 4], usize) -> String| {
        let rounds = (1..120).flat_map(|number| some(200).map(move |name| (name, number)));
        rounds.map(|(name, number)| path(name, number)).collect()
    };
    let kinds: Vec<(&str, u32, Vec<String>)> = vec![
        ("one URN, 5,000 different", 70, some(5_000).map(one).collect()),
        ("latest, 5,000 different", 70, some(5_000).map(latest).collect()),
        ("list of 100, 200 different", 70, some(200).map(|name| list(name, 0)).collect()),
        ("list of 100, asked for the first time", 70, anew(&list)),
        ("search, 200 different", 70, some(200).map(|name| search(name, 0)).collect()),
        ("search, asked for the first time", 70, anew(&search)),
        ("SKUs and facets, 200 different", 50, some(200).map(|name| facets(name, 0)).collect()),
    ];
    let first = one(&names[names.len() / 2]);
    cold_start(&store, names.len(), &first);

    let handler = Handler::start(&store);
    let runtime = Runtime::new().unwrap();
    let client = reqwest::Client::new();
    let head = ["lookup", "bytes", "requests/s", "÷ bare", "limit", "p99 ms", "÷ bare", "limit"];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    for (what, limit, paths) in kinds {
        let sample = paths.iter().step_by(paths.len().div_ceil(100));
        let sizes: Vec<usize> = sample
            .map(|path| runtime.block_on(ask(&client, &format!("{}{path}", handler.address))).len())
            .collect();
        let size = sizes.iter().sum::<usize>() / sizes.len();
        let (bare_runtime, bare_address) = bare(size);
        let (bare_rate, bare_p99) = load(folder.path(), &bare_address, &paths);
        bare_runtime.shutdown_background();
        let (rate, p99) = load(folder.path(), &handler.address, &paths);
        lines.push(row([
            &what,
            &size,
            &format!("{rate:.0}"),
            &format!("{:.0} %", 100.0 * rate / bare_rate),
            &format!("{limit} %"),
            &format!("{p99:.2}"),
            &format!("{:.2}", p99 / bare_p99),
            &"2.00",
        ]));
    }
    table("Lookups, 16 connections, against a bare axum route with bodies as large", &lines);
    one_at_a_time(&handler.address, &anew(&facets));
    beside_searches(folder.path(), &handler.address);
    let status = std::fs::read_to_string(format!("/proc/{}/status", handler.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    println!("\nPeak memory of the handler: {}", line.trim());
}
