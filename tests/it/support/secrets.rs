//! Secrets that must not be in any output. Everything that a test sees of a program is searched for
//! them.

/// The key of the emulator's account. It is a public constant, but still a key.
const EMULATOR_KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq";

/// Fails if `text` contains a secret.
pub fn assert_none(text: &str, whose: &str) {
    if let Some(secret) = first(text) {
        let at = text.lines().find(|line| line.contains(&secret)).unwrap_or(text);
        panic!("{whose} tells a secret ({secret}): {at}");
    }
}

/// The first secret in `text`.
pub fn first(text: &str) -> Option<String> {
    let after = |what: &str, length: usize| {
        text.match_indices(what).find_map(|(at, _)| {
            let rest = text[at + what.len()..].chars();
            let secret = |c: &char| c.is_ascii_alphanumeric() || "-_.+/=%".contains(*c);
            let value: String = rest.take_while(secret).collect();
            (value.len() >= length).then(|| format!("{what}{value}"))
        })
    };
    // A JSON Web Token, a SAS, and the prefixes of tokens and keys in headers and forms.
    let found = [
        // The claims of a conditional access challenge begin alike, but contain no dot.
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
