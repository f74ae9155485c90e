//! The command line: one file per command. Data goes to stdout, everything else to stderr.

mod browser;
mod changes;
mod choice;
mod columns;
mod completion;
mod configured;
mod crawl;
#[cfg(feature = "sim")]
mod demo;
mod distinct;
mod doctor;
mod empty;
mod filter;
mod front;
mod gallery;
mod help;
mod host;
mod images;
mod manual;
mod output;
mod package;
mod page;
mod progress;
mod query;
mod registry;
mod runs;
mod schema;
mod serve;
mod shape;
#[cfg(feature = "sim")]
mod sim;
mod stop;
mod waiting;

use crate::config::{Config, Flags, HiddenValue, PlainSetting};
use crate::error::{Error, ErrorKind, Result};
use crate::sink::{self, say};
use crate::telemetry::{self, Export, LogFormat, TelemetryGuard};
use clap::{Args, FromArgMatches, Parser, Subcommand, ValueEnum};
use output::{Format, Output};
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// Exit codes. Scripts rely on them.
const FAILED: u8 = 1;
const WRONG_USAGE: u8 = 2;
const PARTIAL: u8 = 3;
const NOT_FOUND: u8 = 4;

/// Every image that you can deploy on Azure, in one catalog
#[derive(Parser)]
#[command(
    name = "azimg",
    version,
    about,
    max_term_width = 100,
    after_help = "Examples:
  azimg crawl --demo                               make a catalog without an Azure account
  azimg images latest Canonical:ubuntu-24_04-lts:server --location eastus"
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
#[command(next_help_heading = "Global options")]
struct Global {
    /// Location of runs and snapshots: a folder, <https://ACCOUNT.blob.core.windows.net/CONTAINER>,
    /// or azurite [default: `AZIMG_STORE`, else store in your azimg.toml, else ./azimg-data]
    #[arg(long, global = true, value_name = "URL")]
    store: Option<HiddenValue>,
    /// Output format [default: `AZIMG_OUTPUT`; on a terminal output in azimg.toml, else table; else
    /// json]
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
    /// `JMESPath` query on the result, as in az
    #[arg(long, global = true, value_name = "JMESPATH")]
    query: Option<String>,
    /// Fields to print, comma-separated
    #[arg(long, global = true, value_delimiter = ',', value_name = "NAMES")]
    fields: Vec<String>,
    /// Log more; may be repeated
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Print only data and errors
    #[arg(long, global = true)]
    quiet: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Crawl in this process until the snapshot is published
    Crawl(crawl::CrawlArgs),
    /// Look up images
    #[command(subcommand)]
    Images(images::ImagesCommand),
    /// List the publishers of marketplace images, with counts
    #[command(after_help = "Examples:
  azimg publishers --location westeurope -o table
  azimg publishers --search ubuntu --sort images:desc --top 5")]
    Publishers(distinct::NamesArgs),
    /// List the offers of marketplace images
    #[command(after_help = "Examples:
  azimg offers -p canonical -o table
  azimg offers --search 'ubuntu 24.04'")]
    Offers(distinct::NamesArgs),
    /// List the SKUs of marketplace images, with the latest version of each
    #[command(after_help = "Examples:
  azimg skus -p canonical -f ubuntu-24_04-lts -o table
  azimg skus --architecture arm64 --sort images:desc --top 10")]
    Skus(distinct::NamesArgs),
    /// List the locations in the catalog, with the number of images in each
    #[command(after_help = "Examples:
  azimg locations -o table
  azimg locations --search europe -p canonical --query '[].location' -o tsv")]
    Locations(distinct::LocationsArgs),
    /// Look up, change and share Compute Galleries, and retire their versions
    #[command(subcommand)]
    Gallery(Box<gallery::GalleryCommand>),
    /// Look up and change container registries: repositories, tags, manifests and attributes
    #[command(subcommand)]
    Registry(registry::RegistryCommand),
    /// Show what changed since the previous snapshot
    Changes(changes::ChangesArgs),
    /// List, show, publish and verify runs
    #[command(subcommand)]
    Runs(runs::RunsCommand),
    /// Check what a crawl needs: permissions, storage, queues, clock and settings
    Doctor(doctor::DoctorArgs),
    /// Run the custom handler that the Functions host starts
    Serve(serve::ServeArgs),
    /// Run the embedded Functions host: timers, queues and HTTP on this machine
    Host(host::HostArgs),
    /// Show the catalog in a browser
    Page(page::PageArgs),
    /// Run a simulated Azure, for tests and trials
    #[cfg(feature = "sim")]
    Sim(sim::SimArgs),
    /// Write the deployable function app as a folder and a zip
    Package(package::PackageArgs),
    /// Print the JSON Schema of a record
    Schema(schema::SchemaArgs),
    /// Show how azimg is configured
    #[command(subcommand)]
    Config(configured::ConfigCommand),
    /// Print a shell completion script for commands, options and names in the catalog
    Completions(completion::CompletionsArgs),
    /// Write the manual, with a page for each command
    Man(manual::ManArgs),
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    sink::install_panic_hook();
    if let Some(ended) = completion::asked_for(help::commands) {
        return ended;
    }
    let matched = help::commands().try_get_matches();
    let cli = match matched.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(unread) => return usage(&unread),
    };
    let config = match cli.command.config(Flags::default()) {
        Ok(config) => config,
        Err(error) => return fail(&error),
    };
    // Flushes telemetry when it is dropped, after everything else has ended.
    let _listening = listen(&config, &cli.global, &cli.command);
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(e) => return fail(&Error::bug("starting up").with_source(e)),
    };
    let result = runtime.block_on(run(cli, &config));
    // Work still under way (in a stopped host) is idempotent and is not waited for.
    runtime.shutdown_background();
    match result {
        Ok(code) => code,
        Err(error) => {
            let code = fail(&error);
            stop::code().unwrap_or(code)
        }
    }
}

impl Command {
    /// Whether it runs until it is stopped. Such a command writes a log.
    fn is_long_lived(&self) -> bool {
        matches!(self, Self::Serve(_) | Self::Host(_))
    }

    /// Loads the configuration. A deployed handler uses only the settings of its app.
    fn config(&self, flags: Flags) -> Result<Config> {
        if matches!(self, Self::Serve(_)) {
            Config::of_environment(flags)
        } else {
            Config::load(flags)
        }
    }
}

/// The output format, from the flag or the configuration.
fn format(global: &Global, config: &Config) -> Result<Option<Format>> {
    let configured = config.output(sink::stdout_is_terminal());
    let (None, Some(text)) = (global.output, configured) else { return Ok(global.output) };
    let known: Vec<String> = Format::value_variants()
        .iter()
        .filter_map(|format| Some(format.to_possible_value()?.get_name().to_owned()))
        .collect();
    let format = Format::from_str(text, true).map_err(|_| {
        let why = format!("'{text}' is not a format; there are {}", known.join(", "));
        PlainSetting::OUTPUT.wrong(why)
    })?;
    Ok(Some(format))
}

/// Prints help or the version if requested, otherwise the error in the arguments, which are
/// untrusted text.
fn usage(unread: &clap::Error) -> ExitCode {
    let text = unread.render().to_string();
    if unread.use_stderr() {
        sink::write_lines(&text);
        return ExitCode::from(WRONG_USAGE);
    }
    output::text(&text).map_or_else(|error| fail(&error), |()| ExitCode::SUCCESS)
}

fn fail(error: &Error) -> ExitCode {
    say!("azimg: {error}");
    ExitCode::from(match error.kind() {
        ErrorKind::Invalid => WRONG_USAGE,
        ErrorKind::NotFound => NOT_FOUND,
        _ => FAILED,
    })
}

async fn run(cli: Cli, config: &Config) -> Result<ExitCode> {
    let Cli { global, command } = cli;
    let _watch = (!global.quiet && !command.is_long_lived()).then(waiting::Watch::begin);
    let flags = Flags { store: global.store.clone(), ..Flags::default() };
    let format = format(&global, config)?;
    let output = Output::new(format, global.query.as_deref(), &global.fields, global.quiet)?;
    match command {
        Command::Crawl(args) => crawl::run(args, flags, &output).await,
        Command::Images(command) => Box::pin(images::run(command, flags, &output)).await,
        Command::Publishers(args) => distinct::publishers(args, flags, &output).await,
        Command::Offers(args) => distinct::offers(args, flags, &output).await,
        Command::Skus(args) => distinct::skus(args, flags, &output).await,
        Command::Locations(args) => Box::pin(distinct::locations(args, flags, &output)).await,
        Command::Gallery(command) => Box::pin(gallery::run(*command, flags, &output)).await,
        Command::Registry(command) => Box::pin(registry::run(command, flags, &output)).await,
        Command::Changes(args) => changes::run(args, flags, &output).await,
        Command::Runs(command) => runs::run(command, flags, &output).await,
        Command::Doctor(args) => doctor::run(&args, flags, &output).await,
        Command::Serve(args) => serve::run(&args, flags).await,
        Command::Host(args) => host::run(args, flags).await,
        Command::Page(args) => page::run(args, flags).await,
        #[cfg(feature = "sim")]
        Command::Sim(args) => sim::run(args).await,
        Command::Package(args) => package::run(&args, &output),
        Command::Schema(args) => schema::run(&args, &output),
        Command::Config(command) => configured::run(&command, flags, &output),
        Command::Completions(args) => completion::run(&args),
        Command::Man(args) => manual::run(&args, &output),
    }
}

/// Sets up telemetry: JSON on stdout for the Functions host, text on stderr for people.
fn listen(config: &Config, global: &Global, command: &Command) -> TelemetryGuard {
    let is_handler = matches!(command, Command::Serve(_));
    let level = match (global.verbose, command.is_long_lived()) {
        _ if global.quiet => "error",
        (0, false) => "azimg=warn,error",
        (0, true) => "azimg=info,warn",
        (1, _) => "azimg=debug,warn",
        _ => "debug",
    };
    let asked = config.log().map(EnvFilter::try_new);
    let (filter, unread) = match asked {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (EnvFilter::new(level), Some(error)),
        None => (EnvFilter::new(level), None),
    };
    let lines = if is_handler { LogFormat::Json } else { LogFormat::Text };
    let (export, refused) = match config.export() {
        Ok(export) => (export, None),
        Err(error) => (Export::default(), Some(error)),
    };
    let listening = telemetry::init(lines, filter, !config.is_plain(), &export);
    if let Some(error) = refused {
        tracing::warn!(%error, "spans and counts are not exported");
    }
    if let Some(error) = unread {
        tracing::warn!(%error, "AZIMG_LOG is not a valid filter and is ignored");
    }
    for (name, meant) in Config::doubtful_variables() {
        tracing::warn!("{name} is not a setting and is ignored; did you mean {meant}?");
    }
    listening
}
