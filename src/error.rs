//! One error type for the whole crate, classified once by what the caller can do about it.
//!
//! Invariant: an error's text never contains a token, a key, a signature or a response body. Code
//! that builds an error from a response first reduces it to the response's own code and message.

use std::fmt;
use std::time::Duration;

/// Classification of an error by what the caller can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The caller's input is wrong; a retry cannot succeed.
    Invalid,
    /// The other side refuses a request, or its response cannot be used: a retry cannot succeed,
    /// and nothing indicates that the caller's input is wrong.
    BadAnswer,
    /// The named resource does not exist.
    NotFound,
    /// The named resource existed, and is no longer kept.
    Gone,
    /// The identity lacks a permission.
    Denied,
    /// No identity is signed in, or the identity will be refused whatever it requests.
    SignedOut,
    /// No credential could be obtained for one resource, or it was refused there.
    Unauthenticated,
    /// Another process is doing the same, or has done it already.
    Conflict,
    /// A retry may succeed.
    Transient,
    /// A quota is exhausted; retry after [`Error::retry_after`].
    Throttled,
    /// Stored bytes differ from what was written.
    Corrupt,
    /// A defect of azimg.
    Bug,
}

/// An error: its kind, the operation that failed and on what, and its cause.
pub struct Error {
    kind: ErrorKind,
    context: String,
    retry_after: Option<Duration>,
    attempts: u32,
    is_final: bool,
    target: Option<String>,
    answer: Option<Box<Answer>>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The crate's result type.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The answer of a service that refused a request.
#[derive(Debug, Clone)]
struct Answer {
    /// HTTP status.
    status: u16,
    /// The service's error codes, the outermost first.
    codes: Vec<String>,
}

impl Error {
    /// Creates an error of `kind`; `context` says what was being done, to what, and what went
    /// wrong.
    pub fn new(kind: ErrorKind, context: impl Into<String>) -> Self {
        Self {
            kind,
            context: context.into(),
            retry_after: None,
            attempts: 1,
            is_final: false,
            target: None,
            answer: None,
            source: None,
        }
    }

    /// An error of kind [`ErrorKind::Invalid`].
    pub fn invalid(context: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, context)
    }

    /// An error of kind [`ErrorKind::BadAnswer`].
    pub fn bad_answer(context: impl Into<String>) -> Self {
        Self::new(ErrorKind::BadAnswer, context)
    }

    /// An error of kind [`ErrorKind::NotFound`].
    pub fn not_found(context: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, context)
    }

    /// An error of kind [`ErrorKind::Transient`].
    pub fn transient(context: impl Into<String>) -> Self {
        Self::new(ErrorKind::Transient, context)
    }

    /// An error of kind [`ErrorKind::Corrupt`].
    pub fn corrupt(context: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, context)
    }

    /// An error of kind [`ErrorKind::Bug`].
    pub fn bug(context: impl Into<String>) -> Self {
        Self::new(ErrorKind::Bug, context)
    }

    /// Sets the cause of this error.
    #[must_use]
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Keeps the HTTP status and the error codes of a service's answer, so that no decision has to
    /// search the text.
    #[must_use]
    pub fn with_answer(mut self, status: u16, codes: Vec<String>) -> Self {
        self.answer = Some(Box::new(Answer { status, codes }));
        self
    }

    /// Sets the delay that the other side asked for.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }

    /// Sets the number of attempts made before giving up.
    #[must_use]
    pub fn with_attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// Marks an error for which an immediate retry is pointless: it was retried for as long as that
    /// is worth it.
    #[must_use]
    pub fn without_retry(mut self) -> Self {
        self.is_final = true;
        self
    }

    /// Sets the part of the input that is wrong: a parameter, or a member of a body.
    #[must_use]
    pub fn with_target(mut self, target: impl Into<String>) -> Self {
        self.target = Some(target.into());
        self
    }

    /// Replaces the kind.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// Prefixes the context with the operation that failed.
    #[must_use]
    pub fn context(mut self, outer: impl fmt::Display) -> Self {
        self.context = format!("{outer}: {}", self.context);
        self
    }

    /// A copy without the cause, for another caller that waited for the same result.
    #[must_use]
    pub fn again(&self) -> Self {
        Self {
            kind: self.kind,
            context: self.context.clone(),
            retry_after: self.retry_after,
            attempts: self.attempts,
            is_final: self.is_final,
            target: self.target.clone(),
            answer: self.answer.clone(),
            source: None,
        }
    }

    /// The HTTP status of the service's answer, if an answer is the cause.
    pub fn status(&self) -> Option<u16> {
        self.answer.as_ref().map(|answer| answer.status)
    }

    /// The error codes of the service's answer, the outermost first.
    pub fn codes(&self) -> impl Iterator<Item = &str> {
        self.answer.iter().flat_map(|answer| &answer.codes).map(String::as_str)
    }

    /// Whether `code` is one of the error codes of the service's answer.
    pub fn has_code(&self, code: &str) -> bool {
        self.codes().any(|own| own == code)
    }

    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The delay that the other side asked for, if any.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The part of the input that is wrong, if it has a name.
    pub fn target(&self) -> Option<&str> {
        self.target.as_deref()
    }

    /// Number of attempts made.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Whether a retry may succeed.
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, ErrorKind::Transient)
    }

    /// Whether a stored object cannot be read however many times it is tried: it is corrupt, or of
    /// another format version.
    #[must_use]
    pub fn is_unreadable(&self) -> bool {
        matches!(self.kind, ErrorKind::Corrupt | ErrorKind::Invalid)
    }

    /// The kind of the I/O error that caused this error, if there is one.
    pub fn io_kind(&self) -> Option<std::io::ErrorKind> {
        self.caused_by::<std::io::Error>().map(std::io::Error::kind)
    }

    /// The first cause of type `T`.
    pub fn caused_by<T: std::error::Error + 'static>(&self) -> Option<&T> {
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            cause = error.source();
        }
        None
    }

    /// Whether an immediate retry may be worthwhile.
    pub fn is_worth_repeating(&self) -> bool {
        self.is_transient() && !self.is_final
    }

    /// Converts an I/O error on `what`. For a full disk and a missing permission the text contains
    /// advice.
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
