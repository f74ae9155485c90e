//! Parses Resource Manager ids, in which type names and resource names alternate between slashes.

/// Returns the segment of an id that follows the type `name`, compared without case. Type names and
/// resource names alternate in an id, so a resource group called `images` does not match.
pub fn part<'a>(id: &'a str, name: &str) -> Option<&'a str> {
    let mut parts = id.split('/').skip_while(|part| part.is_empty());
    while let Some(found) = parts.next() {
        let value = parts.next()?;
        if found.eq_ignore_ascii_case(name) {
            return Some(value).filter(|value| !value.is_empty());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::part;

    #[test]
    fn part_is_the_segment_after_its_type() {
        let id = "/subscriptions/s/resourceGroups/images/providers/p/images/i";
        assert_eq!(part(id, "Images"), Some("i"));
        assert_eq!(part(&id[1..], "resourcegroups"), Some("images"));
        assert_eq!(part(id, "versions"), None);
        assert_eq!(part("/subscriptions//x/y", "subscriptions"), None);
        assert_eq!(part("", "subscriptions"), None);
    }
}
