//! What a deployment of a virtual machine states of its image.

use super::quote::shell;
use super::tree::{Node, object, text};
use crate::image::gallery::{GalleryImage, Kind};
use crate::image::marketplace::{DetailsFrom, MarketplaceImage};
use crate::image::{Status, Urn};
use time::OffsetDateTime;

/// What names an image in a deployment.
#[derive(Debug, Clone)]
pub(super) enum Reference {
    /// A marketplace image.
    Urn(Urn),
    /// An image of a gallery, or a managed image: its Resource Manager id.
    Resource(String),
    /// An image of a gallery that others share directly.
    Shared(String),
    /// An image of a gallery that is published to everyone.
    Community(String),
}

/// A purchase plan.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) publisher: String,
    pub(super) product: String,
    pub(super) name: String,
}

/// A virtual machine that is made from an image.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools, reason = "independent properties of an image")]
pub(super) struct Machine {
    pub(super) reference: Reference,
    pub(super) plan: Option<Plan>,
    pub(super) is_windows: bool,
    pub(super) is_arm: bool,
    /// Whether the image contains the accounts of the machine that it was made from, so that
    /// deployments set none.
    pub(super) is_specialized: bool,
    /// Whether the image is a managed image, which has no versions.
    pub(super) is_managed: bool,
    /// What to know before the code is used.
    pub(super) notes: Vec<String>,
}

/// The members that a row has of a plan. Azure needs all three.
fn plan(members: [Option<&String>; 3]) -> Option<Plan> {
    let [Some(publisher), Some(product), Some(name)] = members.map(Option::<&String>::cloned)
    else {
        return None;
    };
    Some(Plan { publisher, product, name })
}

/// What the catalog does not know, and what the code has in its place.
fn unknown(
    members: [Option<&String>; 3],
    os: Option<&String>,
    architecture: Option<&String>,
) -> Vec<String> {
    let count = members.iter().flatten().count();
    let notes = [
        (
            (1..3).contains(&count),
            "A part of the image's purchase plan is not known, so the code has none.",
        ),
        (os.is_none(), "The operating system is not known: the code is for Linux."),
        (architecture.is_none(), "The architecture is not known: the machine size is one of x64."),
    ];
    notes.into_iter().filter(|(is_so, _)| *is_so).map(|(_, note)| note.to_owned()).collect()
}

/// Why a deployment of a marketplace image fails, or when it will.
fn about_deprecation(status: Option<Status>, ends_at: Option<OffsetDateTime>) -> Option<String> {
    let day = ends_at.map(OffsetDateTime::date);
    Some(match (status, day) {
        (None, _) => {
            "Whether the image can be deployed is not known: Azure returned a status that \
                      azimg does not know."
                .to_owned()
        }
        (Some(Status::Gone), _) => "The image is no longer listed: deployments fail.".to_owned(),
        (Some(Status::Deprecated), Some(day)) => {
            format!("The image was deprecated on {day}: new deployments fail.")
        }
        (Some(Status::Deprecated), None) => {
            "The image is deprecated: new deployments fail.".to_owned()
        }
        (_, Some(day)) => format!("The image can be deployed until {day}."),
        (_, None) => return None,
    })
}

/// The end of life that an owner declared. Azure deploys the image all the same.
fn about_end_of_life(ends_at: Option<OffsetDateTime>) -> Option<String> {
    let day = ends_at?.date();
    Some(format!(
        "Its owner declared the end of life of the image for {day}; Azure deploys it all the same."
    ))
}

/// Whether the last run confirmed the image.
fn about_age(stale: bool, observed_at: OffsetDateTime) -> Option<String> {
    let day = observed_at.date();
    stale.then(|| format!("The last run could not list the image everywhere: it is as of {day}."))
}

impl Machine {
    pub(super) fn of_marketplace(image: &MarketplaceImage) -> Self {
        let members = [&image.plan_publisher, &image.plan_product, &image.plan_name];
        let members = members.map(Option::as_ref);
        let plan = plan(members);
        let mut notes =
            Vec::from_iter(about_deprecation(image.status, image.scheduled_deprecation_at));
        notes.extend(about_age(image.stale, image.observed_at));
        if !image.is_detailed() {
            let text = "Whether the image has a purchase plan is not known. A crawl with --details \
                        latest finds out.";
            notes.push(text.to_owned());
        } else if image.details_from == Some(DetailsFrom::Sku) {
            let text = "The purchase plan and the operating system are those of another version of \
                        the SKU.";
            notes.push(text.to_owned());
        }
        notes.extend(unknown(members, image.os.as_ref(), image.architecture.as_ref()));
        if plan.is_some() {
            let command = format!("az vm image terms accept --urn {}", shell(&image.id));
            notes.push(terms(&command));
        }
        Self::new(Reference::Urn(image.urn()), plan, image.os.as_ref(), image.architecture.as_ref())
            .with_notes(notes)
    }

    pub(super) fn of_gallery(image: &GalleryImage) -> Self {
        let members = [&image.plan_publisher, &image.plan_product, &image.plan_name];
        let members = members.map(Option::as_ref);
        let plan = plan(members);
        let mut notes = Vec::from_iter(about_end_of_life(image.end_of_life_at));
        notes.extend(about_age(image.stale, image.observed_at));
        if image.kind == Kind::GalleryDefinition {
            notes.push("The id has no version, so Azure deploys the latest one.".to_owned());
        }
        notes.extend(unknown(members, image.os.as_ref(), image.architecture.as_ref()));
        if let Some(Plan { publisher, product, name }) = &plan {
            let [publisher, product, name] = [publisher, product, name].map(|text| shell(text));
            let command = format!(
                "az vm image terms accept --publisher {publisher} --offer {product} --plan {name}"
            );
            notes.push(terms(&command));
        }
        let id = image.id.clone();
        let begins =
            |with: &str| id.get(..with.len()).is_some_and(|id| id.eq_ignore_ascii_case(with));
        let reference = if begins("/CommunityGalleries/") {
            Reference::Community(id)
        } else if begins("/SharedGalleries/") {
            Reference::Shared(id)
        } else {
            Reference::Resource(id)
        };
        let machine = Self::new(reference, plan, image.os.as_ref(), image.architecture.as_ref());
        let is_specialized =
            image.os_state.as_ref().is_some_and(|state| state.eq_ignore_ascii_case("Specialized"));
        let is_managed = image.kind == Kind::ManagedImage;
        Self { is_specialized, is_managed, ..machine }.with_notes(notes)
    }

    fn new(
        reference: Reference,
        plan: Option<Plan>,
        os: Option<&String>,
        architecture: Option<&String>,
    ) -> Self {
        let is = |value: Option<&String>, name| {
            value.is_some_and(|value| value.eq_ignore_ascii_case(name))
        };
        let (is_windows, is_arm) = (is(os, "Windows"), is(architecture, "Arm64"));
        Self {
            reference,
            plan,
            is_windows,
            is_arm,
            is_specialized: false,
            is_managed: false,
            notes: Vec::new(),
        }
    }

    fn with_notes(mut self, notes: Vec<String>) -> Self {
        self.notes = notes;
        if self.is_arm {
            self.notes.push("The machine size must have an Arm64 processor.".to_owned());
        }
        if self.is_specialized {
            self.notes.push(
                "The image is specialized: machines keep the accounts of the one it was made from."
                    .to_owned(),
            );
        }
        self
    }

    /// A size that can run the image.
    pub(super) fn size(&self) -> &'static str {
        if self.is_arm { "Standard_D2ps_v5" } else { "Standard_D2s_v5" }
    }

    /// `Linux` or `Windows`.
    pub(super) fn os(&self) -> &'static str {
        if self.is_windows { "Windows" } else { "Linux" }
    }

    /// The text that names the image for tools that take one text: a URN or an id.
    pub(super) fn one_text(&self) -> String {
        match &self.reference {
            Reference::Urn(urn) => urn.to_string(),
            Reference::Resource(id) | Reference::Shared(id) | Reference::Community(id) => {
                id.clone()
            }
        }
    }

    /// The image as `imageReference` of Resource Manager.
    pub(super) fn image_reference(&self) -> Node {
        match &self.reference {
            Reference::Urn(urn) => urn_node(urn),
            Reference::Resource(id) => object([text("id", id)]),
            Reference::Shared(id) => object([text("sharedGalleryImageId", id)]),
            Reference::Community(id) => object([text("communityGalleryImageId", id)]),
        }
    }

    /// The purchase plan as Resource Manager has it.
    pub(super) fn plan(&self) -> Option<Node> {
        let Plan { publisher, product, name } = self.plan.as_ref()?;
        Some(object([text("name", name), text("product", product), text("publisher", publisher)]))
    }
}

fn terms(command: &str) -> String {
    format!("The image has a purchase plan. Accept its terms once in each subscription: {command}")
}

/// The parts of a URN.
pub(super) fn urn_node(urn: &Urn) -> Node {
    object([
        text("publisher", &urn.publisher),
        text("offer", &urn.offer),
        text("sku", &urn.sku),
        text("version", &urn.version),
    ])
}
