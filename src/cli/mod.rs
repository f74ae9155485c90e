//! The command line: one file per command. Data goes to stdout, everything else to stderr.

mod changes;
mod crawl;
mod doctor;
mod filter;
mod gallery;
mod host;
mod images;
mod output;
mod package;
mod progress;
mod registry;
mod runs;
mod schema;
mod serve;
#[cfg(feature = "sim")]
mod sim;

use crate::config::{Config, Flags};
use crate::error::{Error, ErrorKind, Result};
use crate::telemetry::{self, Lines, Listening};
use clap::{Args, CommandFactory, Parser, Subcommand};
use output::{Format, Output};
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// Exit codes: a contract with scripts.
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
struct Global {
    /// Where runs and snapshots are kept: a folder, <https://ACCOUNT.blob.core.windows.net/CONTAINER>,
    /// or azurite [default: ./azimg-data, or `AZIMG_STORE`]
    #[arg(long, global = true, value_name = "URL")]
    store: Option<String>,
    /// How to print [default: table on a terminal, json otherwise]
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
    /// A `JMESPath` query on the result, as in az
    #[arg(long, global = true, value_name = "JMESPATH")]
    query: Option<String>,
    /// Fields to print, separated by commas
    #[arg(long, global = true, value_delimiter = ',', value_name = "NAMES")]
    fields: Vec<String>,
    /// Log more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Print nothing but data and errors
    #[arg(long, global = true)]
    quiet: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Crawl, here and now, until the snapshot is published
    Crawl(crawl::CrawlArgs),
    /// Look images up
    #[command(subcommand)]
    Images(images::ImagesCommand),
    /// Compute Galleries: look them up, change, share and retire what is in them
    #[command(subcommand)]
    Gallery(gallery::GalleryCommand),
    /// Container registries: repositories, tags, manifests, their attributes
    #[command(subcommand)]
    Registry(registry::RegistryCommand),
    /// What changed since the snapshot before
    Changes(changes::ChangesArgs),
    /// Look after runs
    #[command(subcommand)]
    Runs(runs::RunsCommand),
    /// Look whether everything is there that a crawl needs: rights, storage, queues, clock, settings
    Doctor(doctor::DoctorArgs),
    /// The custom handler that the Functions host starts
    Serve(serve::ServeArgs),
    /// The embedded Functions host: timers, queues and HTTP on this machine
    Host(host::HostArgs),
    /// A simulated Azure, for tests and for trying things out
    #[cfg(feature = "sim")]
    Sim(sim::SimArgs),
    /// Write the deployable function app: a folder and a zip
    Package(package::PackageArgs),
    /// Print the JSON Schema of a record
    Schema(schema::SchemaArgs),
    /// Print a completion script for a shell
    #[command(after_help = "Examples:
  azimg completions bash > /etc/bash_completion.d/azimg
  azimg completions zsh > ~/.zfunc/_azimg")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let config = match Config::load(Flags::default()) {
        Ok(config) => config,
        Err(error) => return fail(&error),
    };
    // What is left to be told is told when this is dropped, when all else has ended.
    let _listening = listen(&config, &cli.global, &cli.command);
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(e) => return fail(&Error::bug("starting up").with_source(e)),
    };
    let result = runtime.block_on(run(cli));
    // What is still under way (a stopped host's work) is idempotent and not waited for.
    runtime.shutdown_background();
    match result {
        Ok(code) => code,
        Err(error) => fail(&error),
    }
}

fn fail(error: &Error) -> ExitCode {
    eprintln!("azimg: {error}");
    ExitCode::from(match error.kind() {
        ErrorKind::Invalid => WRONG_USAGE,
        ErrorKind::NotFound => NOT_FOUND,
        _ => FAILED,
    })
}

async fn run(cli: Cli) -> Result<ExitCode> {
    let Cli { global, command } = cli;
    let flags = Flags { store: global.store.clone(), ..Flags::default() };
    let output = Output::new(global.output, global.query.as_deref(), &global.fields, global.quiet)?;
    match command {
        Command::Crawl(args) => crawl::run(args, flags, &output).await,
        Command::Images(command) => images::run(command, flags, &output).await,
        Command::Gallery(command) => gallery::run(command, flags, &output).await,
        Command::Registry(command) => registry::run(command, flags, &output).await,
        Command::Changes(args) => changes::run(args, flags, &output).await,
        Command::Runs(command) => runs::run(command, flags, &output).await,
        Command::Doctor(args) => doctor::run(&args, flags, &output).await,
        Command::Serve(args) => serve::run(&args, flags).await,
        Command::Host(args) => host::run(args, flags).await,
        #[cfg(feature = "sim")]
        Command::Sim(args) => sim::run(args).await,
        Command::Package(args) => package::run(&args, &output),
        Command::Schema(args) => schema::run(&args, &output),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "azimg", &mut script);
            output::text(&String::from_utf8_lossy(&script))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Who hears what this command says: the handler's host reads JSON on stdout, people text on stderr.
fn listen(config: &Config, global: &Global, command: &Command) -> Listening {
    let is_handler = matches!(command, Command::Serve(_));
    let long_lived = is_handler || matches!(command, Command::Host(_));
    let level = match (global.verbose, long_lived) {
        _ if global.quiet => "error",
        (0, false) => "azimg=warn,error",
        (0, true) => "azimg=info,warn",
        (1, _) => "azimg=debug,warn",
        _ => "debug",
    };
    let filter = config.log().map_or_else(|| EnvFilter::new(level), EnvFilter::new);
    let lines = if is_handler { Lines::Json } else { Lines::Text };
    telemetry::listen(lines, filter, &config.export())
}
