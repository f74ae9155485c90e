//! What the embedded host and the function app make of the same faults.

use crate::support::azurite::Azurite;
use crate::support::faulty::{Fault, Faulty, How};
use crate::support::host::TestHost;
use crate::support::scenes::all_closed;
use crate::support::stored::{assert_same, faceless, package, stored};
use crate::support::{Azure, finish};
use crate::tests;
use azimg::testing::sim::{Scale, generate};
use std::collections::BTreeMap;
use std::path::Path;
use tokio::runtime::Runtime;

tests![
    both_hosts_agree_on_what_became_of_every_scope needs [Azurite] slow "six runs",
];

/// The snapshot that `azimg crawl` makes of an Azure with faults.
fn embedded_under(faulty: &Faulty) -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let (code, _, stderr) =
        finish(&mut faulty.azimg(&["crawl", "--store", folder.path().to_str().unwrap()]));
    assert!(code == 0 || code == 3, "{stderr}");
    faceless(folder.path())
}

/// The same behind the Functions host.
fn functions_under(faulty: &Faulty, app: &Path) -> BTreeMap<String, String> {
    let azurite = Azurite::start();
    let mut settings = faulty.azure.variables();
    settings.insert("AZIMG_ARM_ENDPOINT".into(), faulty.address.clone());
    let host = TestHost::new(app, &azurite.connection(), settings);
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        host.start().await;
        host.fire("plan").await;
        host.serve_until(async || all_closed(&host).await).await;
    });
    stored(&runtime, &azurite)
}

fn both_hosts_agree_on_what_became_of_every_scope() {
    const DENIED: &str = "{\"error\":{\"code\":\"AuthorizationFailed\",\"message\":\"no\"}}";
    const GONE: &str = "{\"error\":{\"code\":\"NotFound\",\"message\":\"gone\"}}";
    let folder = tempfile::tempdir().unwrap();
    let app = package(folder.path());
    let all: [fn() -> Vec<Fault>; 3] = [
        Vec::new,
        || {
            vec![
                Fault::new("/publishers/debian/", usize::MAX, How::Answer(403, &[], DENIED)),
                Fault::new(
                    "/offers/rhel/",
                    usize::MAX,
                    How::Answer(400, &[], "{\"Message\":\"no\"}"),
                ),
                Fault::new("/publishers/suse/", usize::MAX, How::Answer(404, &[], GONE)),
            ]
        },
        || {
            vec![Fault::new(
                "/locations/westus2/publishers?",
                usize::MAX,
                How::Answer(403, &[], DENIED),
            )]
        },
    ];
    for (number, faults) in all.into_iter().enumerate() {
        let faulty = Faulty::start(Azure::start(generate(Scale::Small, 211)), faults());
        let embedded = embedded_under(&faulty);
        assert_same(&functions_under(&faulty, &app), &embedded);
        assert_eq!(embedded["manifest.json"].contains("\"partial\""), number > 0);
    }
}
