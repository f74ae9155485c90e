//! What is being waited for, here and now: whoever waits for somebody else says so, and whoever sits before a terminal
//! is told when it takes long.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// All that is being waited for, in the order in which it began.
static AWAITED: Mutex<Waits> = Mutex::new(Waits { begun: 0, under_way: BTreeMap::new() });

struct Waits {
    begun: u64,
    under_way: BTreeMap<u64, (Instant, Cow<'static, str>)>,
}

fn waits() -> MutexGuard<'static, Waits> {
    AWAITED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A wait; it is over when this is dropped.
#[derive(Debug)]
pub struct Wait(u64);

/// Something is waited for from now on: the name of a server, or what it is that has to come. No part of an address
/// that may hold a secret.
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

/// What has been waited for the longest, and since how long.
pub fn longest() -> Option<(String, Duration)> {
    let waits = waits();
    let (begun, what) = waits.under_way.values().next()?;
    Some((what.clone().into_owned(), begun.elapsed()))
}
