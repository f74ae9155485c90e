//! The developer tools that may be signed in: `az`, then `azd`. Their error messages are passed on
//! to the user, who has to act on them.

use crate::client::causes;
use crate::telemetry::awaited;
use async_trait::async_trait;
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::error::ErrorKind;
use azure_identity::{
    AzureCliCredential, AzureCliCredentialOptions, AzureDeveloperCliCredential,
    AzureDeveloperCliCredentialOptions, Executor,
};
use std::ffi::OsStr;
use std::io;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::process::Command;

/// A tool that gives no token within this time waits for input. `az` takes half a second on a fast
/// machine.
const LONGEST: Duration = Duration::from_secs(30);
/// Marks that no tool has given a token yet.
const NONE: usize = usize::MAX;

const ADVICE: &str = "Run 'az login', or set AZURE_TENANT_ID, AZURE_CLIENT_ID and \
                      AZURE_CLIENT_SECRET; or try 'azimg crawl --demo', which needs no account";

/// Tools in the order in which they are asked. The first that gives a token is used from then on,
/// so that the identity does not change in the middle of a run.
#[derive(Debug)]
pub(super) struct DeveloperTools {
    tools: Vec<(&'static str, Arc<dyn TokenCredential>)>,
    chosen: AtomicUsize,
}

type Made = azure_core::Result<DeveloperTools>;

impl DeveloperTools {
    pub(super) fn azure(tenant: Option<&str>) -> Made {
        Ok(Self::of(vec![az(tenant)?]))
    }

    pub(super) fn azure_developer(tenant: Option<&str>) -> Made {
        Ok(Self::of(vec![azd(tenant)?]))
    }

    pub(super) fn any(tenant: Option<&str>) -> Made {
        Ok(Self::of(vec![az(tenant)?, azd(tenant)?]))
    }

    fn of(tools: Vec<(&'static str, Arc<dyn TokenCredential>)>) -> Self {
        Self { tools, chosen: AtomicUsize::new(NONE) }
    }
}

type Tool = (&'static str, Arc<dyn TokenCredential>);

fn az(tenant: Option<&str>) -> azure_core::Result<Tool> {
    let tenant_id = tenant.map(str::to_owned);
    let executor = Some(Arc::new(BoundedCommand("az")) as Arc<dyn Executor>);
    let options =
        AzureCliCredentialOptions { tenant_id, executor, ..AzureCliCredentialOptions::default() };
    Ok(("az", AzureCliCredential::new(Some(options))?))
}

fn azd(tenant: Option<&str>) -> azure_core::Result<Tool> {
    let tenant_id = tenant.map(str::to_owned);
    let executor = Some(Arc::new(BoundedCommand("azd")) as Arc<dyn Executor>);
    let options = AzureDeveloperCliCredentialOptions { executor, tenant_id };
    Ok(("azd", AzureDeveloperCliCredential::new(Some(options))?))
}

#[async_trait]
impl TokenCredential for DeveloperTools {
    async fn get_token(
        &self,
        scopes: &[&str],
        _: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        let chosen = self.chosen.load(Ordering::Relaxed);
        let mut said = Vec::new();
        for (at, (name, tool)) in self.tools.iter().enumerate() {
            if chosen != NONE && chosen != at {
                continue;
            }
            match tool.get_token(scopes, None).await {
                Ok(token) => {
                    self.chosen.store(at, Ordering::Relaxed);
                    return Ok(token);
                }
                Err(error) => said.push((*name, words(name, &error))),
            }
        }
        Err(azure_core::Error::with_message(ErrorKind::Credential, nobody(&said)))
    }
}

/// The message of a tool, without what the SDK adds to it.
fn words(name: &str, error: &azure_core::Error) -> String {
    let text = causes(error);
    let text = text.split_once("authentication failed. ").map_or(text.as_str(), |(_, rest)| rest);
    let text = text.trim().trim_start_matches("ERROR: ");
    text.strip_prefix(&format!("{name}: ")).unwrap_or(text).to_owned()
}

/// Why no tool gives a token: the messages of the tools that are installed.
fn nobody(said: &[(&str, String)]) -> String {
    let installed: Vec<String> = said
        .iter()
        .filter(|(name, text)| !text.contains(&format!("{name} not found on PATH")))
        .map(|(name, text)| format!("{name} says: {text}"))
        .collect();
    if installed.is_empty() {
        let names: Vec<&str> = said.iter().map(|(name, _)| *name).collect();
        return format!(
            "no account is signed in: {} not found on PATH. {ADVICE}",
            names.join(", ")
        );
    }
    let text = installed.join("; ");
    // The tool proposes its own command.
    if text.contains("az login --") {
        return text;
    }
    format!("no account is signed in: {text}. {ADVICE}")
}

/// Runs a tool with a timeout and without input; processes that it starts are killed with it.
#[derive(Debug)]
struct BoundedCommand(&'static str);

#[async_trait]
impl Executor for BoundedCommand {
    async fn run(&self, program: &OsStr, args: &[&OsStr]) -> io::Result<Output> {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        #[cfg(unix)]
        command.process_group(0);
        let _wait = awaited::wait_for(format!("{} to return a token", self.0));
        let child = command.spawn()?;
        let group = ProcessGroup(child.id());
        let ended = tokio::time::timeout(LONGEST, child.wait_with_output()).await;
        let Ok(ended) = ended else {
            drop(group);
            return Err(io::Error::other(format!(
                "no answer within {} s; it may wait for input: run '{}' by hand",
                LONGEST.as_secs(),
                match self.0 {
                    "az" => "az account get-access-token",
                    _ => "azd auth token",
                }
            )));
        };
        group.ended();
        let mut output = ended?;
        output.stdout = object(&output.stdout).to_vec();
        Ok(output)
    }
}

/// The JSON object in a tool's output, without the warnings around it.
fn object(stdout: &[u8]) -> &[u8] {
    let first = stdout.iter().position(|byte| *byte == b'{');
    let last = stdout.iter().rposition(|byte| *byte == b'}');
    match (first, last) {
        (Some(first), Some(last)) if first < last => &stdout[first..=last],
        _ => stdout,
    }
}

/// The process group of a tool, which starts its own interpreters. Dropping it before the tool has
/// ended kills all of them.
struct ProcessGroup(Option<u32>);

impl ProcessGroup {
    fn ended(mut self) {
        self.0 = None;
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        #[cfg(unix)]
        if let Some(pid) = self.0.and_then(|id| rustix::process::Pid::from_raw(id.cast_signed())) {
            // It may have ended already.
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_around_the_object_are_left_out() {
        assert_eq!(object(b"WARNING: 2 updates.\n{\"a\": {}}\nbye\n"), b"{\"a\": {}}");
        assert_eq!(object(b"no object"), b"no object");
        assert_eq!(object(b"} {"), b"} {");
    }

    #[test]
    fn whoever_is_installed_is_heard() {
        let none =
            [("az", "az not found on PATH".to_owned()), ("azd", "azd not found on PATH".into())];
        assert!(nobody(&none).contains("az, azd not found on PATH. Run 'az login'"));
        let az = [("az", "AADSTS50076: run: az login --tenant t".to_owned()), none[1].clone()];
        assert_eq!(nobody(&az), "az says: AADSTS50076: run: az login --tenant t");
    }
}
