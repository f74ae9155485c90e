//! The versions of the API that the simulated Resource Manager offers, by type of resource.
//!
//! Registries: Azure's own list of November 2024, from the output of a user's tool
//! (JulianHayward/Azure-MG-Sub-Governance-Reporting#266), and the stable folders of
//! azure-rest-api-specs since. All others: the stable folders of azure-rest-api-specs. A preview is
//! offered where recorded traffic has it.

/// Marketplace images, managed images and the other resources with versions of Compute.
const COMPUTE: &[&str] = &[
    "2015-06-15",
    "2016-03-30",
    "2017-03-30",
    "2017-12-01",
    "2018-04-01",
    "2018-06-01",
    "2018-10-01",
    "2019-03-01",
    "2019-07-01",
    "2019-12-01",
    "2020-06-01",
    "2020-12-01",
    "2021-03-01",
    "2021-04-01",
    "2021-07-01",
    "2021-11-01",
    "2022-03-01",
    "2022-08-01",
    "2022-11-01",
    "2023-03-01",
    "2023-07-01",
    "2023-09-01",
    "2024-03-01",
    "2024-07-01",
    "2024-11-01",
    "2025-04-01",
    "2026-04-01",
];

/// Galleries and what is below them, in other organisations too.
const GALLERIES: &[&str] = &[
    "2018-06-01",
    "2019-03-01",
    "2019-07-01",
    "2019-12-01",
    "2020-09-30",
    "2021-07-01",
    "2021-10-01",
    "2022-01-03",
    "2022-03-03",
    "2022-08-03",
    "2023-07-03",
    "2024-03-03",
    "2025-03-03",
    "2026-03-03",
];

/// Container registries.
const REGISTRIES: &[&str] = &[
    "2017-03-01",
    "2017-10-01",
    "2019-05-01",
    "2019-12-01-preview",
    "2020-11-01-preview",
    "2021-06-01-preview",
    "2021-08-01-preview",
    "2021-09-01",
    "2021-12-01-preview",
    "2022-02-01-preview",
    "2022-12-01",
    "2023-01-01-preview",
    "2023-06-01-preview",
    "2023-07-01",
    "2023-08-01-preview",
    "2023-11-01-preview",
    "2025-04-01",
    "2025-11-01",
];

/// Subscriptions and their locations.
const SUBSCRIPTIONS: &[&str] = &[
    "2014-04-01",
    "2015-01-01",
    "2015-11-01",
    "2016-06-01",
    "2018-06-01",
    "2019-03-01",
    "2019-06-01",
    "2019-11-01",
    "2020-01-01",
    "2021-01-01",
    "2022-12-01",
];

/// Queries of Resource Graph.
const RESOURCE_GRAPH: &[&str] = &["2019-04-01", "2021-03-01", "2022-10-01", "2024-04-01"];

/// The type of the resource at a path (in lower case, without the first slash), and the versions
/// that are offered for it; `None` for an unknown path.
pub(super) fn offered(path: &[&str]) -> Option<(&'static str, &'static [&'static str])> {
    let below = path.iter().rposition(|part| *part == "providers").map(|at| &path[at + 1..]);
    Some(match below {
        Some(["microsoft.containerregistry", "registries", ..]) => ("registries", REGISTRIES),
        Some(["microsoft.resourcegraph", ..]) => ("resources", RESOURCE_GRAPH),
        Some(["microsoft.compute", "galleries", ..]) => ("galleries", GALLERIES),
        Some(["microsoft.compute", "images", ..]) => ("images", COMPUTE),
        Some(["microsoft.compute", "locations", _, "publishers", ..]) => {
            ("locations/publishers", COMPUTE)
        }
        Some(["microsoft.compute", "locations", _, "sharedgalleries", ..]) => {
            ("locations/sharedGalleries", GALLERIES)
        }
        Some(["microsoft.compute", "locations", _, "communitygalleries", ..]) => {
            ("locations/communityGalleries", GALLERIES)
        }
        None if matches!(
            path,
            ["subscriptions"] | ["subscriptions", _] | ["subscriptions", _, "locations"]
        ) =>
        {
            ("subscriptions", SUBSCRIPTIONS)
        }
        _ => return None,
    })
}
