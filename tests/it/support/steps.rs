//! A store that does something before and after each of its steps: it fails now and then, or it lets
//! several futures go on in turns, step by step.

use async_trait::async_trait;
use azimg::error::{Error, Result};
use azimg::store::{Entry, Key, Object, Store, StoreClaim};
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

/// What happens around a step; an error ends it.
#[async_trait]
pub trait Around: Debug + Send + Sync {
    /// Before the step on `name`; what it answers is given to [`Around::after`].
    async fn before(&self, name: &str) -> Result<usize>;
    /// After the step has been done.
    async fn after(&self, step: usize) -> Result<()>;
}

/// A store whose every step has something around it.
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

/// A step on the store fails, now and then; what it was to do may have been done.
#[derive(Debug)]
pub struct Shaky {
    pub random: Mutex<StdRng>,
    /// The share of steps that fail.
    pub share: f64,
    /// How often each name was met; shared by all that work on one store.
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
        // What fails again and again is an outage, and an outage is seen in the coverage.
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

/// How many more steps a future may take, who waits for more, and who is to know that.
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
            // It may be a task of its own that waits.
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

    /// Whether somebody waits; whoever asks is woken when that may be another answer.
    fn is_shut(&self, racer: &Waker) -> bool {
        let (left, waiting, known) = &mut *self.0.lock().unwrap();
        *known = Some(racer.clone());
        *left == 0 && !waiting.is_empty()
    }
}

/// Where those who race wait for their turns; whoever comes without a race passes.
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

/// Who goes on, by its place among those that are left, for how many steps on the store, and whether it is
/// dropped then.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    pub who: usize,
    pub steps: usize,
    pub is_dropped: bool,
}

/// A future that takes its steps in turns with others.
pub type Racing<T> = Pin<Box<dyn Future<Output = T>>>;

/// Polls futures in turns that `next` decides from how many are left, until all have ended or were dropped:
/// what each ended with. `moment` is called between two turns.
pub async fn race<T>(
    futures: Vec<Racing<T>>,
    turns: &Turns,
    mut next: impl FnMut(usize) -> Turn,
    mut moment: impl FnMut(),
) -> Vec<Option<T>> {
    /// Whoever takes no step for so long waits for another.
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
