//! The progress of a crawl: a bar on a terminal, otherwise a line every ten seconds.

use crate::functions::App;
use crate::sink::{self, say};
use crate::telemetry::awaited;
use crate::transfer::TransferProgress;
use crate::work::RunId;
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// The number of progress displays shown.
static SHOWN: AtomicUsize = AtomicUsize::new(0);

/// Whether a progress display is shown. It reports waits itself.
pub(super) fn is_shown() -> bool {
    SHOWN.load(Ordering::Relaxed) > 0
}

/// Counts as one progress display until it is dropped.
struct CountedProgress;

impl CountedProgress {
    fn one() -> Self {
        SHOWN.fetch_add(1, Ordering::Relaxed);
        sink::end_passing();
        Self
    }
}

impl Drop for CountedProgress {
    fn drop(&mut self) {
        SHOWN.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Waits longer than this are shown next to the progress.
const LONG_WAIT: Duration = Duration::from_secs(3);

/// The longest wait of at least [`LONG_WAIT`], formatted to follow the progress.
fn waiting() -> String {
    let wait = awaited::longest().filter(|(_, since)| *since >= LONG_WAIT);
    wait.map_or_else(String::new, |(what, since)| {
        format!(" · waiting {} s for {what}", since.as_secs())
    })
}

/// Shows the progress of a run on stderr until it is dropped.
pub(super) struct RunProgressBar {
    _counted: CountedProgress,
    task: tokio::task::JoinHandle<()>,
    bar: ProgressBar,
}

impl RunProgressBar {
    pub(super) fn start(app: &Arc<App>, run: RunId, quiet: bool) -> Self {
        let terminal = sink::stderr_is_terminal();
        let bar = if terminal && !quiet {
            ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr())
        } else {
            ProgressBar::hidden()
        };
        let style = ProgressStyle::with_template("{bar:12} {pos}/{len} shards · {wide_msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let (app, shown) = (Arc::clone(app), bar.clone());
        let task = tokio::spawn(async move {
            let mut state = State { started: Instant::now(), printed: Instant::now(), last: None };
            loop {
                tokio::time::sleep(Duration::from_millis(250)).await;
                state.tick(&app, run, &shown, terminal, quiet);
            }
        });
        Self { _counted: CountedProgress::one(), task, bar }
    }
}

impl Drop for RunProgressBar {
    fn drop(&mut self) {
        self.task.abort();
        self.bar.finish_and_clear();
    }
}

struct State {
    started: Instant,
    printed: Instant,
    last: Option<(Instant, u64, f64)>,
}

impl State {
    fn tick(&mut self, app: &App, run: RunId, bar: &ProgressBar, terminal: bool, quiet: bool) {
        let Some(progress) = app.progress.of(run) else { return };
        let requests = app.traffic.requests.load(Ordering::Relaxed);
        let waited = app.traffic.waits.until(Instant::now());
        let rate = self.rate(requests);
        let left = match (progress.ended, progress.known) {
            (0, _) => String::new(),
            (ended, known) if ended == known => " · publishing".to_owned(),
            (ended, known) => {
                let share = (known - ended) as f64 / ended as f64;
                let left = self.started.elapsed().mul_f64(share);
                format!(" · {} left", seconds(left))
            }
        };
        // A terminal cuts off the end of a wide message, so parts without information are left out.
        let waited = match waited.as_secs() {
            0 => String::new(),
            _ => format!(" · {} waited for quota", seconds(waited)),
        };
        let rows = progress.rows;
        let message = format!("{rows} images{left} · {rate:.0} requests/s{waited}{}", waiting());
        bar.set_length(progress.known as u64);
        bar.set_position(progress.ended as u64);
        bar.set_message(message.clone());
        if !terminal && !quiet && self.printed.elapsed() >= Duration::from_secs(10) {
            self.printed = Instant::now();
            say!("{}/{} shards · {message}", progress.ended, progress.known);
        }
    }

    /// Requests per second, smoothed over a few seconds.
    fn rate(&mut self, requests: u64) -> f64 {
        let now = Instant::now();
        let rate = match self.last {
            None => 0.0,
            Some((at, before, rate)) => {
                let span = now.duration_since(at).as_secs_f64().max(0.001);
                let fresh = requests.saturating_sub(before) as f64 / span;
                if rate == 0.0 { fresh } else { rate * 0.8 + fresh * 0.2 }
            }
        };
        self.last = Some((now, requests, rate));
        rate
    }
}

/// Shows the progress of a transfer in bytes until it is dropped.
pub(super) struct Bytes {
    _counted: CountedProgress,
    task: tokio::task::JoinHandle<()>,
    bar: ProgressBar,
}

impl Bytes {
    pub(super) fn show(moved: &TransferProgress, quiet: bool) -> Self {
        let moved = moved.clone();
        Self::follow(move || moved.bytes(), quiet)
    }

    /// Shows the number of bytes done and the total that `bytes` returns.
    pub(super) fn follow(bytes: impl Fn() -> (u64, u64) + Send + 'static, quiet: bool) -> Self {
        let terminal = sink::stderr_is_terminal();
        let bar = if terminal && !quiet {
            ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr())
        } else {
            ProgressBar::hidden()
        };
        let template = "{wide_bar} {bytes}/{total_bytes} · {bytes_per_sec} · {eta} left";
        let style = ProgressStyle::with_template(template);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let shown = bar.clone();
        let task = tokio::spawn(async move {
            let mut printed = Instant::now();
            loop {
                tokio::time::sleep(Duration::from_millis(200)).await;
                let (done, of) = bytes();
                shown.set_length(of);
                shown.set_position(done);
                if !terminal && !quiet && printed.elapsed() >= Duration::from_secs(10) {
                    printed = Instant::now();
                    say!("{} of {}", HumanBytes(done), HumanBytes(of));
                }
            }
        });
        Self { _counted: CountedProgress::one(), task, bar }
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        self.task.abort();
        self.bar.finish_and_clear();
    }
}

/// Formats a duration in whole seconds.
pub(super) fn seconds(span: Duration) -> String {
    humantime::format_duration(Duration::from_secs(span.as_secs())).to_string()
}
