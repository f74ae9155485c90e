//! What is known from a plan that was made before, when it is made again.

use super::state::ManifestState;

/// What is known from a plan that was made before.
pub(super) struct Replan<'a> {
    /// Why more manifests stay, with all their tags.
    pub(super) hold: &'a dyn Fn(&ManifestState) -> Option<String>,
    /// Whether a manifest was planned to go. One that went with another that is gone by now has no
    /// other reason to go.
    pub(super) was_planned: &'a dyn Fn(&str) -> bool,
    /// Whether a manifest was counted with an index that went by the plan, and none of the indexes that it is a part
    /// of now is counted any more: it is no image of its own.
    pub(super) is_left_over: &'a dyn Fn(&str, &[&str]) -> bool,
}

impl Replan<'_> {
    /// Nothing: the plan is the first.
    pub(super) const NOTHING: Self =
        Self { hold: &|_| None, was_planned: &|_| false, is_left_over: &|_, _| false };
}
