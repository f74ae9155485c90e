//! Storage queues as served by the Functions host (`QueueListener`, `QueueProcessor` in the source
//! of the Storage extension).

use super::invocations::trigger;
use super::{TestHost, envelope, outputs};
use crate::support::wait_until;
use azure_storage_queue::QueueClient;
use azure_storage_queue::models::{QueueClientReceiveMessagesOptions, ReceivedMessage};
use futures::stream::{FuturesUnordered, StreamExt};
use std::cell::Cell;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The lease of a message, in seconds. It is renewed while the function runs.
const LEASE: i32 = 600;
/// The interval at which the end of the work is checked.
const LOOK: Duration = Duration::from_millis(90);
/// The initial and the maximum polling interval of an empty queue.
const POLLING: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(800)];

/// Deletes a message, unless it was received again since: `QueueProcessor.DeleteMessageAsync`
/// ignores a missing message and another receipt. A storage that stays busy is no failure of the
/// invocation either: the host logs it, and the message is delivered again after its lease.
async fn delete(client: &QueueClient, id: &str, receipt: &str) {
    if let Err(error) = client.delete_message(id, receipt, None).await {
        delivered_again("deleted", id, &error);
    }
}

/// Reports that a message will be delivered again, unless it already was. A request that the
/// service refuses for any other reason is an error of the test.
fn delivered_again(change: &str, id: &str, error: &azure_core::Error) {
    let text = error.to_string();
    if text.contains("MessageNotFound") || text.contains("PopReceiptMismatch") {
        return;
    }
    let status = error.http_status().map_or(503, u16::from);
    assert!(status >= 500, "a message cannot be {change}: {text}");
    eprintln!("message {id} cannot be {change}, and is delivered again: {text}");
}

impl TestHost {
    /// Serves all queues until `done` returns true, then waits for invocations under way.
    pub async fn serve_until(&self, done: impl AsyncFn() -> bool) {
        let stop = Cell::new(false);
        let watch = async {
            wait_until("the end of the work", async || {
                tokio::time::sleep(LOOK).await;
                done().await
            })
            .await;
            stop.set(true);
        };
        let functions =
            ["crawl", "poison", "publish", "fail"].into_iter().filter(|name| self.runs(name));
        let listeners = functions.map(|name| self.listen(name, &stop));
        futures::join!(watch, futures::future::join_all(listeners));
    }

    /// The listener of a function: fetches a batch whenever no more messages than the threshold are
    /// being handled.
    async fn listen(&self, name: &str, stop: &Cell<bool>) {
        let batch = self.setting("extensions.queues.batchSize").as_u64().unwrap();
        let threshold = self.setting("extensions.queues.newBatchThreshold").as_u64().unwrap();
        let mut under_way = FuturesUnordered::new();
        let mut pause = POLLING[0];
        while !stop.get() {
            if under_way.len() as u64 > threshold {
                under_way.next().await;
                continue;
            }
            let messages = self.receive(name, batch).await;
            let none = messages.is_empty();
            under_way.extend(messages.into_iter().map(|message| self.deliver(name, message)));
            if !none {
                pause = POLLING[0];
                continue;
            }
            let polled = tokio::time::sleep(pause);
            pause = (pause * 2).min(POLLING[1]);
            tokio::pin!(polled);
            loop {
                tokio::select! {
                    () = &mut polled => break,
                    Some(()) = under_way.next(), if !under_way.is_empty() => {}
                }
            }
        }
        while under_way.next().await.is_some() {}
    }

    /// Handles one batch of a function's queue. Returns the number of messages.
    pub async fn serve(&self, name: &str) -> usize {
        self.serve_as(name, 0).await
    }

    /// The same, as if each message had been received `before` times already.
    pub async fn serve_as(&self, name: &str, before: i64) -> usize {
        let mut messages = self.receive(name, 32).await;
        for message in &mut messages {
            message.dequeue_count = message.dequeue_count.map(|count| count + before);
        }
        let count = messages.len();
        futures::future::join_all(messages.into_iter().map(|m| self.deliver(name, m))).await;
        count
    }

    fn queue_of(&self, name: &str) -> String {
        let function = self.function(name);
        let bindings = function["bindings"].as_array().unwrap();
        let queue = bindings.iter().find(|binding| binding["type"] == "queueTrigger").unwrap();
        queue["queueName"].as_str().unwrap().to_owned()
    }

    async fn receive(&self, name: &str, most: u64) -> Vec<ReceivedMessage> {
        if self.is_killed.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let client = self.queues.queue(&self.queue_of(name)).unwrap();
        let options = QueueClientReceiveMessagesOptions {
            number_of_messages: Some(i32::try_from(most.min(32)).unwrap()),
            visibility_timeout: Some(LEASE),
            ..Default::default()
        };
        match client.receive_messages(Some(options)).await {
            Ok(response) => response.into_model().unwrap().items.unwrap_or_default(),
            // The queue is created with its first message.
            Err(_) => Vec::new(),
        }
    }

    /// Handles one delivery. A message that cannot be decoded, or fails for the last time, moves to
    /// the poison queue. A poison queue has no poison queue of its own: a message that fails there
    /// stays invisible until its lease ends, and one that was received too often is skipped.
    async fn deliver(&self, name: &str, message: ReceivedMessage) {
        let queue = self.queue_of(name);
        let (id, receipt) = (message.message_id.unwrap(), message.pop_receipt.unwrap());
        let count = message.dequeue_count.unwrap();
        if count > 1 {
            self.redelivered.fetch_add(1, Ordering::Relaxed);
        }
        let client = self.queues.queue(&queue).unwrap();
        let encoded = message.message_text.unwrap();
        let bytes = azure_core::base64::decode(&encoded).ok();
        let Some(text) = bytes.and_then(|bytes| String::from_utf8(bytes).ok()) else {
            self.send_raw(&format!("{queue}-poison"), &encoded).await;
            delete(&client, &id, &receipt).await;
            return;
        };
        let most = self.setting("extensions.queues.maxDequeueCount").as_i64().unwrap();
        let has_poison = !queue.ends_with("-poison");
        if count > most {
            // Not invoked again: the worker of its last delivery died.
            if has_poison {
                self.poison(&client, &queue, &text, (&id, &receipt)).await;
            }
            return;
        }
        let binding = trigger(&self.function(name), "queueTrigger");
        let envelope = envelope::queue(name, &binding, &text, count, (&id, &receipt));
        let _last = if count == most { Some(self.last_deliveries.read().await) } else { None };
        self.under_way.lock().unwrap().insert(id.clone());
        let ended = self.invoke(name, &envelope).await;
        self.under_way.lock().unwrap().remove(&id);
        let Err(error) = ended else {
            delete(&client, &id, &receipt).await;
            return;
        };
        self.failed.lock().unwrap().push(format!("{name}: {error}"));
        if !has_poison {
            return;
        }
        if count < most {
            let again = super::seconds(&self.setting("extensions.queues.visibilityTimeout"));
            let again = i32::try_from(again.as_secs()).unwrap();
            if let Err(error) = client.update_message(&id, &receipt, again, None).await {
                delivered_again("released", &id, &error);
            }
            return;
        }
        self.poison(&client, &queue, &text, (&id, &receipt)).await;
    }

    /// Moves a message to its poison queue: it is deleted only after it was written there.
    async fn poison(
        &self,
        client: &QueueClient,
        queue: &str,
        text: &str,
        (id, receipt): (&str, &str),
    ) {
        match self.queues.send(&format!("{queue}-poison"), text, Duration::ZERO).await {
            Ok(()) => delete(client, id, receipt).await,
            Err(error) => eprintln!("message {id} is delivered again: {error}"),
        }
    }

    /// Sends the messages of an output one by one, as the real host does. What the real host would
    /// mangle is an error.
    pub(super) async fn put_out(
        &self,
        name: &str,
        queue: &str,
        value: &serde_json::Value,
    ) -> Result<(), String> {
        let texts = outputs::messages(value)?;
        assert!(texts.len() <= 3_000, "{name}: {} messages at once", texts.len());
        let texts: Vec<String> =
            texts.into_iter().map(|text| String::from_utf8(text).unwrap()).collect();
        if let serde_json::Value::Array(meant) = value {
            assert!(meant.iter().zip(&texts).all(|(meant, text)| meant == text), "{name}: mangled");
        } else {
            panic!("{name}: the output to {queue} is no array");
        }
        for batch in texts.chunks(16) {
            let sends = batch.iter().flat_map(|text| (self.on_the_way)(queue, text)).map(|text| {
                assert!(text.len() <= 48 << 10, "{name}: a message of {} bytes", text.len());
                async move { self.queues.send(queue, &text, Duration::ZERO).await }
            });
            futures::future::try_join_all(sends).await.map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// Invokes a queue-triggered function with a text, without the queue.
    pub async fn hand_over(&self, name: &str, text: &str) -> Result<(), String> {
        let binding = trigger(&self.function(name), "queueTrigger");
        let envelope = envelope::queue(name, &binding, text, 1, ("id", "receipt"));
        self.invoke(name, &envelope).await.map(drop)
    }

    /// Puts a message into a queue.
    pub async fn send(&self, queue: &str, text: &str) {
        self.queues.send(queue, text, Duration::ZERO).await.unwrap();
    }

    /// Puts a text into a queue without encoding it.
    pub async fn send_raw(&self, queue: &str, text: &str) {
        let message =
            azure_storage_queue::models::QueueMessage { message_text: Some(text.to_owned()) };
        let client = self.queues.queue(queue).unwrap();
        let _ = client.create(None).await;
        client.send_message(message.try_into().unwrap(), None).await.unwrap();
    }
}
