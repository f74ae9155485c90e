//! Streaming encoders and decoders. They do not know where the bytes are stored.

pub mod index;
pub mod ledger;
pub mod ndjson;
pub mod parquet;
pub mod plan;
pub mod shard;
pub mod toml_error;

/// Encodes bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
