//! A store with a hook before and after each operation ("step"). The hook injects failures, or lets
//! several futures proceed in turns, step by step.

use async_trait::async_trait;
use azimg::testing::error::{Error, Result};
use azimg::testing::store::{Entry, Key, Object, Store, StoreClaim};
use bytes::Bytes;
use rand::RngExt;
use rand::rngs::StdRng;
use std::collections::HashMap;
use std::fmt::Debug;
use std::future::poll_fn;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

/// The hook around a step. An error ends the step.
#[async_trait]
pub trait Around: Debug + Send + Sync {
    /// Called before the step on `name`. Its result is passed to [`Around::after`].
    async fn before(&self, name: &str) -> Result<usize>;
    /// Called after the step.
    async fn after(&self, step: usize) -> Result<()>;
}

/// A store with a hook around every step.
#[derive(Debug)]
pub struct Stepped<A> {
    pub inner: Arc<dyn Store>,
    pub around: A,
}

impl<A: Around> Stepped<A> {
    async fn step<T>(&self, name: &str, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let step = self.around.before(name).await?;
        let result = work.await;
        self.around.after(step).await?;
        result
    }
}

#[async_trait]
impl<A: Around> Store for Stepped<A> {
    fn address(&self) -> String {
        self.inner.address()
    }
    async fn prepare(&self) -> Result<()> {
        self.step("", self.inner.prepare()).await
    }
    async fn get(&self, key: &Key) -> Result<Option<Object>> {
        self.step(&key.to_string(), self.inner.get(key)).await
    }
    async fn download(&self, key: &Key, into: &Path) -> Result<bool> {
        self.step(&key.to_string(), self.inner.download(key, into)).await
    }
    async fn create(&self, key: &Key, bytes: Bytes) -> Result<bool> {
        self.step(&key.to_string(), self.inner.create(key, bytes)).await
    }
    async fn swap(&self, key: &Key, bytes: Bytes, expected: Option<&str>) -> Result<bool> {
        self.step(&key.to_string(), self.inner.swap(key, bytes, expected)).await
    }
    async fn upload(&self, key: &Key, from: &Path) -> Result<()> {
        self.step(&key.to_string(), self.inner.upload(key, from)).await
    }
    async fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        self.step(prefix, self.inner.list(prefix)).await
    }
    async fn list_level(&self, prefix: &str) -> Result<Vec<String>> {
        self.step(prefix, self.inner.list_level(prefix)).await
    }
    async fn delete(&self, name: &str) -> Result<()> {
        self.step(name, self.inner.delete(name)).await
    }
    async fn claim(&self) -> Result<StoreClaim> {
        self.inner.claim().await
    }
}

/// Fails some steps of the store. The step may have been done all the same.
#[derive(Debug)]
pub struct Shaky {
    pub random: Mutex<StdRng>,
    /// The fraction of steps that fail.
    pub share: f64,
    /// How often each name was used. Shared by all users of one store.
    pub met: Arc<Mutex<HashMap<String, u32>>>,
}

impl Shaky {
    fn fails(&self) -> Result<()> {
        if self.random.lock().unwrap().random_bool(self.share) {
            return Err(Error::transient("the store is busy"));
        }
        Ok(())
    }
}

#[async_trait]
impl Around for Shaky {
    async fn before(&self, name: &str) -> Result<usize> {
        let late = self.random.lock().unwrap().random_range(0..60);
        tokio::time::sleep(Duration::from_millis(late)).await;
        // Repeated failures would be an outage, which shows in the coverage.
        let met = {
            let mut met = self.met.lock().unwrap();
            let times = met.entry(name.to_owned()).or_default();
            *times += 1;
            *times
        };
        if met <= 2 {
            self.fails()?;
        }
        Ok(usize::try_from(met).unwrap())
    }

    async fn after(&self, met: usize) -> Result<()> {
        let late = self.random.lock().unwrap().random_range(0..20);
        tokio::time::sleep(Duration::from_millis(late)).await;
        if met <= 2 { self.fails() } else { Ok(()) }
    }
}

/// The number of further steps that a future may take, the wakers of its waiting steps, and the
/// waker of the race.
#[derive(Debug, Default)]
struct Gate(Mutex<(usize, Vec<Waker>, Option<Waker>)>);

impl Gate {
    async fn pass(&self) {
        poll_fn(|context| {
            let (left, waiting, racer) = &mut *self.0.lock().unwrap();
            if *left > 0 {
                *left -= 1;
                return Poll::Ready(());
            }
            waiting.push(context.waker().clone());
            // The step may wait in a task of its own, so the race is woken explicitly.
            racer.iter().for_each(Waker::wake_by_ref);
            Poll::Pending
        })
        .await;
    }

    fn open_for(&self, steps: usize) {
        let (left, waiting, _) = &mut *self.0.lock().unwrap();
        *left = steps;
        waiting.drain(..).for_each(Waker::wake);
    }

    /// Whether a step waits. `racer` is woken when the answer may change.
    fn is_shut(&self, racer: &Waker) -> bool {
        let (left, waiting, known) = &mut *self.0.lock().unwrap();
        *known = Some(racer.clone());
        *left == 0 && !waiting.is_empty()
    }
}

/// The gate at which racing futures wait for their turns. Without a race, it is open.
#[derive(Debug, Default)]
pub struct Turns(Mutex<Option<Arc<Gate>>>);

impl Turns {
    pub async fn wait(&self) {
        let gate = self.0.lock().unwrap().clone();
        if let Some(gate) = gate {
            gate.pass().await;
        }
    }
}

/// The future that proceeds, by its index among the remaining ones, for how many steps on the
/// store, and whether it is dropped afterwards.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    pub who: usize,
    pub steps: usize,
    pub is_dropped: bool,
}

/// A future that takes its steps in turns with others.
pub type Racing<T> = Pin<Box<dyn Future<Output = T>>>;

/// Polls futures in turns until all have ended or were dropped, and returns their outputs. `next`
/// chooses a turn from the number of remaining futures. `moment` is called after each turn.
pub async fn race<T>(
    futures: Vec<Racing<T>>,
    turns: &Turns,
    mut next: impl FnMut(usize) -> Turn,
    mut moment: impl FnMut(),
) -> Vec<Option<T>> {
    /// A future that takes no step for this long waits for another one.
    const PATIENCE: Duration = Duration::from_secs(90);
    let mut ended: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    let mut open: Vec<_> =
        futures.into_iter().enumerate().map(|(n, f)| (n, f, Arc::default())).collect();
    for turn in 0.. {
        if open.is_empty() {
            break;
        }
        assert!(turn < 100_000, "they go round without an end");
        let Turn { who, steps, is_dropped } = next(open.len());
        let (number, future, gate): &mut (usize, Racing<T>, Arc<Gate>) = &mut open[who];
        gate.open_for(steps);
        *turns.0.lock().unwrap() = Some(Arc::clone(gate));
        let polled = poll_fn(|context| match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if gate.is_shut(context.waker()) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        });
        let polled = tokio::time::timeout(PATIENCE, polled).await;
        *turns.0.lock().unwrap() = None;
        moment();
        let output = polled.ok().flatten();
        if output.is_some() || is_dropped {
            ended[*number] = output;
            drop(open.remove(who));
        }
    }
    ended
}
