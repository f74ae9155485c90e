//! Knowledge from an earlier plan, used when the plan is computed again.

use super::state::ManifestState;

/// Knowledge from an earlier plan.
pub(super) struct Replan<'a> {
    /// Why further manifests stay, with all their tags.
    pub(super) hold: &'a dyn Fn(&ManifestState) -> Option<String>,
    /// Whether a manifest was in the earlier plan. One that was planned together with another has
    /// no other reason left once that one is deleted.
    pub(super) was_planned: &'a dyn Fn(&str) -> bool,
    /// Whether a manifest was counted with an index that the plan has deleted, and none of the
    /// indexes that it is now a part of is still counted. Then it is not an image of its own.
    pub(super) is_left_over: &'a dyn Fn(&str, &[&str]) -> bool,
}

impl Replan<'_> {
    /// No earlier plan.
    pub(super) const NOTHING: Self =
        Self { hold: &|_| None, was_planned: &|_| false, is_left_over: &|_, _| false };
}
