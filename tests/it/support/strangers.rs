//! Hostile texts that anybody may put into a name, a tag, a description or an error, generated from
//! a seed.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::LazyLock;

/// Sequences that a terminal, a spreadsheet, a log or a reader would misinterpret.
const PIECES: [&str; 46] = [
    "\u{1b}]0;taken over\u{7}",
    "\u{1b}]2;taken over\u{1b}\\",
    "\u{1b}]8;;http://evil.example\u{1b}\\click\u{1b}]8;;\u{1b}\\",
    "\u{1b}]52;c;ZXZpbA==\u{7}",
    "\u{1b}[2J\u{1b}[H",
    "\u{1b}[31m",
    "\u{1b}[1A\u{1b}[2K",
    "\u{1b}[?1049h",
    "\u{1b}[6n",
    "\u{1b}c",
    "\u{1b}P+q544e\u{1b}\\",
    "\u{1b}",
    "\u{9b}2J",
    "\u{9d}0;taken over\u{9c}",
    "\u{90}x\u{9c}",
    "\u{85}",
    "\u{84}",
    "\u{7f}",
    "\u{0}",
    "\u{7}",
    "\u{8}\u{8}\u{8}",
    "\u{b}",
    "\u{c}",
    "\u{e}",
    "\r",
    "\n",
    "\r\n",
    "\t",
    "\n2026-01-01T00:00:00Z  INFO published",
    "\n{\"level\":\"INFO\",\"fields\":{\"message\":\"published\"}}\n",
    "\u{202e}gpj.exe",
    "\u{202a}\u{202d}\u{2066}\u{2069}",
    "\u{200e}\u{200f}\u{61c}",
    "\u{2028}\u{2029}",
    "\u{200b}\u{200d}\u{feff}",
    "\u{e0041}\u{e007f}",
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "=cmd|' /C calc'!A0",
    "\"",
    "\"\"\"",
    "',;|",
    "\\u{1b}\\n",
    "<script>alert(1)</script>",
];

/// `count` distinct texts, each of one to four pieces with words between them. A few are 100 KB
/// long.
pub fn texts(seed: u64, count: usize) -> Vec<String> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut text = |number: usize| {
        let mut text = String::new();
        for _ in 0..random.random_range(1..5) {
            text.push_str(PIECES[random.random_range(0..PIECES.len())]);
            if random.random_bool(0.5) {
                text.push_str("word");
            }
        }
        if number % (count / 8).max(50) == 49 {
            text = text.repeat((100 << 10) / text.len());
        }
        // The number is a suffix: in front, it would hide a formula.
        format!("{text}{number}")
    };
    (0..count).map(&mut text).collect()
}

/// The texts used by this process.
pub static TEXTS: LazyLock<Vec<String>> = LazyLock::new(|| texts(18, 10_000));
/// A few further texts, none of them long.
pub static FEW: LazyLock<Vec<String>> = LazyLock::new(|| texts(19, 49));
