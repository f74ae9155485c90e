//! What must be in no log, wherever it comes from: looked for in all that a test sees a program say.

/// The key of the emulator's account; a public constant, and yet a key.
const EMULATOR_KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq";

/// Fails when `text` has something in it that opens something.
pub fn assert_none(text: &str, whose: &str) {
    if let Some(secret) = first(text) {
        let at = text.lines().find(|line| line.contains(&secret)).unwrap_or(text);
        panic!("{whose} tells a secret ({secret}): {at}");
    }
}

/// Something in `text` that opens something.
pub fn first(text: &str) -> Option<String> {
    let after = |what: &str, length: usize| {
        text.match_indices(what).find_map(|(at, _)| {
            let rest = text[at + what.len()..].chars();
            let secret = |c: &char| c.is_ascii_alphanumeric() || "-_.+/=%".contains(*c);
            let value: String = rest.take_while(secret).collect();
            (value.len() >= length).then(|| format!("{what}{value}"))
        })
    };
    // A JSON Web Token, a SAS, what stands in front of tokens and keys in headers and forms.
    let found = [
        // Claims that a policy asks for begin alike, and have no parts.
        after("eyJ", 30).filter(|token| token.contains('.')),
        after("sig=", 8),
        after("Bearer ", 8),
        after("Basic ", 8),
        after("SharedKey ", 8),
        after("refresh_token=", 1),
        after("access_token=", 1),
        after("client_secret=", 1),
        after("AccountKey=", 1),
        text.contains(EMULATOR_KEY).then(|| "the emulator's key".to_owned()),
    ];
    found.into_iter().flatten().next()
}
