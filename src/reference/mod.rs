//! References to images in code: how each language writes them.

pub mod snippets;
