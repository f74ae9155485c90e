//! Ids of Azure's resources, taken apart: names of types and names of resources take turns between the slashes.

/// The part of an id behind `name`, without case. Names and what is behind them take turns in an id, so that a
/// resource group called `images` is none.
pub fn part<'a>(id: &'a str, name: &str) -> Option<&'a str> {
    let mut parts = id.split('/').skip_while(|part| part.is_empty());
    while let Some(found) = parts.next() {
        let behind = parts.next()?;
        if found.eq_ignore_ascii_case(name) {
            return Some(behind).filter(|behind| !behind.is_empty());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::part;

    #[test]
    fn a_part_is_what_stands_behind_the_name_of_its_type() {
        let id = "/subscriptions/s/resourceGroups/images/providers/p/images/i";
        assert_eq!(part(id, "Images"), Some("i"));
        assert_eq!(part(&id[1..], "resourcegroups"), Some("images"));
        assert_eq!(part(id, "versions"), None);
        assert_eq!(part("/subscriptions//x/y", "subscriptions"), None);
        assert_eq!(part("", "subscriptions"), None);
    }
}
