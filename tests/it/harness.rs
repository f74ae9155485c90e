//! What runs the tests of this folder. It has the flags and the output of the standard harness (by
//! `libtest-mimic`), and what that cannot do: a test names what it needs beside the executable and is left out
//! where nobody asked for that, and it is said at the end what was left out and what took longest.

use crate::support::needs::{self, Asked, Need};
use libtest_mimic::{Arguments, Failed, Trial};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What takes longer names its reason where it is listed.
const LONG: Duration = Duration::from_mins(1);
/// So many of the slowest are named.
const SLOWEST: usize = 10;

/// A test: its name, what it runs, what it needs, and why it may take longer than a minute.
#[derive(Clone, Copy)]
pub struct Case {
    path: &'static str,
    run: fn(),
    needs: &'static [Need],
    slow: Option<&'static str>,
}

impl Case {
    pub const fn new(path: &'static str, run: fn()) -> Self {
        Self { path, run, needs: &[], slow: None }
    }

    /// It runs only where these were asked for.
    pub const fn needs(self, needs: &'static [Need]) -> Self {
        Self { needs, ..self }
    }

    /// It takes longer than a minute, for this reason; it is begun before the others.
    pub const fn slow(self, reason: &'static str) -> Self {
        Self { slow: Some(reason), ..self }
    }

    /// `file::test`.
    fn name(&self) -> &'static str {
        self.path.strip_prefix("it::").unwrap_or(self.path)
    }

    fn is_selected(&self, arguments: &Arguments) -> bool {
        let name = self.name();
        let fits = |filter: &String| {
            if arguments.exact { name == filter } else { name.contains(filter.as_str()) }
        };
        arguments.filter.as_ref().is_none_or(fits) && !arguments.skip.iter().any(fits)
    }
}

/// The tests of a file, each with what it needs: `name, name needs [Azurite] slow "why",`. A function
/// that is not named here is dead code, which the lints refuse.
#[macro_export]
macro_rules! tests {
    ($($name:ident $(needs [$($need:ident),+])? $(slow $reason:literal)?),+ $(,)?) => {
        pub const TESTS: &[$crate::harness::Case] = &[$(
            $crate::harness::Case::new(
                concat!(module_path!(), "::", stringify!($name)), $name)
                $(.needs(&[$($crate::support::needs::Need::$need),+]))?
                $(.slow($reason))?
        ),+];
    };
}

/// How long each test took.
static TOOK: Mutex<Vec<(&str, Duration, bool)>> = Mutex::new(Vec::new());

fn perform(case: Case) -> Result<(), Failed> {
    needs::assert_ready(case.needs)?;
    let began = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(case.run));
    TOOK.lock().unwrap().push((case.name(), began.elapsed(), case.slow.is_some()));
    // What it said stands above, with the place.
    result.map_err(|_| Failed::from("it panicked"))
}

/// Runs what the command line selects of `files`.
pub fn run(files: &[&[Case]]) -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Most tests wait most of the time: for a process, a disk, a moment that somebody is told to come back.
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    arguments.test_threads.get_or_insert(2 * processors);
    let asked = match Asked::from_environment() {
        Ok(asked) => asked,
        Err(wrong) => {
            eprintln!("{wrong}");
            return ExitCode::from(2);
        }
    };
    tempfile::env::override_temp_dir(&crate::support::temporary()).expect("it is the first to say");
    let mut cases: Vec<Case> = files.iter().copied().flatten().copied().collect();
    cases.sort_by_key(|case| (case.slow.is_none(), case.name()));
    let selected = || cases.iter().filter(|case| case.is_selected(&arguments));
    let runs = |case: &&Case| case.needs.iter().all(|need| asked.has(*need));
    if !arguments.list {
        needs::prepare(selected().filter(runs).flat_map(|case| case.needs));
    }
    let trials = cases.iter().map(|case| {
        let case = *case;
        Trial::test(case.name(), move || perform(case)).with_ignored_flag(!runs(&&case))
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    if !arguments.list {
        say_slowest();
        say_left_out(selected().filter(|case| !runs(case)), &asked);
    }
    conclusion.exit_code()
}

/// Names the slowest, and whoever takes over a minute without a reason.
fn say_slowest() {
    let mut took = TOOK.lock().unwrap();
    took.sort_by_key(|(_, took, _)| std::cmp::Reverse(*took));
    if took.len() > 2 * SLOWEST {
        println!("the slowest tests, in seconds:");
        for (name, took, _) in took.iter().take(SLOWEST) {
            println!("{:>8.1}  {name}", took.as_secs_f64());
        }
        println!();
    }
    for (name, _, _) in took.iter().filter(|(_, took, reasoned)| *took > LONG && !reasoned) {
        println!("{name} took over a minute, and tests! has no reason for it\n");
    }
}

/// Says what did not run, and how it would.
fn say_left_out<'a>(left_out: impl Iterator<Item = &'a Case>, asked: &Asked) {
    let mut counts: BTreeMap<Need, usize> = BTreeMap::new();
    for need in left_out.flat_map(|case| case.needs).filter(|need| !asked.has(**need)) {
        *counts.entry(*need).or_default() += 1;
    }
    if counts.is_empty() {
        return;
    }
    println!("left out, with the number of tests:");
    for (need, count) in &counts {
        println!("{count:>8}  {:<14}{}", need.name(), need.what());
    }
    println!("\n{}", needs::HOW);
}
