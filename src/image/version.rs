//! The order of versions, which decides which one is the latest.
//!
//! Azure lists versions in string order, where 8.9 follows 8.10; `az` and most other tools take the
//! last one for the newest. Here versions are ordered numerically.

use super::name::caseless;
use std::cmp::Ordering;

/// Compares two version names numerically: `8.10 > 8.9`, for any number of components and for
/// numbers beyond 64 bits. Text after a number sorts after the bare number, a component without a
/// number after every number, and a missing component before every present one.
///
/// Text is compared without case, as Azure compares names. The order is total: names that are equal
/// in all of that (`1.0`, `01.0`) are compared as strings.
pub fn compare(left: &str, right: &str) -> Ordering {
    compare_caseless(left, right).then_with(|| left.cmp(right))
}

/// Whether two names are numerically equal, without case: Azure takes `21.2.17` for `21.02.17`.
pub fn is_same(left: &str, right: &str) -> bool {
    left.split('.').count() == right.split('.').count()
        && left
            .split('.')
            .zip(right.split('.'))
            .all(|(l, r)| order(component(l), component(r)).is_eq())
}

/// Like [`compare`], but names that differ only in case are equal.
pub fn compare_caseless(left: &str, right: &str) -> Ordering {
    let mut lefts = left.split('.');
    let mut rights = right.split('.');
    loop {
        match (lefts.next(), rights.next()) {
            (None, None) => return caseless(left, right),
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(l), Some(r)) => match order(component(l), component(r)) {
                Ordering::Equal => {}
                unequal => return unequal,
            },
        }
    }
}

/// Natural order for names with numbers anywhere, such as `myapp-2017-11-20T080024`: text without
/// case, numbers by value.
pub fn natural(left: &str, right: &str) -> Ordering {
    let (mut lefts, mut rights) = (left, right);
    loop {
        let (l, r) = (component(lefts), component(rights));
        // Both or neither begin with a number, or at least one is exhausted.
        let numbers = (l.0, l.1, l.2).cmp(&(r.0, r.1, r.2));
        if lefts.is_empty() || rights.is_empty() || numbers.is_ne() {
            let ends = lefts.is_empty().cmp(&rights.is_empty()).reverse();
            return ends.then(numbers).then_with(|| caseless(left, right));
        }
        let text = |rest: &str| rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let ((l, l_rest), (r, r_rest)) = (l.3.split_at(text(l.3)), r.3.split_at(text(r.3)));
        match caseless(l, r) {
            Ordering::Equal => (lefts, rights) = (l_rest, r_rest),
            unequal => return unequal,
        }
    }
}

fn order(left: Component<'_>, right: Component<'_>) -> Ordering {
    (left.0, left.1, left.2)
        .cmp(&(right.0, right.1, right.2))
        .then_with(|| caseless(left.3, right.3))
}

type Component<'a> = (bool, usize, &'a str, &'a str);

/// Splits a component: whether it has no number, the number's digits without leading zeros
/// (compared by length, then by value), and the text after the number.
fn component(text: &str) -> Component<'_> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let digits_trimmed = digits.trim_start_matches('0');
    (digits.is_empty(), digits_trimmed.len(), digits_trimmed, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_numeric_components() {
        // Names from marketplace lists, in ascending order.
        let ascending = [
            "0.0.999",
            "0.0.1015",
            "8.9.2024022012",
            "8.10.2024070513",
            "18.04.202401161",
            "311.98.20190514",
            "311.146.20191004",
            "2019.0.20190410",
            "2019.08.26",
            "2019.030.06",
            "17763.2061.2107070810",
            "99999999999999999999998.1",
            "99999999999999999999999",
            "99999999999999999999999.0",
            "99999999999999999999999.0-beta",
            "99999999999999999999999.preview",
        ];
        for (i, left) in ascending.iter().enumerate() {
            for (j, right) in ascending.iter().enumerate() {
                assert_eq!(compare(left, right), i.cmp(&j), "{left} against {right}");
            }
        }
    }

    #[test]
    fn numerically_equal_versions_have_a_fixed_order() {
        assert_eq!(compare("01.0", "1.0"), Ordering::Less);
        assert_eq!(compare("1.0", "1.0"), Ordering::Equal);
        assert_eq!(compare("1-B.0", "1-b.0"), Ordering::Less);
        assert!(is_same("21.02.17", "21.2.17") && is_same("1-B.0", "1-b.0"));
        assert!(!is_same("1.0", "1.0.0") && !is_same("1.0", "1.1") && !is_same("1.0-a", "1.0"));
        assert_eq!(compare_caseless("1-B.0", "1-b.0"), Ordering::Equal);
    }

    #[test]
    fn numbers_are_compared_anywhere_in_a_name() {
        let ascending = [
            "app",
            "app-9",
            "app-10",
            "App-10a",
            "app-2017-11-17T013212",
            "app-2017-11-20T080024",
            "b",
        ];
        for (i, left) in ascending.iter().enumerate() {
            for (j, right) in ascending.iter().enumerate() {
                assert_eq!(natural(left, right), i.cmp(&j), "{left} against {right}");
            }
        }
        assert_eq!(natural("1a", "a1"), Ordering::Less);
    }

    /// Checks every triple of names that are equal except for case and zeros.
    #[test]
    fn both_orders_are_total() {
        let names = ["1-B.0", "1-b.0", "1-B.00", "1-b.00", "01-B.0", "1.0", "1.00", "B", "b", ""];
        for compare in [compare, compare_caseless] {
            for a in names {
                for b in names {
                    assert_eq!(compare(a, b), compare(b, a).reverse(), "{a} {b}");
                    for c in names {
                        let is_chain = compare(a, b).is_le() && compare(b, c).is_le();
                        assert!(!is_chain || compare(a, c).is_le(), "{a} {b} {c}");
                    }
                }
            }
        }
        let mut sorted = names;
        sorted.sort_by(|a, b| compare_caseless(a, b));
        let is_pair = |pair: &[&str]| pair[0].eq_ignore_ascii_case(pair[1]);
        assert_eq!(sorted.windows(2).filter(|pair| is_pair(pair)).count(), 3, "{sorted:?}");
    }
}
