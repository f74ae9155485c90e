//! A proxy that is not there: told by its name, after few attempts, whatever is asked for through it. How often it is
//! tried bounds how long that takes: an attempt ends after seven seconds.

use crate::support::{Azure, azimg, finish};
use crate::tests;
use azimg::testing::sim::{Scale, generate};
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

tests![a_dead_proxy_is_named_after_few_attempts];

/// A proxy that takes connections, and answers nothing: it closes them, or holds them.
struct Dead {
    address: String,
    attempts: Arc<AtomicUsize>,
}

impl Dead {
    fn start(holds: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let attempts: Arc<AtomicUsize> = Arc::default();
        let (counted, held) = (Arc::clone(&attempts), Mutex::new(Vec::<TcpStream>::new()));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                if holds {
                    held.lock().unwrap().push(stream);
                } else {
                    // What is asked is read first, so that the end is one, and not a reset.
                    let _ = stream.read(&mut [0; 1024]);
                }
            }
        });
        Self { address, attempts }
    }
}

/// What is asked for through a proxy: of the Resource Manager, for a token, of a registry without and with one, and
/// of storage.
fn commands(azure: &Azure) -> Vec<(&'static str, Command)> {
    let identity = |command: &mut Command| {
        for (name, value) in azure.variables() {
            if name.starts_with("IDENTITY_") {
                command.env(name, value);
            }
        }
    };
    let mut commands = Vec::new();
    for (kind, line) in [
        ("Resource Manager", &["images", "list", "--live", "--publisher", "x"][..]),
        ("token", &["images", "list", "--live", "--publisher", "x"]),
        ("registry", &["registry", "tags", "example.azurecr.io/app", "--anonymous"]),
        ("registry of an identity", &["registry", "tags", "example.azurecr.io/app"]),
        ("storage", &["images", "list", "--store", "https://example.blob.core.windows.net/c"]),
    ] {
        let mut command = azimg(line);
        if kind == "token" {
            let id = "11111111-1111-4111-8111-111111111111";
            command.env("AZURE_TENANT_ID", id).env("AZURE_CLIENT_ID", id);
            command.env("AZURE_CLIENT_SECRET", "not-a-secret");
        } else {
            identity(&mut command);
        }
        commands.push((kind, command));
    }
    commands
}

fn a_dead_proxy_is_named_after_few_attempts() {
    let azure = Azure::start(generate(Scale::Small, 3));
    std::thread::scope(|scope| {
        for (holds, most) in [(false, 12), (true, 1)] {
            for (kind, mut command) in commands(&azure) {
                scope.spawn(move || {
                    let proxy = Dead::start(holds);
                    command.env("HTTPS_PROXY", format!("http://{}", proxy.address));
                    command.env("NO_PROXY", "127.0.0.1");
                    let (code, _, stderr) = finish(&mut command);
                    assert_eq!(code, 1, "{kind}: {stderr}");
                    let named = format!("through the proxy {}, set by HTTPS_PROXY", proxy.address);
                    assert!(stderr.contains(&named), "{kind}: {stderr}");
                    let attempts = proxy.attempts.load(Ordering::SeqCst);
                    assert!((1..=most).contains(&attempts), "{kind}: {attempts} attempts");
                });
            }
        }
    });
}
