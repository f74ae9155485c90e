//! `azimg registry`: what registries hold, and what may be done to it.

mod change;
mod inspect;
mod purge;
mod storage;
mod transfer;

use super::output::Output;
use crate::config::{Config, Flags};
use crate::error::{Error, Result};
use crate::registry::{Name, Reference, Registry};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::process::ExitCode;

#[derive(clap::Subcommand)]
pub(super) enum RegistryCommand {
    /// The container registries of all subscriptions that you can see
    #[command(after_help = "Examples:
  azimg registry list -o table
  azimg registry list --query '[?anonymousPull].loginServer' -o tsv")]
    List {
        /// Only registries of this subscription; may be repeated [default: all, or `AZIMG_SUBSCRIPTIONS`]
        #[arg(long, value_name = "ID")]
        subscription: Vec<String>,
    },
    /// The repositories of a registry
    #[command(after_help = "Examples:
  azimg registry repositories example.azurecr.io
  azimg registry repositories example --search team1/
  azimg registry repositories example.azurecr.io --storage --query 'sort_by(@, &exclusive)[-5:]'")]
    Repositories {
        /// A login server, or a registry's name
        registry: String,
        /// Only those with this in their name
        #[arg(long, value_name = "TEXT")]
        search: Option<String>,
        /// What each takes, by the current snapshot: layers that it shares are counted once
        #[arg(long)]
        storage: bool,
        #[command(flatten)]
        login: LoginArgs,
    },
    /// The tags of a repository, with what they point at
    #[command(after_help = "Examples:
  azimg registry tags example.azurecr.io/app -o table
  azimg registry tags example.azurecr.io/app@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")]
    Tags {
        /// LOGINSERVER/REPOSITORY, with @DIGEST behind it for the tags of one manifest
        reference: String,
        #[command(flatten)]
        login: LoginArgs,
    },
    /// The manifests of a repository, with their tags and sizes
    #[command(after_help = "Examples:
  azimg registry manifests example.azurecr.io/app -o table
  azimg registry manifests example.azurecr.io/app --untagged --query 'sum([].imageSize)'")]
    Manifests {
        /// LOGINSERVER/REPOSITORY
        reference: String,
        /// Only those that no tag points at
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
        /// LOGINSERVER/REPOSITORY, with :TAG or @DIGEST behind it
        reference: String,
        #[command(flatten)]
        login: LoginArgs,
    },
    /// What an image is made of: configuration, layers, platforms, and what refers to it
    #[command(after_help = "Examples:
  azimg registry inspect example.azurecr.io/app:1.4.0
  azimg registry inspect example.azurecr.io/app:1.4.0 --query 'referrers[].artifactType'")]
    Inspect {
        /// LOGINSERVER/REPOSITORY:TAG or @DIGEST
        reference: String,
        #[command(flatten)]
        login: LoginArgs,
    },
    /// Push an image or files: blobs that the registry has are not sent again
    #[command(after_help = "Examples:
  azimg registry push example.azurecr.io/app:1.4.0 ./layout --tag latest
  azimg registry push example.azurecr.io/sbom:1.4.0 app.spdx.json --artifact-type application/spdx+json")]
    Push(transfer::PushArgs),
    /// Pull an image or files: every byte is verified, and what broke off is gone on with
    #[command(after_help = "Examples:
  azimg registry pull example.azurecr.io/app:1.4.0 ./layout --platform linux/arm64
  azimg registry pull example.azurecr.io/app:1.4.0 app.tar")]
    Pull(transfer::PullArgs),
    /// Lock and unlock a repository, tag or manifest
    #[command(after_help = "Examples:
  azimg registry set example.azurecr.io/app:1.4.0 --write-enabled false --delete-enabled false
  azimg registry set example.azurecr.io/app --list-enabled false --dry-run")]
    Set(change::SetArgs),
    /// Delete a tag (its manifest stays), a manifest by its digest with all its tags, or a repository
    #[command(after_help = "Examples:
  azimg registry delete example.azurecr.io/app:old
  azimg registry delete example.azurecr.io/app --yes --dry-run")]
    Delete(change::DeleteArgs),
    /// Delete old images by rules: plan, review, apply
    #[command(after_help = "Examples:
  azimg registry purge example.azurecr.io --repository app --keep 3 --yes
  azimg registry purge example.azurecr.io --repository 'ci/*' --tags 'pr-*' --older-than 30d --untagged --plan purge.json
  azimg registry purge example.azurecr.io --apply purge.json --max-delete 20% --export ./undo")]
    Purge(Box<purge::PurgeArgs>),
}

/// Who signs in to the registry.
#[derive(clap::Args, Clone)]
pub(super) struct LoginArgs {
    /// The admin user, or a token of the registry; its password is read from `AZIMG_REGISTRY_PASSWORD`
    #[arg(long, value_name = "NAME", conflicts_with = "anonymous")]
    username: Option<String>,
    /// Do not sign in: the registry lets anybody pull
    #[arg(long)]
    anonymous: bool,
}

impl LoginArgs {
    /// Whether the identity signs in that also asks the Resource Manager.
    fn is_entra(&self) -> bool {
        self.username.is_none() && !self.anonymous
    }
}

/// A registry as Resource Graph has it.
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

/// A registry as it is listed.
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
        let part = |name: &str| crate::source::gallery::parse::part(&row.id, name);
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

/// Opens the registry that a login server or a name stands for. A name is looked up: a login server can
/// have more in it than the name.
async fn open(config: &Config, text: &str, login: &LoginArgs) -> Result<Registry> {
    let mut server = text.trim_start_matches("https://").trim_end_matches('/').to_owned();
    if !server.contains(['.', ':']) {
        let known = registries(config, &[]).await?;
        let named = known.into_iter().find(|r| r.name.eq_ignore_ascii_case(&server));
        let named = named.ok_or_else(|| {
            Error::not_found(format!("there is no registry '{server}' that you can see"))
        })?;
        server = named.login_server;
    }
    config.registry(&server, login.username.as_deref(), login.anonymous)
}

/// Opens what a reference stands for: the registry, and the repository in it.
async fn open_reference(
    config: &Config,
    text: &str,
    login: &LoginArgs,
) -> Result<(Registry, String, Name)> {
    let reference: Reference = text.parse()?;
    let repository = reference.repository.ok_or_else(|| {
        Error::invalid(format!("'{text}' names no repository: give LOGINSERVER/REPOSITORY"))
    })?;
    Ok((open(config, &reference.login_server, login).await?, repository, reference.name))
}

fn values<T: Serialize>(rows: &[T]) -> Result<Vec<Value>> {
    rows.iter()
        .map(|row| serde_json::to_value(row).map_err(|e| Error::bug(e.to_string())))
        .collect()
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
            let rows = names.iter().map(|name| json!({ "repository": name })).collect();
            output.list(rows, &["repository"])?;
        }
        RegistryCommand::Tags { reference, login } => {
            let (registry, repository, name) = open_reference(&config, &reference, &login).await?;
            let digest = match &name {
                Name::Whole => None,
                Name::Digest(digest) => Some(digest.as_str()),
                Name::Tag(_) => return Err(Error::invalid("name a repository, or a digest in it")),
            };
            let tags = registry.tags(&repository, digest).await?;
            output.list(values(&tags)?, &["name", "lastUpdateTime", "digest"])?;
        }
        RegistryCommand::Manifests { reference, untagged, login } => {
            let (registry, repository, name) = open_reference(&config, &reference, &login).await?;
            if name != Name::Whole {
                return Err(Error::invalid("name a repository: one manifest is shown by show"));
            }
            let mut manifests = registry.manifests(&repository).await?;
            manifests.retain(|manifest| !untagged || manifest.tags.is_empty());
            let columns = ["digest", "tags", "imageSize", "os", "architecture", "lastUpdateTime"];
            output.list(values(&manifests)?, &columns)?;
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
        RegistryCommand::Push(args) => transfer::push(&config, args, output).await?,
        RegistryCommand::Pull(args) => transfer::pull(&config, args, output).await?,
        RegistryCommand::Purge(args) => return purge::run(&config, *args, output).await,
        RegistryCommand::Set(args) => change::set(&config, &args, output).await?,
        RegistryCommand::Delete(args) => change::delete(&config, &args, output).await?,
    }
    Ok(ExitCode::SUCCESS)
}
