//! Newline-delimited JSON, compressed with zstd, with a checksum at the end of the stream.

use crate::error::{Error, Result};
use crate::files;
use crate::image::limits::ROW;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::marker::PhantomData;
use std::path::Path;

/// zstd's default level. Above it, smaller files cost more time than they save.
const LEVEL: i32 = 3;

/// The maximum length of a line in bytes, including its newline. Longer lines are refused by reader
/// and writer.
const LONGEST_ROW: usize = ROW + 1;

/// Writes rows to a file.
pub struct Writer {
    out: zstd::Encoder<'static, BufWriter<File>>,
    name: String,
    rows: u64,
    line: Vec<u8>,
}

impl Writer {
    /// Creates the file.
    pub fn create(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let io = |e| Error::io(format!("writing {name}"), e);
        let file = files::create(path).map_err(io)?;
        let mut out = zstd::Encoder::new(BufWriter::new(file), LEVEL).map_err(io)?;
        out.include_checksum(true).map_err(io)?;
        Ok(Self { out, name, rows: 0, line: Vec::new() })
    }

    /// Adds one row. Refuses a row that the reader would refuse: callers cut rows to size first
    /// ([`crate::image::limits`]).
    pub fn write(&mut self, row: &impl Serialize) -> Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, row)
            .map_err(|e| Error::bug(format!("writing {}", self.name)).with_source(e))?;
        self.line.push(b'\n');
        let bytes = self.line.len();
        if bytes > LONGEST_ROW {
            let text =
                format!("{}: a row of {bytes} bytes exceeds the limit of {LONGEST_ROW}", self.name);
            return Err(Error::bug(text));
        }
        self.out
            .write_all(&self.line)
            .map_err(|e| Error::io(format!("writing {}", self.name), e))?;
        self.rows += 1;
        Ok(())
    }

    /// Completes the file and returns the number of rows.
    pub fn finish(self) -> Result<u64> {
        let io = |e| Error::io(format!("writing {}", self.name), e);
        self.out.finish().and_then(|mut out| out.flush()).map_err(io)?;
        Ok(self.rows)
    }
}

/// Reads rows one by one. A truncated or altered stream always ends in an error.
pub struct Reader<R: Read, T> {
    lines: BufReader<zstd::Decoder<'static, BufReader<R>>>,
    name: String,
    line: Vec<u8>,
    row: PhantomData<fn() -> T>,
}

impl<R: Read, T: DeserializeOwned> Reader<R, T> {
    /// Reads from `bytes`. Errors call the stream `name`.
    pub fn new(bytes: R, name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        let decoder =
            zstd::Decoder::new(bytes).map_err(|e| Error::corrupt(format!("{name}: {e}")))?;
        Ok(Self { lines: BufReader::new(decoder), name, line: Vec::new(), row: PhantomData })
    }

    /// Returns the bytes of the next row, without the newline.
    pub fn next_line(&mut self) -> Result<Option<&[u8]>> {
        self.line.clear();
        let read = (&mut self.lines)
            .take(LONGEST_ROW as u64)
            .read_until(b'\n', &mut self.line)
            .map_err(|e| Error::corrupt(format!("{}: truncated or damaged ({e})", self.name)))?;
        if read == 0 {
            return Ok(None);
        }
        if self.line.pop() != Some(b'\n') {
            return Err(Error::corrupt(format!("{}: truncated within a row", self.name)));
        }
        Ok(Some(&self.line))
    }
}

impl<R: Read, T: DeserializeOwned> Iterator for Reader<R, T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        let name = self.name.clone();
        match self.next_line() {
            Ok(None) => None,
            Ok(Some(line)) => Some(serde_json::from_slice(line).map_err(|e| {
                Error::corrupt(format!(
                    "{name}: a row cannot be read by this version of azimg ({e})"
                ))
            })),
            Err(error) => Some(Err(error)),
        }
    }
}

/// Opens a file of rows.
pub fn open<T: DeserializeOwned>(path: &Path) -> Result<Reader<File, T>> {
    let file = File::open(path).map_err(|e| Error::io(path.display(), e))?;
    Reader::new(file, path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oversized_row_is_refused_and_written_rows_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.ndjson.zst");
        let mut writer = Writer::create(&path).unwrap();
        let longest = "a".repeat(ROW - 2);
        writer.write(&longest).unwrap();
        let error = writer.write(&"a".repeat(ROW - 1)).unwrap_err();
        assert!(error.to_string().contains("a row of 1048578 bytes"), "{error}");
        writer.write(&"b").unwrap();
        assert_eq!(writer.finish().unwrap(), 2);
        let read: Result<Vec<String>> = open(&path).unwrap().collect();
        assert_eq!(read.unwrap(), [longest, "b".to_owned()]);
    }
}
