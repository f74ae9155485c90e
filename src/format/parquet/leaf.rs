//! One column of a Parquet file as it is encoded: values that are there, and levels that tell where each belongs.

use bytes::Bytes;
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::{ParquetError, Result};

/// Levels that are handed to the encoder at once, give or take a row: what is made of values for it is as small.
const LEVELS: usize = 65_536;

/// Values of one type, in a row.
pub(super) enum Values {
    /// Texts, one behind the other, and where each ends.
    Texts(Vec<u8>, Vec<u32>),
    Flags(Vec<bool>),
    /// Counts, and whatever else has 32 bits.
    Halves(Vec<i32>),
    /// Sizes and moments, and whatever else has 64 bits.
    Longs(Vec<i64>),
}

impl Values {
    pub(super) fn texts() -> Self {
        Self::Texts(Vec::new(), Vec::new())
    }

    /// Adds a text. A column of another type takes none.
    pub(super) fn text(&mut self, value: &str) {
        if let Self::Texts(text, ends) = self {
            text.extend_from_slice(value.as_bytes());
            // A row group is written long before its texts have 4 GiB.
            ends.push(u32::try_from(text.len()).unwrap_or(u32::MAX));
        }
    }

    pub(super) fn flag(&mut self, value: bool) {
        if let Self::Flags(flags) = self {
            flags.push(value);
        }
    }

    /// A count is stored as the bits that it has: the file's schema says that it is without a sign.
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

/// A column: its values, and for each place in it the level down to which something is there, and the level at which
/// it repeats what came before (Dremel's, as the format has them).
pub(super) struct Leaf {
    pub(super) values: Values,
    defined: Vec<i16>,
    repeated: Vec<i16>,
    /// The level of a value that is there.
    deepest: i16,
    /// Whether one row may have several.
    repeats: bool,
}

impl Leaf {
    /// A column of single values; with `nullable` some of them may be missing.
    pub(super) fn single(values: Values, nullable: bool) -> Self {
        let deepest = i16::from(nullable);
        Self { values, defined: Vec::new(), repeated: Vec::new(), deepest, repeats: false }
    }

    /// A column with any number of values in a row; the format's reader may take each of them for missing where
    /// `nullable` is set.
    pub(super) fn repeated(values: Values, nullable: bool) -> Self {
        let deepest = 1 + i16::from(nullable);
        Self { values, defined: Vec::new(), repeated: Vec::new(), deepest, repeats: true }
    }

    /// Notes that a row's value was added, or is missing.
    pub(super) fn note(&mut self, is_there: bool) {
        self.defined.push(if is_there { self.deepest } else { 0 });
    }

    /// Notes how many values were added of a row.
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

    /// What it takes in memory, in bytes: values and levels.
    pub(super) fn bytes(&self) -> usize {
        let values = match &self.values {
            Values::Texts(text, ends) => text.len() + size_of_val(ends.as_slice()),
            Values::Flags(flags) => flags.len(),
            Values::Halves(counts) => size_of_val(counts.as_slice()),
            Values::Longs(longs) => size_of_val(longs.as_slice()),
        };
        values + size_of_val(self.defined.as_slice()) + size_of_val(self.repeated.as_slice())
    }

    /// Where parts of it begin and end that the encoder takes at once: a row is not divided.
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

    /// Hands all of it to the encoder, and is empty then.
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
                _ => return Err(ParquetError::General("a column of another type".to_owned())),
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
