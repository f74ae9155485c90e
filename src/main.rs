//! The executable; every role is a subcommand.

fn main() -> std::process::ExitCode {
    azimg::main()
}
