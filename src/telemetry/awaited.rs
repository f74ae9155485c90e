//! The waits of this process: code that waits for another party registers what for, so that a
//! command on a terminal can show a wait that takes long.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// All current waits, in the order in which they began.
static AWAITED: Mutex<Waits> = Mutex::new(Waits { begun: 0, under_way: BTreeMap::new() });

struct Waits {
    begun: u64,
    under_way: BTreeMap<u64, (Instant, Cow<'static, str>)>,
}

fn waits() -> MutexGuard<'static, Waits> {
    AWAITED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A registered wait; it ends when this is dropped.
#[derive(Debug)]
pub struct Wait(u64);

/// Registers a wait that begins now. `what` is the name of a server, or what has to arrive; it must
/// not contain any part of a URL that may hold a secret.
pub fn wait_for(what: impl Into<Cow<'static, str>>) -> Wait {
    let mut waits = waits();
    waits.begun += 1;
    let number = waits.begun;
    waits.under_way.insert(number, (Instant::now(), what.into()));
    Wait(number)
}

impl Drop for Wait {
    fn drop(&mut self) {
        waits().under_way.remove(&self.0);
    }
}

/// The wait that began first among the current ones, and its duration.
pub fn longest() -> Option<(String, Duration)> {
    let waits = waits();
    let (begun, what) = waits.under_way.values().next()?;
    Some((what.clone().into_owned(), begun.elapsed()))
}
