//! What the tests, benchmarks and fuzz targets use of the library, and nothing else: all modules are
//! private, so that the compiler finds code that nobody uses. Not an API for other programs.

/// Of `crate::catalog`.
pub mod catalog {
    pub use crate::catalog::{Catalog, Filter, LatestQuestion, list, region, unknown};
    /// Of `crate::catalog::aliases`.
    pub mod aliases {
        pub use crate::catalog::aliases::{ALIASES, document};
    }
    /// Of `crate::catalog::distinct`.
    pub mod distinct {
        pub use crate::catalog::distinct::{
            SkuCount, SkuGroups, SkuOrder, offers, publishers, skus,
        };
    }
    /// Of `crate::catalog::feed`.
    pub mod feed {
        pub use crate::catalog::feed::{ChangeFilter, Feeds, changes};
    }
    /// Of `crate::catalog::usage`.
    pub mod usage {
        pub use crate::catalog::usage::usage;
    }
}
/// Of `crate::client`.
pub mod client {
    pub use crate::client::{Client, RetryPolicy, Tokens, Wire, WireRequest, WireResponse};
    /// Of `crate::client::version`.
    pub mod version {
        pub use crate::client::version::{ALL, GALLERIES, MANAGED_IMAGES, REGISTRIES};
    }
}
/// Of `crate::config`.
pub mod config {
    pub use crate::config::{Config, Flags, GuardedSetting, HiddenValue, PlainSetting, SignIn};
}
/// Of `crate::error`.
pub mod error {
    pub use crate::error::{Error, ErrorKind, Result};
}
/// Of `crate::files`.
pub mod files {
    pub use crate::files::{
        Access, Folder, MadeFile, Staging, create_private, put_made, read_private,
    };
}
/// Of `crate::format`.
pub mod format {
    /// Of `crate::format::index`.
    pub mod index {
        pub use crate::format::index::{Index, IndexWriter, Level};
    }
    /// Of `crate::format::ledger`.
    pub mod ledger {
        pub use crate::format::ledger::Ledger;
    }
    /// Of `crate::format::ndjson`.
    pub mod ndjson {
        pub use crate::format::ndjson::Reader;
    }
    /// Of `crate::format::shard`.
    pub mod shard {
        pub use crate::format::shard::{decode, encode};
    }
}
/// Of `crate::functions`.
pub mod functions {
    pub use crate::functions::{
        App, Effects, Event, FUNCTIONS, Function, HostSettings, Message, PUBLISH, Progress, Reply,
        RunCache, Trigger, WORK, resume,
    };
}
/// Of `crate::gallery`.
pub mod gallery {
    pub use crate::gallery::{
        ChangeOutcome, ChangeStep, Changes, Galleries, Name, ProvisioningState, ShareWith,
        SharingChange, WaitLimits,
    };
    /// Of `crate::gallery::retire`.
    pub mod retire {
        pub use crate::gallery::retire::{
            Action, DefinitionState, Ledger, PartState, Plan, RetirePlan, Retired, Rules, plan,
        };
    }
}
/// Of `crate::handler`.
pub mod handler {
    pub use crate::handler::{Handler, MessageSender, Ready};
}
/// Of `crate::host`.
pub mod host {
    pub use crate::host::{Host, listen};
    /// Of `crate::host::callers`.
    pub mod callers {
        pub use crate::host::callers::Callers;
    }
}
/// Of `crate::image`.
pub mod image {
    pub use crate::image::{KINDS, Status, Urn, nanoseconds};
    /// Of `crate::image::gallery`.
    pub mod gallery {
        pub use crate::image::gallery::{GalleryImage, Kind, compare_ids, mark_latest};
    }
    /// Of `crate::image::machine`.
    pub mod machine {
        pub use crate::image::machine::{Machine, MachineImage, MachineKind};
    }
    /// Of `crate::image::marketplace`.
    pub mod marketplace {
        pub use crate::image::marketplace::{
            DetailsFrom, ListedVersion, MarketplaceImage, mark_latest,
        };
    }
    /// Of `crate::image::referrers`.
    pub mod referrers {
        pub use crate::image::referrers::tagged_subject;
    }
    /// Of `crate::image::version`.
    pub mod version {
        pub use crate::image::version::compare;
    }
}
/// Of `crate::pipeline`.
pub mod pipeline {
    pub use crate::pipeline::read_plan;
    /// Of `crate::pipeline::changes`.
    pub mod changes {
        pub use crate::pipeline::changes::{Change, ChangeRow};
    }
    /// Of `crate::pipeline::coverage`.
    pub mod coverage {
        pub use crate::pipeline::coverage::{Coverage, Totals};
    }
    /// Of `crate::pipeline::publish`.
    pub mod publish {
        pub use crate::pipeline::publish::{CloseAttempt, publish};
    }
    /// Of `crate::pipeline::retain`.
    pub mod retain {
        pub use crate::pipeline::retain::{RetentionPolicy, retain};
    }
    /// Of `crate::pipeline::snapshot`.
    pub mod snapshot {
        pub use crate::pipeline::snapshot::{
            Completeness, Current, Manifest, SCHEMA_VERSION, current, manifest, runs,
        };
    }
    /// Of `crate::pipeline::survey`.
    pub mod survey {
        pub use crate::pipeline::survey::survey;
    }
    /// Of `crate::pipeline::sweep`.
    pub mod sweep {
        pub use crate::pipeline::sweep::sweep;
    }
    /// Of `crate::pipeline::verify`.
    pub mod verify {
        pub use crate::pipeline::verify::{
            CheckProgress, SnapshotCondition, VerifiedSnapshot, verify,
        };
    }
}
/// Of `crate::purge`.
pub mod purge {
    pub use crate::purge::{
        Applied, DeletionLimit, ImageUsage, InUse, Kind, ListedRows, LiveRegistry, ManifestBackup,
        ManifestCheck, ManifestState, Plan, PurgePlan, PurgeTarget, RepositoryPlan,
        RepositoryState, RepositoryVersion, Rule, Rules, Span, TagState, apply, count_bytes, notes,
        plan,
    };
}
/// Of `crate::reference`.
pub mod reference {
    /// Of `crate::reference::snippets`.
    pub mod snippets {
        pub use crate::reference::snippets::{FORMS, Snippets, snippets};
    }
}
/// Of `crate::registry`.
pub mod registry {
    pub use crate::registry::{
        Attributes, Content, Descriptor, Login, Manifest, Name, Reference, Registry, Repository,
        Tag, Trust, TrustSource,
    };
}
/// Of `crate::scratch`.
pub mod scratch {
    pub use crate::scratch::Scratch;
}
#[cfg(feature = "sim")]
/// Of `crate::sim`.
pub mod sim {
    pub use crate::sim::{
        BlobsLimit, Conditions, FaultsSpec, Organisation, OrganisationSize, QuotaSpec, Running,
        SUBSCRIPTION, Scale, Sim, SimCredential, World, demo_world, generate,
    };
    /// Of `crate::sim::organisation`.
    pub mod organisation {
        pub use crate::sim::organisation::{
            OrganisationSize, SimDefinition, SimGallery, SimVersion,
        };
    }
    /// Of `crate::sim::registries`.
    pub mod registries {
        pub use crate::sim::registries::{
            SimAttributes, SimManifest, SimRegistry, SimRepository, SimTag, generate_registry,
        };
    }
    /// Of `crate::sim::tls`.
    pub mod tls {
        pub use crate::sim::tls::{serve, serve_as};
    }
}
/// Of `crate::sink`.
pub mod sink {
    pub use crate::sink::acts;
    /// Of `crate::sink::log`.
    pub mod log {
        pub use crate::sink::log::{JsonLine, TextLine};
    }
}
/// Of `crate::source`.
pub mod source {
    pub use crate::source::{
        Crawled, Invocation, LiveListing, NameFilter, PreviousFindings, Source,
    };
    /// Of `crate::source::gallery`.
    pub mod gallery {
        pub use crate::source::gallery::{Communities, Gallery};
        /// Of `crate::source::gallery::parse`.
        pub mod parse {
            pub use crate::source::gallery::parse::{
                Resource, definition, foreign_id, gallery_id, managed, own_gallery, replication,
                sharing, version,
            };
        }
    }
    /// Of `crate::source::locations`.
    pub mod locations {
        pub use crate::source::locations::short_name;
    }
    /// Of `crate::source::registry`.
    pub mod registry {
        pub use crate::source::registry::row;
    }
}
/// Of `crate::store`.
pub mod store {
    pub use crate::store::{Entry, Key, Object, SnapshotFile, Store, StoreClaim};
    /// Of `crate::store::azure`.
    pub mod azure {
        pub use crate::store::azure::AzureQueues;
    }
    /// Of `crate::store::local`.
    pub mod local {
        pub use crate::store::local::LocalStore;
    }
    /// Of `crate::store::memory`.
    pub mod memory {
        pub use crate::store::memory::MemoryStore;
    }
}
/// Of `crate::transfer`.
pub mod transfer {
    pub use crate::transfer::{ImageChoice, Package, PullTo, ReadAs, TransferProgress, safe_path};
}
/// Of `crate::web`.
pub mod web {
    pub use crate::web::{check_query, routes};
    /// Of `crate::web::openapi`.
    pub mod openapi {
        pub use crate::web::openapi::document;
    }
    /// Of `crate::web::token`.
    pub mod token {
        pub use crate::web::token::{LiveToken, Token};
    }
}
/// Of `crate::work`.
pub mod work {
    pub use crate::work::{
        AtRegistry, Details, GalleryScope, Outcome, OwnGallery, Plan, RegistryScope, Request,
        RunId, Scope, Sharing, SourceName, State, WORK_VERSION, WorkItem, group_of,
    };
}
