//! The order of versions, and which version is the latest.
//!
//! Azure lists versions in string order, where 8.9 comes after 8.10; both `az` and most tools take
//! that for the newest. Here versions are ordered number by number.

use std::cmp::Ordering;

/// Compares two version names number by number: `8.10 > 8.9`, for any count of components and
/// numbers beyond 64 bits. Text after a number orders after the bare number, a component without
/// a number after every number, and a missing component before every present one.
///
/// Text is compared without case, as Azure compares names. The order is total: names that are alike
/// in all that (`1.0`, `01.0`) fall back to string order.
pub fn compare(left: &str, right: &str) -> Ordering {
    let mut lefts = left.split('.');
    let mut rights = right.split('.');
    loop {
        match (lefts.next(), rights.next()) {
            (None, None) => return left.cmp(right),
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(l), Some(r)) => match order(component(l), component(r)) {
                Ordering::Equal => {}
                unequal => return unequal,
            },
        }
    }
}

fn order(left: Component<'_>, right: Component<'_>) -> Ordering {
    (left.0, left.1, left.2)
        .cmp(&(right.0, right.1, right.2))
        .then_with(|| super::marketplace::caseless(left.3, right.3))
}

type Component<'a> = (bool, usize, &'a str, &'a str);

/// (has no number, digits without leading zeros by length and then by value, the text behind them)
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
    fn orders_number_by_number() {
        // Real names of marketplace lists, each greater than the one before.
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
    fn names_that_are_numerically_alike_still_have_an_order() {
        assert_eq!(compare("01.0", "1.0"), Ordering::Less);
        assert_eq!(compare("1.0", "1.0"), Ordering::Equal);
    }
}
