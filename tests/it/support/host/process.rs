//! The handler's process as managed by the Functions host (`HttpWorkerProcess`, `WorkerProcess`,
//! `HttpFunctionInvocationDispatcher` in its source).

use crate::support::wait_until;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

/// The host stops itself after this many errors without half an hour between them.
const MOST_ERRORS: usize = 3;

/// The state of a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessState {
    /// It is running.
    Running,
    /// It exited with 0: it is not restarted, and every invocation is refused.
    Gone,
    /// It ended too often: the host has stopped itself.
    HostStopped,
}

struct State {
    handler: Option<(Child, u16)>,
    errors: usize,
    phase: ProcessState,
}

/// The single handler of a host instance.
pub struct Process {
    app: PathBuf,
    log: PathBuf,
    variables: BTreeMap<String, String>,
    state: Mutex<State>,
    /// The number of starts.
    pub starts: Mutex<u32>,
}

impl Process {
    pub fn new(app: &Path, variables: BTreeMap<String, String>) -> Self {
        let log = app.join(format!("../handler-{}.log", ulid::Ulid::generate()));
        let state = State { handler: None, errors: 0, phase: ProcessState::Running };
        let (state, starts) = (Mutex::new(state), Mutex::default());
        Self { app: app.to_owned(), log, variables, state, starts }
    }

    /// Starts the handler as `customHandler` specifies, and waits until it answers `GET /`.
    pub async fn start(&self, client: &reqwest::Client) {
        let port = super::super::azurite::free_port();
        let child = self.command(port).spawn().unwrap();
        *self.starts.lock().unwrap() += 1;
        self.state.lock().unwrap().handler = Some((child, port));
        // Any complete response is accepted. (The real host gives up after 30 seconds.)
        wait_until("the handler's first answer", async || {
            match client.get(format!("http://127.0.0.1:{port}/")).send().await {
                Ok(answer) => answer.bytes().await.is_ok(),
                Err(_) => self.has_exited(),
            }
        })
        .await;
    }

    fn command(&self, port: u16) -> Command {
        let host = super::super::read_json(&self.app.join("host.json"));
        let description = &host["customHandler"]["description"];
        let executable = self.app.join(description["defaultExecutablePath"].as_str().unwrap());
        let arguments = description["arguments"].as_array().unwrap();
        let log = std::fs::File::options().create(true).append(true).open(&self.log).unwrap();
        let mut command = Command::new(executable);
        command.args(arguments.iter().map(|argument| argument.as_str().unwrap()));
        command.current_dir(&self.app).env_clear().envs(&self.variables);
        command.env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string());
        command.env("FUNCTIONS_CUSTOMHANDLER_WORKER_ID", super::envelope::uuid());
        command.env("FUNCTIONS_HTTPWORKER_PORT", port.to_string());
        command.env("FUNCTIONS_HTTPWORKER_ID", super::envelope::uuid());
        command.env("FUNCTIONS_APP_ROOT_PATH", &self.app);
        command.stdin(Stdio::null()).stdout(log).stderr(Stdio::piped());
        command
    }

    /// Sends SIGKILL without warning. The host treats anything written to stderr as an error.
    pub fn kill(&self) {
        if let Some((mut child, _)) = self.state.lock().unwrap().handler.take() {
            self.end(&mut child);
            let mut said = String::new();
            child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            assert_eq!(said, "", "the host takes every line on stderr for an error");
        }
    }

    /// Kills the handler like a machine that is out of memory. The host then finds it dead.
    pub fn die(&self) {
        if let Some((child, _)) = self.state.lock().unwrap().handler.as_mut() {
            self.end(child);
        }
    }

    /// Kills a process, and removes the line that it was writing from its log.
    fn end(&self, child: &mut Child) {
        child.kill().unwrap();
        child.wait().unwrap();
        let text = std::fs::read(&self.log).unwrap();
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let log = std::fs::File::options().write(true).open(&self.log).unwrap();
        log.set_len(whole as u64).unwrap();
    }

    /// Simulates half an hour without errors, after which earlier ones are forgotten.
    pub fn forget_errors(&self) {
        self.state.lock().unwrap().errors = 0;
    }

    pub fn port(&self) -> Option<u16> {
        self.state.lock().unwrap().handler.as_ref().map(|(_, port)| *port)
    }

    fn has_exited(&self) -> bool {
        let mut state = self.state.lock().unwrap();
        let ended = |child: &mut Child| child.try_wait().unwrap().is_some();
        state.handler.as_mut().is_none_or(|(child, _)| ended(child))
    }

    /// The exit code of a handler that ended by itself. Returned once.
    fn exited(&self) -> Option<i32> {
        let mut state = self.state.lock().unwrap();
        let (child, _) = state.handler.as_mut()?;
        let status = child.try_wait().unwrap()?;
        state.handler = None;
        Some(status.code().unwrap_or(-1))
    }

    /// Applies the rules for a handler that ended by itself: 0 is final, 200 restarts it, any other
    /// code restarts it and counts as an error.
    pub async fn look_after(&self, client: &reqwest::Client) -> ProcessState {
        let Some(code) = self.exited() else { return self.state.lock().unwrap().phase };
        {
            let mut state = self.state.lock().unwrap();
            match code {
                0 => state.phase = ProcessState::Gone,
                200 => {}
                _ => {
                    state.errors += 1;
                    if state.errors >= MOST_ERRORS {
                        state.phase = ProcessState::HostStopped;
                    }
                }
            }
            if state.phase != ProcessState::Running {
                return state.phase;
            }
        }
        self.start(client).await;
        ProcessState::Running
    }

    /// The lines that the handler wrote to stdout. Each must be a JSON record.
    pub fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        super::super::secrets::assert_none(&text, "the handler's log");
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    }
}
