//! Storage queues, with messages sent directly.

use super::{Endpoint, status, storage_error};
use crate::error::{Error, Result};
use azure_storage_queue::models::{
    QueueClientGetPropertiesResultHeaders, QueueClientSendMessageOptions, QueueMessage,
};
use azure_storage_queue::{QueueClient, QueueClientOptions};
use std::time::Duration;

/// The storage queues of one endpoint. Messages are sent directly, with a delay.
#[derive(Debug, Clone)]
pub struct AzureQueues {
    endpoint: Endpoint,
}

impl AzureQueues {
    /// The queues at `endpoint`.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }

    /// A client for the queue called `name`.
    pub fn queue(&self, name: &str) -> Result<QueueClient> {
        let url = self.endpoint.join(name)?;
        let options = QueueClientOptions {
            client_options: self.endpoint.client_options()?,
            ..QueueClientOptions::default()
        };
        QueueClient::new(url, self.endpoint.credential(), Some(options))
            .map_err(|e| storage_error(&name, &e))
    }

    /// Sends `text`, base64-encoded as the Functions host expects, visible after `delay` (at most 7
    /// days). Creates the queue if it does not exist.
    pub async fn send(&self, name: &str, text: &str, delay: Duration) -> Result<()> {
        let queue = self.queue(name)?;
        let message = QueueMessage { message_text: Some(azure_core::base64::encode(text)) };
        let seconds = i32::try_from(delay.as_secs()).unwrap_or(i32::MAX).min(7 * 24 * 3600);
        for first in [true, false] {
            let content = message
                .clone()
                .try_into()
                .map_err(|e: azure_core::Error| storage_error(&name, &e))?;
            let options = QueueClientSendMessageOptions {
                visibility_timeout: (seconds > 0).then_some(seconds),
                ..Default::default()
            };
            match queue.send_message(content, Some(options)).await {
                Ok(_) => return Ok(()),
                Err(e) if first && status(&e) == Some(404) => {
                    queue.create(None).await.map_err(|e| storage_error(&name, &e))?;
                }
                Err(e) => return Err(storage_error(&name, &e)),
            }
        }
        Err(Error::transient(format!("the queue {name} was created but does not exist yet")))
    }

    /// Creates a queue, sends a message, receives it, and deletes the queue. Tests every operation
    /// that functions and their host use.
    pub async fn try_out(&self, name: &str) -> Result<()> {
        let failed = |e: azure_core::Error| storage_error(&name, &e);
        self.send(name, "{}", Duration::ZERO).await?;
        let queue = self.queue(name)?;
        let taken = async {
            let messages = queue.receive_messages(None).await?.into_model()?;
            for message in messages.items.unwrap_or_default() {
                if let (Some(id), Some(receipt)) = (message.message_id, message.pop_receipt) {
                    queue.update_message(&id, &receipt, 1, None).await?;
                }
            }
            queue.delete(None).await
        };
        taken.await.map(|_| ()).map_err(failed)
    }

    /// The approximate number of messages in a queue. Zero if the queue does not exist.
    pub async fn waiting(&self, name: &str) -> Result<i64> {
        match self.queue(name)?.get_properties(None).await {
            Ok(properties) => properties
                .approximate_messages_count()
                .map(Option::unwrap_or_default)
                .map_err(|e| storage_error(&name, &e)),
            Err(e) if status(&e) == Some(404) => Ok(0),
            Err(e) => Err(storage_error(&name, &e)),
        }
    }
}
