//! The names of Azure's regions for people, and their geographies.
//!
//! The answers from which a snapshot is made have neither
//! (learn.microsoft.com/azure/reliability/regions-list).

use crate::image::name::short_name;
use std::collections::HashMap;
use std::sync::LazyLock;

/// A region of Azure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// The name for people, such as `West Europe`.
    pub display_name: &'static str,
    /// The geography that Azure groups the region in, such as `Europe`.
    pub geography: &'static str,
}

/// The regions by geography.
const REGIONS: &[(&str, &[&str])] = &[
    (
        "US",
        &[
            "East US",
            "East US 2",
            "East US 3",
            "Central US",
            "North Central US",
            "South Central US",
            "West Central US",
            "West US",
            "West US 2",
            "West US 3",
            "Southeast US",
            "USGov Arizona",
            "USGov Texas",
            "USGov Virginia",
            "USDoD Central",
            "USDoD East",
        ],
    ),
    ("Canada", &["Canada Central", "Canada East"]),
    ("Mexico", &["Mexico Central"]),
    ("South America", &["Brazil South", "Brazil Southeast", "Chile Central"]),
    (
        "Europe",
        &[
            "Austria East",
            "Belgium Central",
            "Denmark East",
            "Finland Central",
            "France Central",
            "France South",
            "Germany North",
            "Germany West Central",
            "Greece Central",
            "Italy North",
            "North Europe",
            "Norway East",
            "Norway West",
            "Poland Central",
            "Spain Central",
            "Sweden Central",
            "Sweden South",
            "Switzerland North",
            "Switzerland West",
            "UK South",
            "UK West",
            "West Europe",
        ],
    ),
    (
        "Middle East",
        &[
            "Israel Central",
            "Israel Northwest",
            "Qatar Central",
            "Saudi Arabia East",
            "UAE Central",
            "UAE North",
        ],
    ),
    ("Africa", &["South Africa North", "South Africa West"]),
    (
        "Asia Pacific",
        &[
            "Australia Central",
            "Australia Central 2",
            "Australia East",
            "Australia Southeast",
            "Central India",
            "China East",
            "China East 2",
            "China East 3",
            "China North",
            "China North 2",
            "China North 3",
            "East Asia",
            "India South Central",
            "Indonesia Central",
            "Japan East",
            "Japan West",
            "Jio India Central",
            "Jio India West",
            "Korea Central",
            "Korea South",
            "Malaysia South",
            "Malaysia West",
            "New Zealand North",
            "South India",
            "Southeast Asia",
            "Taiwan North",
            "Taiwan Northwest",
            "West India",
        ],
    ),
];

/// Returns the region with this short name, if it is known.
pub fn region(short: &str) -> Option<Region> {
    static BY_NAME: LazyLock<HashMap<String, Region>> = LazyLock::new(|| {
        let all = REGIONS.iter().flat_map(|(geography, names)| {
            names.iter().map(move |display_name| Region { display_name, geography })
        });
        all.map(|region| (short_name(region.display_name), region)).collect()
    });
    BY_NAME.get(short).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn region_is_found_by_its_short_name() {
        let found = region("westeurope").map(|region| (region.display_name, region.geography));
        assert_eq!(found, Some(("West Europe", "Europe")));
        assert_eq!(region("eastus2").map(|region| region.display_name), Some("East US 2"));
        assert_eq!(region("moon"), None);
    }
}
