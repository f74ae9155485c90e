//! One error type for the whole crate, classified once by what the caller can do about it.
//!
//! Invariant: an error's text never holds a token, a key, a signature or a response body. Whoever
//! builds an error from an outside answer cuts it down to the answer's own code and message first.

use std::fmt;
use std::time::Duration;

/// What the caller can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The caller's input is wrong; repeating cannot heal it.
    Invalid,
    /// The other side refuses what it was sent, or its answer cannot be used: repeating cannot heal it, and
    /// nothing says that the caller's input is wrong.
    BadAnswer,
    /// The thing that was named does not exist.
    NotFound,
    /// The thing that was named was there, and is no longer kept.
    Gone,
    /// The identity may not do it.
    Denied,
    /// Nobody is signed in, or whoever is will be refused whatever is asked for.
    SignedOut,
    /// A credential could not be had for one thing, or was refused there.
    Unauthenticated,
    /// Somebody else is doing it, or has done it already.
    Conflict,
    /// It may succeed when tried again.
    Transient,
    /// A quota is spent; come back after [`Error::retry_after`].
    Throttled,
    /// Stored bytes are not what was written.
    Corrupt,
    /// A fault of azimg's own.
    Bug,
}

/// An error: its kind, what was being done to what, and what caused it.
pub struct Error {
    kind: ErrorKind,
    context: String,
    retry_after: Option<Duration>,
    attempts: u32,
    in_vain: bool,
    target: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind`; `context` says what was being done, to what, and what went wrong.
    pub fn new(kind: ErrorKind, context: impl Into<String>) -> Self {
        Self {
            kind,
            context: context.into(),
            retry_after: None,
            attempts: 1,
            in_vain: false,
            target: None,
            source: None,
        }
    }

    /// Wrong input.
    pub fn invalid(context: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, context)
    }

    /// A refusal, or an answer, that nothing can be made of.
    pub fn bad_answer(context: impl Into<String>) -> Self {
        Self::new(ErrorKind::BadAnswer, context)
    }

    /// Something that is not there.
    pub fn not_found(context: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, context)
    }

    /// Something that may succeed when tried again.
    pub fn transient(context: impl Into<String>) -> Self {
        Self::new(ErrorKind::Transient, context)
    }

    /// Stored bytes that are not what was written.
    pub fn corrupt(context: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, context)
    }

    /// A fault of our own.
    pub fn bug(context: impl Into<String>) -> Self {
        Self::new(ErrorKind::Bug, context)
    }

    /// Keeps the error that caused this one.
    #[must_use]
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    /// How long the other side asked to be left alone.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }

    /// How often it was tried before giving up.
    #[must_use]
    pub fn with_attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// Repeating it soon is in vain: it was tried for as long as that is worth it.
    #[must_use]
    pub fn in_vain(mut self) -> Self {
        self.in_vain = true;
        self
    }

    /// Names the part of the input that is wrong: a parameter, or a member of a body.
    #[must_use]
    pub fn with_target(mut self, target: impl Into<String>) -> Self {
        self.target = Some(target.into());
        self
    }

    /// The same error, of another kind.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// Puts what was being done in front of what is known already.
    #[must_use]
    pub fn context(mut self, outer: impl fmt::Display) -> Self {
        self.context = format!("{outer}: {}", self.context);
        self
    }

    /// The same for somebody else who waited for it, without its cause.
    #[must_use]
    pub fn again(&self) -> Self {
        Self {
            kind: self.kind,
            context: self.context.clone(),
            retry_after: self.retry_after,
            attempts: self.attempts,
            in_vain: self.in_vain,
            target: self.target.clone(),
            source: None,
        }
    }

    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// How long the other side asked to be left alone, when it said so.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The part of the input that is wrong, when it has a name.
    pub fn target(&self) -> Option<&str> {
        self.target.as_deref()
    }

    /// How often it was tried.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Whether repeating the same thing may heal it.
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, ErrorKind::Transient)
    }

    /// Whether a stored object cannot be read however often it is tried: it is damaged, or of another version.
    #[must_use]
    pub fn is_unreadable(&self) -> bool {
        matches!(self.kind, ErrorKind::Corrupt | ErrorKind::Invalid)
    }

    /// What kind of I/O failure is at the bottom of this error, if one is.
    pub fn io_kind(&self) -> Option<std::io::ErrorKind> {
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            if let Some(io) = error.downcast_ref::<std::io::Error>() {
                return Some(io.kind());
            }
            cause = error.source();
        }
        None
    }

    /// Whether it may be worth repeating at once.
    pub fn is_worth_repeating(&self) -> bool {
        self.is_transient() && !self.in_vain
    }

    /// From an I/O failure on `what`. A full disk and a missing right get a word of advice.
    pub fn io(what: impl fmt::Display, error: std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        let (kind, advice) = match error.kind() {
            Io::NotFound => (ErrorKind::NotFound, ""),
            Io::PermissionDenied | Io::ReadOnlyFilesystem => {
                (ErrorKind::Denied, " (choose a folder that you can write with --store)")
            }
            Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge => {
                (ErrorKind::Denied, " (free some space)")
            }
            Io::InvalidData | Io::UnexpectedEof => (ErrorKind::Corrupt, ""),
            _ => (ErrorKind::Transient, ""),
        };
        Self::new(kind, format!("{what}: {error}{advice}")).with_source(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.context)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.context)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}
