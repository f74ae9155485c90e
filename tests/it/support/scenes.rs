//! A function app on a store, with messages that are lost and time that passes.

use super::Azure;
use super::azurite::Azurite;
use super::host::TestHost;
use super::stored::{assert_same, embedded, package, stored};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// An Azure, a storage account, and a folder with the packaged app.
pub struct Stage {
    pub azure: Azure,
    pub azurite: Azurite,
    pub folder: TempDir,
    pub runtime: Runtime,
}

impl Stage {
    pub fn new(azure: Azure) -> Self {
        let runtime = Runtime::new().unwrap();
        let stage = Self {
            azure,
            azurite: Azurite::start(),
            folder: tempfile::tempdir().unwrap(),
            runtime,
        };
        package(stage.folder.path());
        stage
    }

    /// An instance of the app.
    pub fn host(&self) -> TestHost {
        self.host_with(&[])
    }

    /// The same, with app settings of its own.
    pub fn host_with(&self, settings: &[(&str, &str)]) -> TestHost {
        let mut variables = self.azure.variables();
        variables.extend(settings.iter().map(|(name, value)| ((*name).into(), (*value).into())));
        TestHost::new(&self.folder.path().join("out/app"), &self.azurite.connection(), variables)
    }

    /// Fails unless the tables that lie in storage have the rows that the embedded host finds.
    pub fn assert_rows(&self) {
        let (stored, embedded) = (stored(&self.runtime, &self.azurite), embedded(&self.azure));
        let tables: Vec<_> =
            embedded.iter().filter(|(name, _)| name.ends_with(".parquet")).collect();
        assert_eq!(tables.len(), 3);
        for (name, rows) in tables {
            assert!(stored[name] == *rows, "{name} differs");
        }
    }

    /// Fails unless the run is closed and what lies in storage is what the embedded host makes, but for
    /// how often something was tried.
    pub fn assert_exact(&self) {
        let (stored, mut embedded) = (stored(&self.runtime, &self.azurite), embedded(&self.azure));
        embedded.insert("coverage.json".into(), stored["coverage.json"].clone());
        assert_same(&stored, &embedded);
    }
}

/// Whether every run that was begun is published.
pub async fn all_closed(host: &TestHost) -> bool {
    let (status, runs) = host.get("/api/runs").await;
    let Some(runs) = runs["value"].as_array().filter(|_| status == 200) else { return false };
    !runs.is_empty() && runs.iter().all(|run| run["state"] != "running")
}
