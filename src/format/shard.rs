//! A shard: an item's outcome and its rows in one compressed object.
//!
//! The outcome comes first, so that the shard alone says what it is and how the item ended. When
//! two workers process one item, the first shard decides, and the other worker adopts its outcome.
//! The header carries the SHA-256 of the rows, so an altered shard is never merged.

use super::hex;
use crate::error::{Error, Result};
use crate::image::limits::ITEM;
use crate::work::{Outcome, WORK_VERSION};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io::{Read, Write};

/// The maximum size of an uncompressed shard in bytes. An item's rows are limited to [`ITEM`]; the
/// remaining 64 MiB are for the outcome.
const MOST_BYTES: usize = ITEM + (64 << 20);

#[derive(Serialize, Deserialize)]
struct Header<O> {
    v: u32,
    sha256: String,
    outcome: O,
}

/// Encodes a shard. Returns an error for one that [`decode`] would refuse.
pub fn encode<T: Serialize>(outcome: &Outcome, rows: &[T]) -> Result<Vec<u8>> {
    let bug = |e: std::io::Error| Error::bug("packing a shard").with_source(e);
    let mut body = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut body, row).map_err(|e| bug(e.into()))?;
        body.push(b'\n');
    }
    let header = Header { v: WORK_VERSION, sha256: hex(&Sha256::digest(&body)), outcome };
    let mut text = serde_json::to_vec(&header).map_err(|e| bug(e.into()))?;
    text.push(b'\n');
    text.append(&mut body);
    if text.len() > MOST_BYTES {
        let (bytes, most) = (text.len(), MOST_BYTES >> 20);
        return Err(Error::bug(format!(
            "the shard has {bytes} bytes, and the limit is {most} MiB"
        )));
    }
    // The zstd checksum covers the header, which has no hash of its own.
    let packed = zstd::Encoder::new(Vec::new(), 3).and_then(|mut encoder| {
        encoder.include_checksum(true)?;
        encoder.write_all(&text)?;
        encoder.finish()
    });
    packed.map_err(bug)
}

/// Decodes a shard into its outcome and rows. Errors call it `name`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], name: &str) -> Result<(Outcome, Vec<T>)> {
    let damaged = |why: &str| Error::corrupt(format!("{name}: {why}"));
    let mut text = Vec::new();
    zstd::Decoder::new(bytes)
        .and_then(|decoder| decoder.take(MOST_BYTES as u64 + 1).read_to_end(&mut text))
        .map_err(|e| damaged(&format!("truncated or damaged ({e})")))?;
    if text.len() > MOST_BYTES {
        return Err(damaged(&format!("exceeds {} MiB when unpacked", MOST_BYTES >> 20)));
    }
    let end = text.iter().position(|b| *b == b'\n').ok_or_else(|| damaged("has no header"))?;
    let (head, body) = (&text[..end], &text[end + 1..]);
    let header: Header<Outcome> = serde_json::from_slice(head).map_err(|e| {
        damaged(&format!("its header cannot be read by this version of azimg ({e})"))
    })?;
    if header.v != WORK_VERSION {
        return Err(damaged(&format!(
            "has version {}; this version of azimg reads version {WORK_VERSION}",
            header.v
        )));
    }
    if hex(&Sha256::digest(body)) != header.sha256 {
        return Err(damaged("its rows do not match their checksum"));
    }
    let rows = serde_json::Deserializer::from_slice(body)
        .into_iter()
        .collect::<Result<Vec<T>, _>>()
        .map_err(|e| damaged(&format!("a row cannot be read by this version of azimg ({e})")))?;
    Ok((header.outcome, rows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::marketplace::ListedVersion;
    use crate::work::{Scope, State};

    #[test]
    fn truncated_or_altered_shard_is_refused() {
        let scope = Scope::Publisher {
            location: "eastus".into(),
            subscription: "s".into(),
            otherwise: Vec::new(),
            publisher: "p".into(),
            known: None,
            details: crate::work::Details::None,
        };
        let outcome = Outcome::bare(scope, State::Done, "", 1);
        let rows: Vec<_> = (0..100)
            .map(|i| ListedVersion {
                offer: "o".into(),
                version: i.to_string(),
                ..ListedVersion::default()
            })
            .collect();
        let bytes = encode(&outcome, &rows).unwrap();
        assert_eq!(decode::<ListedVersion>(&bytes, "x").unwrap(), (outcome, rows));
        for end in 0..bytes.len() {
            assert!(decode::<ListedVersion>(&bytes[..end], "x").is_err(), "cut at {end}");
        }
        let text = zstd::decode_all(bytes.as_slice()).unwrap();
        let altered = String::from_utf8(text).unwrap().replace("\"42\"", "\"43\"");
        let altered = zstd::encode_all(altered.as_bytes(), 3).unwrap();
        let error = decode::<ListedVersion>(&altered, "x").unwrap_err();
        assert!(error.to_string().contains("do not match their checksum"));
    }
}
