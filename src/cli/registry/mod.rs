//! `azimg registry`: the content of registries, and changes to it.

mod artifact;
mod change;
mod copy;
mod depending;
mod going;
mod inspect;
mod purge;
mod storage;
mod transfer;

use super::output::{Output, as_json};
use super::stop;
use crate::config::{Config, Flags, RegistryUser};
use crate::error::{Error, Result};
use crate::registry::{Name, Reference, Registry, TrustSource};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::process::ExitCode;

#[derive(clap::Subcommand)]
pub(super) enum RegistryCommand {
    /// List the container registries of all subscriptions that you can see
    #[command(after_help = "Examples:
  azimg registry list -o table
  azimg registry list --query '[?anonymousPull].loginServer' -o tsv")]
    List {
        /// Only registries of these subscriptions [default: `AZIMG_SUBSCRIPTIONS`, else all]
        #[arg(long, value_delimiter = ',', value_name = "ID")]
        subscription: Vec<String>,
    },
    /// List the repositories of a registry
    #[command(after_help = "Examples:
  azimg registry repositories example.azurecr.io
  azimg registry repositories example --search team1/
  azimg registry repositories example.azurecr.io --storage --query 'sort_by(@, &exclusive)[-5:]'")]
    Repositories {
        /// Login server or name of a registry
        registry: String,
        /// Only repositories whose name contains this text
        #[arg(long, value_name = "TEXT")]
        search: Option<String>,
        /// Show the storage that each repository uses, by the current snapshot; each layer counts
        /// once
        #[arg(long)]
        storage: bool,
        #[command(flatten)]
        login: LoginArgs,
    },
    /// List the tags of a repository, with the digests that they point at
    #[command(after_help = "Examples:
  azimg registry tags example.azurecr.io/app -o table
  azimg registry tags registry.example.com/app --trust registry.example.com
  azimg registry tags example.azurecr.io/app@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")]
    Tags {
        /// LOGINSERVER/REPOSITORY, followed by @DIGEST for the tags of one manifest
        reference: String,
        #[command(flatten)]
        login: LoginArgs,
    },
    /// List the manifests of a repository, with their tags and sizes
    #[command(after_help = "Examples:
  azimg registry manifests example.azurecr.io/app -o table
  azimg registry manifests example.azurecr.io/app --untagged --query 'sum([].imageSize)'")]
    Manifests {
        /// LOGINSERVER/REPOSITORY
        reference: String,
        /// Only manifests without a tag
        #[arg(long)]
        untagged: bool,
        #[command(flatten)]
        login: LoginArgs,
    },
    /// Show a repository, tag or manifest with its attributes
    #[command(after_help = "Examples:
  azimg registry show example.azurecr.io/app:1.4.0
  azimg registry show example.azurecr.io/app --query changeableAttributes")]
    Show {
        /// LOGINSERVER/REPOSITORY, optionally followed by :TAG or @DIGEST
        reference: String,
        #[command(flatten)]
        login: LoginArgs,
    },
    /// Show the contents of an image: configuration, layers, platforms and referrers
    #[command(after_help = "Examples:
  azimg registry inspect example.azurecr.io/app:1.4.0
  azimg registry inspect example.azurecr.io/app:1.4.0 --query 'referrers[].artifactType'")]
    Inspect {
        /// LOGINSERVER/REPOSITORY:TAG or @DIGEST
        reference: String,
        #[command(flatten)]
        login: LoginArgs,
    },
    /// Push an image or files; blobs that the registry already has are not sent
    #[command(after_help = "Examples:
  azimg registry push example.azurecr.io/app:1.4.0 ./layout --tag latest
  azimg registry push example.azurecr.io/app:1.4.0 images.tar.gz --name app:1.4.0 --platform linux/arm64
  azimg registry push example.azurecr.io/sbom:1.4.0 app.spdx.json --artifact-type application/spdx+json")]
    Push(transfer::PushArgs),
    /// Pull an image or files; every byte is verified, and an interrupted pull is resumed
    #[command(after_help = "Examples:
  azimg registry pull example.azurecr.io/app:1.4.0 ./layout --platform linux/arm64
  azimg registry pull example.azurecr.io/app:1.4.0 app.tar")]
    Pull(transfer::PullArgs),
    /// Attach files to an image as a referrer, such as an SBOM or a signature
    #[command(after_help = "Examples:
  azimg registry attach example.azurecr.io/app:1.4.0 app.spdx.json --artifact-type application/spdx+json
  azimg registry attach example.azurecr.io/app:1.4.0 report.json --artifact-type application/vnd.example.scan --annotation org.opencontainers.image.created=2026-11-27T00:00:00Z --media-type report.json:application/json")]
    Attach(artifact::AttachArgs),
    /// Copy an image to another repository or registry
    ///
    /// Nothing is kept on disk. Blobs that the target already has are not sent.
    #[command(after_help = "Examples:
  azimg registry copy example.azurecr.io/app:1.4.0 production.azurecr.io/app --with-referrers
  azimg registry copy example.azurecr.io/ci/app:1.4.0 example.azurecr.io/app --tag latest
  azimg registry copy mcr.microsoft.com/dotnet/runtime:8.0 example.azurecr.io/dotnet/runtime --from-anonymous")]
    Copy(copy::CopyArgs),
    /// Add tags to an image without pulling it
    #[command(after_help = "Examples:
  azimg registry tag example.azurecr.io/app:1.4.0 1.4 1 latest
  azimg registry tag example.azurecr.io/app:old good --dry-run")]
    Tag(copy::TagArgs),
    /// Lock and unlock a repository, tag or manifest
    #[command(after_help = "Examples:
  azimg registry set example.azurecr.io/app:1.4.0 --write-enabled false --delete-enabled false
  azimg registry set example.azurecr.io/app --list-enabled false --dry-run")]
    Set(change::SetArgs),
    /// Delete a tag (its manifest stays), a manifest by its digest with all its tags, or a
    /// repository
    #[command(after_help = "Examples:
  azimg registry delete example.azurecr.io/app:old
  azimg registry delete example.azurecr.io/app:latest --yes
  azimg registry delete example.azurecr.io/app --yes --dry-run")]
    Delete(change::DeleteArgs),
    /// Delete old images by rules: plan, review, apply
    #[command(after_help = "Examples:
  azimg registry purge example.azurecr.io --repository app --keep 3 --yes
  azimg registry purge example.azurecr.io --repository 'ci/*' --tags 'pr-*' --older-than 30d --untagged --plan purge.json
  azimg registry purge example.azurecr.io --apply purge.json --max-delete 20% --export ./undo
  kubectl get pods -A -o json | azimg registry purge example.azurecr.io --repository app --keep 3 --in-use -
  azimg registry purge example.azurecr.io --repository app --orphans --older-than 7d --yes")]
    Purge(Box<purge::PurgeArgs>),
}

/// The user at the registry.
#[derive(clap::Args, Clone)]
pub(super) struct LoginArgs {
    /// Admin user or token of the registry; the password is read from `AZIMG_REGISTRY_PASSWORD`
    #[arg(long, value_name = "NAME", conflicts_with = "anonymous")]
    username: Option<String>,
    /// Do not sign in; the registry allows anonymous pull
    #[arg(long)]
    anonymous: bool,
    /// Login servers outside of the cloud's domain (NAME.azurecr.io) that may receive a token of
    /// your identity; comma-separated or repeated [default: those in `AZIMG_REGISTRIES`]
    #[arg(long, value_delimiter = ',', value_name = "HOST", conflicts_with_all = ["anonymous", "username"])]
    trust: Vec<String>,
}

impl LoginArgs {
    /// Whether the Azure identity signs in, which also calls the Resource Manager.
    fn is_entra(&self) -> bool {
        self.username.is_none() && !self.anonymous
    }

    /// The user at a registry known from `said`.
    fn sign_in(&self, said: TrustSource) -> RegistryUser<'_> {
        match &self.username {
            _ if self.anonymous => RegistryUser::Nobody,
            Some(username) => RegistryUser::User(username),
            None => RegistryUser::Identity { said, trusted: &self.trust },
        }
    }
}

/// A registry as returned by Resource Graph.
#[derive(Debug, Deserialize)]
struct Row {
    id: String,
    name: String,
    #[serde(default)]
    location: String,
    #[serde(default)]
    sku: Value,
    #[serde(default)]
    properties: Value,
}

/// A registry in the list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    name: String,
    login_server: String,
    sku: Option<String>,
    location: String,
    anonymous_pull: bool,
    admin_user: bool,
    public_network: Option<String>,
    subscription_id: String,
    resource_group: String,
    id: String,
}

impl From<Row> for Listed {
    fn from(row: Row) -> Self {
        let part = |name: &str| crate::image::resource_id::part(&row.id, name);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let of = |name: &str| &row.properties[name];
        Self {
            login_server: text(of("loginServer")).unwrap_or_default(),
            sku: text(&row.sku["name"]),
            anonymous_pull: of("anonymousPullEnabled").as_bool().unwrap_or_default(),
            admin_user: of("adminUserEnabled").as_bool().unwrap_or_default(),
            public_network: text(of("publicNetworkAccess")),
            subscription_id: part("subscriptions").unwrap_or_default().to_owned(),
            resource_group: part("resourceGroups").unwrap_or_default().to_owned(),
            name: row.name,
            location: row.location,
            id: row.id.clone(),
        }
    }
}

async fn registries(config: &Config, subscriptions: &[String]) -> Result<Vec<Listed>> {
    let query = "resources | where type =~ 'microsoft.containerregistry/registries' | project id, \
                 name, location, sku, properties | order by id asc";
    let named =
        if subscriptions.is_empty() { &config.request().subscriptions } else { subscriptions };
    let rows: Vec<Row> = config.client()?.graph(query, named).await?;
    Ok(rows.into_iter().map(Listed::from).collect())
}

/// Opens the registry with a login server or a name. A name is looked up, because its login server
/// may contain more than the name. A registry on this machine is looked up, too: the identity signs
/// in to it only if a (simulated) Resource Manager on this machine lists it.
async fn open(config: &Config, text: &str, login: &LoginArgs) -> Result<Registry> {
    let server = text.trim_start_matches("https://").trim_end_matches('/');
    let is_name = !server.contains(['.', ':']);
    let is_looked_up = login.is_entra() && config.trust(&login.trust)?.depends_on_the_list(server);
    if !is_name && !is_looked_up {
        return config.registry(server, login.sign_in(TrustSource::Unconfirmed));
    }
    let known = Box::pin(registries(config, &[])).await?;
    let of = |r: &Listed| if is_name { r.name.clone() } else { r.login_server.clone() };
    match known.into_iter().find(|r| of(r).eq_ignore_ascii_case(server)) {
        Some(found) => {
            config.registry(&found.login_server, login.sign_in(TrustSource::ResourceManager))
        }
        None if is_name => Err(Error::not_found(format!(
            "no registry '{server}' is visible to you: check its name and your role on it"
        ))),
        None => config.registry(server, login.sign_in(TrustSource::Unconfirmed)),
    }
}

/// Opens the source registry of a copy, if it is another one. It is never sent the user name and
/// password of the target registry.
async fn open_source(
    config: &Config,
    server: &str,
    source: &copy::SourceArgs,
    trust: &[String],
) -> Result<Registry> {
    if let Some(username) = &source.from_username {
        return config.registry(server, RegistryUser::FromUser(username));
    }
    let anonymous = source.from_anonymous;
    let trust = if anonymous { Vec::new() } else { trust.to_vec() };
    open(config, server, &LoginArgs { username: None, anonymous, trust }).await
}

/// Opens the registry of a reference. Returns it with the repository and the name in it.
async fn open_reference(
    config: &Config,
    text: &str,
    login: &LoginArgs,
) -> Result<(Registry, String, Name)> {
    let reference: Reference = text.parse()?;
    let repository = reference.repository.ok_or_else(|| {
        Error::invalid(format!("'{text}' names no repository: give LOGINSERVER/REPOSITORY"))
    })?;
    let registry = Box::pin(open(config, &reference.login_server, login)).await?;
    Ok((registry, repository, reference.name))
}

fn values<T: Serialize>(rows: &[T]) -> Result<Vec<Value>> {
    rows.iter().map(|row| as_json(&row)).collect()
}

/// The message after an interruption. Registries have no operations to follow: a request is either
/// done or not.
fn interrupted(reference: &str) -> String {
    format!(
        "{reference}: interrupted; the change may have been made: check it before you repeat it"
    )
}

pub(super) async fn run(
    command: RegistryCommand,
    flags: Flags,
    output: &Output,
) -> Result<ExitCode> {
    let config = Config::load(flags)?;
    match command {
        RegistryCommand::List { subscription } => {
            let rows = values(&registries(&config, &subscription).await?)?;
            output.unless_empty(&rows, || {
                "No registry is visible: check the subscription, and that the identity has the role Reader on it."
                    .to_owned()
            });
            let columns = ["loginServer", "sku", "location", "anonymousPull", "subscriptionId"];
            output.list(rows, &columns)?;
        }
        RegistryCommand::Repositories { registry, search, storage: true, .. } => {
            let search = search.unwrap_or_default().to_lowercase();
            storage::list(&config, &registry, &search, output).await?;
        }
        RegistryCommand::Repositories { registry, search, login, .. } => {
            let registry = open(&config, &registry, &login).await?;
            let mut names = registry.repositories().await?;
            let search = search.unwrap_or_default().to_lowercase();
            names.retain(|name| name.contains(&search));
            let rows: Vec<Value> = names.iter().map(|name| json!({ "repository": name })).collect();
            let at = registry.login_server();
            output.unless_empty(&rows, || format!("No repository of {at} matches."));
            output.list(rows, &["repository"])?;
        }
        RegistryCommand::Tags { reference, login } => {
            let (registry, repository, name) = open_reference(&config, &reference, &login).await?;
            let digest = match &name {
                Name::Whole => None,
                Name::Digest(digest) => Some(digest.as_str()),
                Name::Tag(_) => return Err(Error::invalid("name a repository or a digest in it")),
            };
            let tags = registry.tags(&repository, digest).await?;
            let rows = values(&tags)?;
            output.unless_empty(&rows, || format!("{repository} has no matching tag."));
            output.list(rows, &["name", "lastUpdateTime", "digest"])?;
        }
        RegistryCommand::Manifests { reference, untagged, login } => {
            let (registry, repository, name) = open_reference(&config, &reference, &login).await?;
            if name != Name::Whole {
                return Err(Error::invalid("name a repository; show shows one manifest"));
            }
            let mut manifests = registry.manifests(&repository).await?;
            manifests.retain(|manifest| !untagged || manifest.tags.is_empty());
            let columns = ["digest", "tags", "imageSize", "os", "architecture", "lastUpdateTime"];
            let rows = values(&manifests)?;
            output.unless_empty(&rows, || format!("{repository} has no such manifest."));
            output.list(rows, &columns)?;
        }
        RegistryCommand::Show { reference, login } => {
            let (registry, repository, name) = open_reference(&config, &reference, &login).await?;
            output.one(change::look(&registry, &repository, &name).await?)?;
        }
        RegistryCommand::Inspect { reference, login } => {
            let (registry, repository, name) = open_reference(&config, &reference, &login).await?;
            let mut found = inspect::inspect(&registry, &repository, &name).await?;
            if login.is_entra() {
                found["findings"] = inspect::findings(&config, &registry, &found).await;
            }
            output.one(found)?;
        }
        RegistryCommand::Pull(args) => transfer::pull(&config, args, output).await?,
        RegistryCommand::Purge(args) => return purge_or_stop(&config, *args, output).await,
        change => changed(&config, change, output).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a command that changes a registry, until it is done or is requested to stop.
async fn changed(config: &Config, command: RegistryCommand, output: &Output) -> Result<()> {
    let again = |what: &str| {
        format!("{what}: interrupted: repeat the command; blobs that arrived are not sent again")
    };
    match command {
        RegistryCommand::Push(args) => {
            let how =
                || "interrupted: repeat the push; blobs that arrived are not sent again".to_owned();
            stop::unless_stopped(transfer::push(config, args, output), how).await
        }
        RegistryCommand::Attach(args) => {
            let how = || again(args.reference());
            stop::unless_stopped(artifact::attach(config, &args, output), how).await
        }
        RegistryCommand::Copy(args) => {
            let how = || again(args.to());
            stop::unless_stopped(copy::copy(config, &args, output), how).await
        }
        RegistryCommand::Tag(args) => {
            let how = || interrupted(args.reference());
            stop::unless_stopped(copy::tag(config, &args, output), how).await
        }
        RegistryCommand::Set(args) => {
            let how = || interrupted(args.reference());
            stop::unless_stopped(change::set(config, &args, output), how).await
        }
        RegistryCommand::Delete(args) => {
            let how = || interrupted(args.reference());
            stop::unless_stopped(change::delete(config, &args, output), how).await
        }
        _ => Err(Error::bug("a command that changes nothing")),
    }
}

/// Purges until it is done or is requested to stop.
async fn purge_or_stop(
    config: &Config,
    args: purge::PurgeArgs,
    output: &Output,
) -> Result<ExitCode> {
    let how = || {
        "interrupted: deletions are not undone; repeat the purge with the same rules or plan"
            .to_owned()
    };
    Box::pin(stop::unless_stopped(purge::run(config, args, output), how)).await
}
