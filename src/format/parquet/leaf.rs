//! A column of a Parquet file during encoding: the values that are present, and the levels that say
//! which row each belongs to.

use bytes::Bytes;
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::{ParquetError, Result};

/// Number of levels per batch for the encoder, extended to the end of a row. Bounds the size of
/// temporary values.
const LEVELS: usize = 65_536;

/// Values of one type.
pub(super) enum Values {
    /// The concatenated texts, and the end offset of each.
    Texts(Vec<u8>, Vec<u32>),
    Flags(Vec<bool>),
    /// Counts and other 32-bit values.
    Halves(Vec<i32>),
    /// Sizes, times and other 64-bit values.
    Longs(Vec<i64>),
}

impl Values {
    pub(super) fn texts() -> Self {
        Self::Texts(Vec::new(), Vec::new())
    }

    /// Adds a text. Ignored by the column has another type.
    pub(super) fn text(&mut self, value: &str) {
        if let Self::Texts(text, ends) = self {
            text.extend_from_slice(value.as_bytes());
            // A row group is written long before its texts reach 4 GiB.
            ends.push(u32::try_from(text.len()).unwrap_or(u32::MAX));
        }
    }

    pub(super) fn flag(&mut self, value: bool) {
        if let Self::Flags(flags) = self {
            flags.push(value);
        }
    }

    /// Adds a count. It is stored with its bits unchanged: the file's schema declares the column
    /// unsigned.
    pub(super) fn count(&mut self, value: u32) {
        if let Self::Halves(counts) = self {
            counts.push(value.cast_signed());
        }
    }

    pub(super) fn long(&mut self, value: i64) {
        if let Self::Longs(longs) = self {
            longs.push(value);
        }
    }
}

/// A column: its values, with a definition level and a repetition level for each entry (Dremel's
/// encoding, as Parquet defines it).
pub(super) struct Leaf {
    pub(super) values: Values,
    defined: Vec<i16>,
    repeated: Vec<i16>,
    /// The definition level of a value that is present.
    deepest: i16,
    /// Whether a row may have several values.
    repeats: bool,
}

impl Leaf {
    /// A column with one value per row. If `nullable`, values may be missing.
    pub(super) fn single(values: Values, nullable: bool) -> Self {
        let deepest = i16::from(nullable);
        Self { values, defined: Vec::new(), repeated: Vec::new(), deepest, repeats: false }
    }

    /// A column with any number of values per row. If `nullable`, the file's schema declares each
    /// value optional.
    pub(super) fn repeated(values: Values, nullable: bool) -> Self {
        let deepest = 1 + i16::from(nullable);
        Self { values, defined: Vec::new(), repeated: Vec::new(), deepest, repeats: true }
    }

    /// Records that a row's value was added or is missing.
    pub(super) fn note(&mut self, is_there: bool) {
        self.defined.push(if is_there { self.deepest } else { 0 });
    }

    /// Records the number of values that were added for a row.
    pub(super) fn note_all(&mut self, count: usize) {
        if count == 0 {
            self.defined.push(0);
            self.repeated.push(0);
        }
        for number in 0..count {
            self.defined.push(self.deepest);
            self.repeated.push(i16::from(number > 0));
        }
    }

    /// Size in memory of values and levels, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let values = match &self.values {
            Values::Texts(text, ends) => text.len() + size_of_val(ends.as_slice()),
            Values::Flags(flags) => flags.len(),
            Values::Halves(counts) => size_of_val(counts.as_slice()),
            Values::Longs(longs) => size_of_val(longs.as_slice()),
        };
        values + size_of_val(self.defined.as_slice()) + size_of_val(self.repeated.as_slice())
    }

    /// The ranges of levels to pass to the encoder in one batch. A row is never split.
    fn parts(&self) -> Vec<(usize, usize)> {
        let mut parts = Vec::new();
        let mut from = 0;
        while from < self.defined.len() {
            let mut to = (from + LEVELS).min(self.defined.len());
            while self.repeated.get(to).is_some_and(|level| *level > 0) {
                to += 1;
            }
            parts.push((from, to));
            from = to;
        }
        parts
    }

    /// Writes all values to the encoder, and clears the column.
    pub(super) fn write(&mut self, out: &mut ColumnWriter<'_>) -> Result<()> {
        let parts = self.parts();
        let defined = std::mem::take(&mut self.defined);
        let repeated = std::mem::take(&mut self.repeated);
        let mut at = 0;
        let texts = match &mut self.values {
            Values::Texts(text, _) => Bytes::from(std::mem::take(text)),
            _ => Bytes::new(),
        };
        for (from, to) in parts {
            let levels = &defined[from..to];
            let count = levels.iter().filter(|level| **level == self.deepest).count();
            let def = (self.deepest > 0).then_some(levels);
            let rep = self.repeats.then(|| &repeated[from..to]);
            let values = at..at + count;
            at += count;
            match (&self.values, &mut *out) {
                (Values::Texts(_, ends), ColumnWriter::ByteArrayColumnWriter(out)) => {
                    let end = |number: usize| ends[number] as usize;
                    let start = |number: usize| if number == 0 { 0 } else { end(number - 1) };
                    let value = |number| ByteArray::from(texts.slice(start(number)..end(number)));
                    out.write_batch(&values.map(value).collect::<Vec<_>>(), def, rep)?;
                }
                (Values::Flags(flags), ColumnWriter::BoolColumnWriter(out)) => {
                    out.write_batch(&flags[values], def, rep)?;
                }
                (Values::Halves(counts), ColumnWriter::Int32ColumnWriter(out)) => {
                    out.write_batch(&counts[values], def, rep)?;
                }
                (Values::Longs(longs), ColumnWriter::Int64ColumnWriter(out)) => {
                    out.write_batch(&longs[values], def, rep)?;
                }
                _ => return Err(ParquetError::General("the column has another type".to_owned())),
            }
        }
        match &mut self.values {
            Values::Texts(_, ends) => ends.clear(),
            Values::Flags(flags) => flags.clear(),
            Values::Halves(counts) => counts.clear(),
            Values::Longs(longs) => longs.clear(),
        }
        Ok(())
    }
}
