//! Well-known offers: publisher, offer, SKUs, and how their versions are named and published.

/// The form of a version's name.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    /// A release, the day and the number of the build: `24.04.202610200`.
    Build(&'static str),
    /// A release, the day and the hour: `9.6.2026102013`.
    Hour(&'static str),
    /// The day, and a number that grows daily: `0.20261020.2637`.
    Debian,
    /// The day: `2026.10.20`.
    Day,
    /// A kernel, a number of an update and the day: `26100.4900.261020`.
    Windows(u32),
    /// Three numbers of which the second grows with releases and the third with repairs: `7.6.3`.
    Product(u32),
}

/// How often versions come, in days, and how many are kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rhythm {
    pub(super) every: i64,
    pub(super) kept: i64,
    /// Days since the newest version, for an offer that gets no more.
    pub(super) silent: i64,
}

/// The lists keep builds of four months (recorded lists of daily offers).
pub(super) const DAILY: Rhythm = Rhythm { every: 1, kept: 90, silent: 0 };
const FORTNIGHTLY: Rhythm = Rhythm { every: 14, kept: 24, silent: 3 };
const MONTHLY: Rhythm = Rhythm { every: 30, kept: 12, silent: 12 };
pub(super) const QUARTERLY: Rhythm = Rhythm { every: 84, kept: 6, silent: 20 };
const ENDED: Rhythm = Rhythm { every: 45, kept: 8, silent: 400 };

/// An offer.
#[derive(Debug, Clone, Copy)]
pub(super) struct KnownOffer {
    pub(super) publisher: &'static str,
    pub(super) offer: &'static str,
    pub(super) skus: &'static [&'static str],
    pub(super) form: Form,
    pub(super) rhythm: Rhythm,
    pub(super) is_windows: bool,
    /// Whether machines need a purchase plan.
    pub(super) has_plan: bool,
    /// Days until all versions are deprecated, and what replaces them.
    pub(super) ends: Option<(i64, &'static str)>,
}

pub(super) const fn linux(
    publisher: &'static str,
    offer: &'static str,
    skus: &'static [&'static str],
    form: Form,
    rhythm: Rhythm,
) -> KnownOffer {
    KnownOffer {
        publisher,
        offer,
        skus,
        form,
        rhythm,
        is_windows: false,
        has_plan: false,
        ends: None,
    }
}

pub(super) const fn windows(
    publisher: &'static str,
    offer: &'static str,
    skus: &'static [&'static str],
    form: Form,
) -> KnownOffer {
    KnownOffer { is_windows: true, ..linux(publisher, offer, skus, form, MONTHLY) }
}

/// An appliance or another paid product.
pub(super) const fn paid(
    publisher: &'static str,
    offer: &'static str,
    skus: &'static [&'static str],
    form: Form,
) -> KnownOffer {
    KnownOffer { has_plan: true, ..linux(publisher, offer, skus, form, QUARTERLY) }
}

pub(super) const fn ending(offer: KnownOffer, days: i64, alternative: &'static str) -> KnownOffer {
    KnownOffer { ends: Some((days, alternative)), rhythm: ENDED, ..offer }
}

use Form::{Build, Day, Debian, Hour, Product};

/// Distributions of Linux.
pub(super) const SYSTEMS: &[KnownOffer] = &[
    linux(
        "Canonical",
        "ubuntu-24_04-lts",
        &[
            "cvm",
            "minimal",
            "minimal-arm64",
            "server",
            "server-arm64",
            "server-gen1",
            "ubuntu-pro",
            "ubuntu-pro-arm64",
            "ubuntu-pro-gen1",
        ],
        Build("24.04"),
        FORTNIGHTLY,
    ),
    linux(
        "Canonical",
        "ubuntu-24_04-lts-daily",
        &["server", "server-arm64", "server-gen1"],
        Build("24.04"),
        DAILY,
    ),
    linux(
        "Canonical",
        "ubuntu-26_04-lts",
        &["minimal", "server", "server-arm64"],
        Build("26.04"),
        FORTNIGHTLY,
    ),
    linux(
        "Canonical",
        "ubuntu-26_04-lts-daily",
        &["server", "server-arm64"],
        Build("26.04"),
        DAILY,
    ),
    linux(
        "Canonical",
        "0001-com-ubuntu-server-jammy",
        &["22_04-lts", "22_04-lts-arm64", "22_04-lts-gen2"],
        Build("22.04"),
        FORTNIGHTLY,
    ),
    linux(
        "Canonical",
        "0001-com-ubuntu-server-jammy-daily",
        &["22_04-daily-lts", "22_04-daily-lts-arm64", "22_04-daily-lts-gen2"],
        Build("22.04"),
        DAILY,
    ),
    linux(
        "Canonical",
        "0001-com-ubuntu-minimal-jammy",
        &["minimal-22_04-lts", "minimal-22_04-lts-arm64", "minimal-22_04-lts-gen2"],
        Build("22.04"),
        FORTNIGHTLY,
    ),
    linux(
        "Canonical",
        "0001-com-ubuntu-confidential-vm-jammy",
        &["22_04-lts-cvm"],
        Build("22.04"),
        MONTHLY,
    ),
    linux(
        "Canonical",
        "0001-com-ubuntu-pro-jammy",
        &["pro-22_04-lts", "pro-22_04-lts-arm64", "pro-22_04-lts-gen2"],
        Build("22.04"),
        FORTNIGHTLY,
    ),
    ending(
        linux(
            "Canonical",
            "0001-com-ubuntu-server-focal",
            &["20_04-lts", "20_04-lts-arm64", "20_04-lts-gen2"],
            Build("20.04"),
            FORTNIGHTLY,
        ),
        64,
        "Offer:ubuntu-24_04-lts",
    ),
    ending(
        linux(
            "Canonical",
            "UbuntuServer",
            &["16.04-LTS", "16_04-lts-gen2", "18.04-LTS", "18_04-lts-arm64", "18_04-lts-gen2"],
            Build("18.04"),
            FORTNIGHTLY,
        ),
        31,
        "Offer:ubuntu-24_04-lts",
    ),
    linux(
        "Debian",
        "debian-11",
        &["11", "11-backports", "11-backports-arm64", "11-backports-gen2", "11-gen2"],
        Debian,
        MONTHLY,
    ),
    linux("Debian", "debian-12", &["12", "12-arm64", "12-gen2"], Debian, FORTNIGHTLY),
    linux(
        "Debian",
        "debian-12-daily",
        &["12", "12-arm64", "12-backports", "12-backports-arm64", "12-backports-gen2", "12-gen2"],
        Debian,
        DAILY,
    ),
    linux("Debian", "debian-13", &["13", "13-arm64", "13-gen2"], Debian, FORTNIGHTLY),
    linux("Debian", "debian-13-daily", &["13", "13-arm64", "13-gen2"], Debian, DAILY),
    linux("Debian", "debian-sid-daily", &["sid", "sid-arm64", "sid-gen2"], Debian, DAILY),
    ending(
        linux(
            "Debian",
            "debian-10",
            &["10", "10-backports", "10-backports-gen2", "10-cloudinit", "10-gen2"],
            Debian,
            MONTHLY,
        ),
        12,
        "Offer:debian-13",
    ),
    linux(
        "RedHat",
        "RHEL",
        &[
            "8-lvm",
            "8-lvm-gen2",
            "810-gen2",
            "9-lvm",
            "9-lvm-gen2",
            "9-raw",
            "96-gen2",
            "10-lvm-gen2",
            "10-raw",
        ],
        Hour("9.6"),
        MONTHLY,
    ),
    linux("RedHat", "rhel-arm64", &["9_6-arm64", "10_0-arm64"], Hour("9.6"), MONTHLY),
    linux("RedHat", "RHEL-SAP-HA", &["88sapha-gen2", "94sapha-gen2"], Hour("9.4"), QUARTERLY),
    linux(
        "RedHat",
        "rhel-byos",
        &["rhel-lvm8-gen2", "rhel-lvm9-gen2", "rhel-lvm10-gen2"],
        Hour("9.6"),
        MONTHLY,
    ),
    ending(
        linux("RedHat", "rhel-raw", &["7-raw", "7-raw-gen2"], Hour("7.9"), MONTHLY),
        155,
        "Offer:RHEL",
    ),
    linux("SUSE", "sles-15-sp6", &["gen1", "gen2"], Day, MONTHLY),
    linux("SUSE", "sles-15-sp6-arm64", &["gen2"], Day, MONTHLY),
    linux("SUSE", "sles-15-sp6-byos", &["gen1", "gen2"], Day, MONTHLY),
    linux("SUSE", "sles-16-0-x86-64", &["gen2"], Day, MONTHLY),
    linux("SUSE", "sles-sap-15-sp6", &["gen1", "gen2"], Day, MONTHLY),
    linux("SUSE", "openSUSE-leap-15-6", &["gen1", "gen2"], Day, QUARTERLY),
    ending(linux("SUSE", "sles-15-sp3", &["gen1", "gen2"], Day, MONTHLY), 92, "Offer:sles-15-sp6"),
    ending(
        linux("SUSE", "openSUSE-leap-15-4", &["gen1", "gen2"], Day, MONTHLY),
        18,
        "Offer:openSUSE-leap-15-6",
    ),
    linux(
        "almalinux",
        "almalinux-x86_64",
        &["8-gen1", "8-gen2", "9-gen1", "9-gen2", "10-gen2"],
        Hour("9.6"),
        QUARTERLY,
    ),
    linux("almalinux", "almalinux-arm", &["9-arm-gen2", "10-arm-gen2"], Hour("9.6"), QUARTERLY),
    paid(
        "resf",
        "rockylinux-x86_64",
        &["8-base", "8-lvm", "9-base", "9-lvm", "10-base"],
        Hour("9.6"),
    ),
    paid("resf", "rockylinux-aarch64", &["9-base-arm64", "10-base-arm64"], Hour("9.6")),
    linux(
        "Oracle",
        "Oracle-Linux",
        &["ol810-lvm-gen2", "ol95-lvm", "ol95-lvm-gen2", "ol96-lvm-gen2"],
        Product(9),
        QUARTERLY,
    ),
    ending(
        linux(
            "OpenLogic",
            "CentOS",
            &["7_9", "7_9-arm64", "7_9-gen2", "8_5", "8_5-gen2"],
            Hour("7.9"),
            MONTHLY,
        ),
        9,
        "Offer:almalinux-x86_64",
    ),
    paid(
        "kinvolk",
        "flatcar-container-linux-free",
        &["alpha-gen2", "beta-gen2", "lts2024-gen2", "stable", "stable-gen2"],
        Product(4230),
    ),
    linux("microsoftazurelinux", "azurelinux-4", &["4", "4-arm64", "4-gen1"], Build("4"), MONTHLY),
    linux(
        "MicrosoftCBLMariner",
        "azure-linux-3",
        &["azure-linux-3", "azure-linux-3-arm64", "azure-linux-3-gen2"],
        Build("3"),
        MONTHLY,
    ),
    linux("microsoft-dsvm", "ubuntu-hpc", &["2204", "2404", "2404-arm64"], Product(22), MONTHLY),
    linux("microsoft-dsvm", "ubuntu-2204", &["2204-gen2"], Product(26), MONTHLY),
];
