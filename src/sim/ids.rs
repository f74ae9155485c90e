//! The ids of the simulated tenant and of its subscriptions.

/// The first subscription that the simulated identity sees.
pub const SUBSCRIPTION: &str = "11111111-1111-4111-8111-111111111111";
/// The tenant of all subscriptions.
pub(super) const TENANT: &str = "22222222-2222-4222-8222-222222222222";

/// The id of subscription `n`, counted from 1.
pub(super) fn subscription_id(n: u8) -> String {
    format!("11111111-1111-4111-8111-1111111111{:02x}", n.wrapping_add(0x10))
}
